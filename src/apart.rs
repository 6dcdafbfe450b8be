//! Where code of the user's runs that no cluster can run: a few plain threads of the whole process, started when
//! there is work and ended when there is none.
//!
//! Results of promises belong to no cluster, and call back here. And an arbiter that ends without a word leaves calls, values and callbacks behind. Their code may block, and may
//! hold the very cluster that ends: on the arbiter it would wait for itself.
//!
//! Bound: each job is the rest of a task that admission counted, or a callback that was counted.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::task::LocalSet;

use crate::catch;

/// Most threads at once: more than one, so that a callback that blocks does not hold up the others.
const THREADS_MAX: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

static STATE: Mutex<State> = Mutex::new(State { jobs: VecDeque::new(), threads: 0 });

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
}

/// Has `job` run soon, on a thread where it may block and panic.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    let mut state = STATE.lock();
    state.jobs.push_back(Box::new(job));
    if state.threads == THREADS_MAX {
        return;
    }
    state.threads += 1;
    drop(state);
    if let Err(error) = std::thread::Builder::new().name("cb-apart".into()).spawn(work) {
        // Whoever comes next tries again.
        STATE.lock().threads -= 1;
        tracing::error!(%error, "no thread for what a cluster that ended left behind");
    }
}

/// Has values dropped there, each by itself: a second panic while one unwinds would end the process.
pub(crate) fn discard<T: Send + 'static>(values: impl IntoIterator<Item = T>) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    let values: Vec<T> = values.into_iter().collect();
    if !values.is_empty() {
        run(move || values.into_iter().for_each(catch::discard));
    }
}

/// Runs `send`, which sends a message to an actor: here, or apart if this thread is ending.
///
/// Waking an actor touches a thread-local of tokio's. Once that is gone, it would panic; in the `Drop` of another
/// thread-local that ends the process.
pub(crate) fn speak(send: impl FnOnce() + Send + 'static) {
    if is_alive() { send() } else { run(send) }
}

/// Returns whether this thread can speak to actors: it is not ending. Whoever may want to know at the end asks
/// once before.
pub(crate) fn is_alive() -> bool {
    ALIVE.try_with(|alive| alive.is_in_time).unwrap_or(false)
}

thread_local! {
    /// Gone before tokio's thread-local is, which its making touches first.
    static ALIVE: Alive = Alive::new();
}

struct Alive {
    /// Made before tokio's thread-local was gone.
    is_in_time: bool,
}

impl Alive {
    fn new() -> Self {
        // Who did not ask before the end learns it by a panic, which is printed and does no harm.
        Self { is_in_time: catch::user_code(|| drop(LocalSet::new().enter())).is_ok() }
    }
}

impl Drop for Alive {
    /// A thread-local without a `Drop` could not tell that it is gone.
    fn drop(&mut self) {}
}

fn work() {
    loop {
        let mut state = STATE.lock();
        let Some(job) = state.jobs.pop_front() else {
            state.threads -= 1;
            state.jobs = VecDeque::new();
            return;
        };
        drop(state);
        if let Err(message) = catch::user_code(job) {
            tracing::warn!(%message, "a callback panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_job_that_panics_and_one_that_blocks_hold_nobody_up() {
        let (open, gate) = channel::<()>();
        run(move || assert!(gate.recv_timeout(PATIENCE).is_err()));
        run(|| panic!("a job panics"));
        let (tell, told) = channel();
        for i in 0..100 {
            let tell = tell.clone();
            run(move || tell.send(i).expect("the test listens"));
        }
        drop(tell);
        let mut ran = Vec::new();
        while let Ok(i) = told.recv_timeout(PATIENCE) {
            ran.push(i);
        }
        ran.sort_unstable();
        assert_eq!(ran, (0..100).collect::<Vec<_>>(), "each once");
        drop(open);
    }

    #[test]
    fn a_thread_that_lives_speaks_itself() {
        let (tell, told) = channel();
        speak(move || tell.send(std::thread::current().id()).expect("the test listens"));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(std::thread::current().id()));
    }
}
