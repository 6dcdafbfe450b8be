//! A few plain threads for callbacks: started when there is work, ended when there is none for a while.
//!
//! Bound: each job is a callback that was counted at its registration, or a value of a task that admission
//! counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::threads::Threads;
use crate::limits::CALLBACK_THREAD_IDLE_MS;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The pool. Dropping it ends the idle threads; what was queued still runs.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    threads_max: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_closed: bool,
    started: u64,
}

impl Pool {
    pub(super) fn new(threads_max: usize, threads: Arc<Threads>) -> Self {
        Self { shared: Arc::default(), threads, threads_max }
    }

    pub(super) fn run(&self, job: Job) {
        let mut state = self.shared.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.shared.wake.notify_one();
        } else if state.threads < self.threads_max {
            state.threads += 1;
            state.started += 1;
            let name = format!("cb-callback-{}", state.started);
            drop(state);
            self.start(name);
        }
    }

    fn start(&self, name: String) {
        let shared = self.shared.clone();
        if let Err(error) = self.threads.spawn(name, move || shared.work()) {
            // The other threads take the job; if there is none, the next callback tries again.
            self.shared.state.lock().threads -= 1;
            tracing::error!(%error, "no thread for callbacks");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    /// Returns the next job; `None` when there was none for a while.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            let idle = Duration::from_millis(CALLBACK_THREAD_IDLE_MS);
            state.idle += 1;
            let is_over = state.is_closed || self.wake.wait_for(&mut state, idle).timed_out();
            state.idle -= 1;
            if is_over && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}
