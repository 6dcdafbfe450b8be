//! Has callbacks run: closures on a pool of plain threads, messages at once.
//!
//! A cluster has one, behind the callbacks' actor. Promises belong to no cluster and share one of the process.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use actix::Recipient;
use actix::dev::SendError;

use super::pool::Pool;
use super::threads::Threads;
use crate::limits::Limits;
use crate::messages::{Aftermath, Callback, TaskDone};
use crate::{apart, catch};

/// What callbacks of results go through.
pub(crate) struct Dispatcher {
    /// A cluster's own threads; `None`: those of the process.
    pool: Option<Pool>,
    counts: Arc<CallbackCounts>,
}

/// What became of callbacks.
#[derive(Debug, Default)]
pub(crate) struct CallbackCounts {
    /// Registered and not yet run.
    pending: AtomicUsize,
    undeliverable: AtomicU64,
    panicked: AtomicU64,
}

impl Dispatcher {
    pub(super) fn new(limits: &Limits, threads: Arc<Threads>, counts: Arc<CallbackCounts>) -> Self {
        Self { pool: Some(Pool::new(limits.callback_threads_max, threads)), counts }
    }

    /// Returns the one for results that belong to no cluster.
    pub(crate) fn of_process() -> &'static Self {
        static OF_PROCESS: LazyLock<Dispatcher> = LazyLock::new(|| Dispatcher { pool: None, counts: Arc::default() });
        &OF_PROCESS
    }

    pub(crate) fn counts(&self) -> &CallbackCounts {
        &self.counts
    }

    /// Does what is left after a result was settled.
    pub(crate) fn dispatch(&self, mut aftermath: Aftermath) {
        if let Some(value) = aftermath.leftover.take() {
            self.discard(value);
        }
        for other in std::mem::take(&mut aftermath.others) {
            self.dispatch(other);
        }
        // Messages are sent from here, as far as no closure stands before them; from there on one thread goes on,
        // so that the callbacks of one result come one after the other.
        while let Some(callback) = aftermath.next_callback() {
            match callback {
                Callback::Message(to) => self.counts.tell(&to, aftermath.done.as_ref()),
                Callback::Closure(first) => return self.go_on(first, aftermath),
            }
        }
    }

    /// Has a thread call a closure and what comes after it.
    fn go_on(&self, first: Box<dyn FnOnce() + Send>, mut aftermath: Aftermath) {
        let counts = self.counts.clone();
        self.run(move || {
            counts.run(first);
            while let Some(callback) = aftermath.next_callback() {
                match callback {
                    Callback::Message(to) => counts.tell(&to, aftermath.done.as_ref()),
                    Callback::Closure(closure) => counts.run(closure),
                }
            }
        });
    }

    /// Drops a value of the user's on one of the threads.
    pub(crate) fn discard(&self, value: impl Send + 'static) {
        self.run(move || catch::discard(value));
    }

    /// Drops values of the user's there, each by itself: a second panic while one unwinds would end the process.
    pub(super) fn discard_each<T: Send + 'static>(&self, values: Vec<T>) {
        self.run(move || values.into_iter().for_each(catch::discard));
    }

    fn run(&self, job: impl FnOnce() + Send + 'static) {
        match &self.pool {
            Some(pool) => pool.run(Box::new(job)),
            None => apart::run(job),
        }
    }
}

impl CallbackCounts {
    /// Returns how many were undeliverable, and how many panicked.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.undeliverable.load(Ordering::Relaxed), self.panicked.load(Ordering::Relaxed))
    }

    /// Counts a registration in, if there is room below `max`.
    pub(crate) fn try_register(&self, max: usize) -> bool {
        let is_room = self.pending.fetch_add(1, Ordering::Relaxed) < max;
        if !is_room {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        is_room
    }

    /// Notes that a recipient was gone.
    pub(crate) fn on_undeliverable(&self) {
        self.undeliverable.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, to: &Recipient<TaskDone>, done: Option<&TaskDone>) {
        match done.map(|done| to.try_send(done.clone())) {
            None | Some(Ok(())) => {}
            // A full mailbox is the subscriber's own; what it subscribed to was bounded at registration.
            Some(Err(SendError::Full(done))) => to.do_send(done),
            Some(Err(SendError::Closed(_))) => self.on_undeliverable(),
        }
        self.on_run();
    }

    fn run(&self, closure: Box<dyn FnOnce() + Send>) {
        if let Err(message) = catch::user_code(closure) {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%message, "a callback panicked");
        }
        self.on_run();
    }

    fn on_run(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
