//! Has callbacks run: closures on a pool of plain threads, messages at once.
//!
//! A cluster has one, behind the callbacks' actor. Promises belong to no cluster and share one of the process.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use actix::Recipient;
use actix::dev::SendError;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::pool::Pool;
use super::threads::Threads;
use crate::catch;
use crate::limits::Limits;
use crate::messages::{Aftermath, Callback, TaskDone};
use crate::task::TaskId;

/// What callbacks of results go through.
pub(crate) struct Dispatcher {
    pool: Pool,
    counts: Arc<CallbackCounts>,
    turns: Arc<Turns>,
}

/// What became of callbacks.
#[derive(Debug, Default)]
pub(crate) struct CallbackCounts {
    /// Registered and not yet run.
    pending: AtomicUsize,
    undeliverable: AtomicU64,
    panicked: AtomicU64,
}

type Closures = Vec<Box<dyn FnOnce() + Send>>;

/// The results whose closures run at this moment, each with those that are next.
///
/// Without it a closure that is registered while earlier ones of the same result run would run beside them.
#[derive(Default)]
struct Turns(Mutex<HashMap<TaskId, Closures>>);

impl Dispatcher {
    pub(super) fn new(limits: &Limits, threads: Arc<Threads>, counts: Arc<CallbackCounts>) -> Self {
        Self { pool: Pool::new(limits.callback_threads_max, threads), counts, turns: Arc::default() }
    }

    /// Returns the one for results that belong to no cluster. Its threads end when idle.
    pub(crate) fn of_process() -> &'static Self {
        static OF_PROCESS: LazyLock<Dispatcher> =
            LazyLock::new(|| Dispatcher::new(&Limits::default(), Arc::default(), Arc::default()));
        &OF_PROCESS
    }

    pub(crate) fn counts(&self) -> &CallbackCounts {
        &self.counts
    }

    /// Does what is left after a result was settled.
    pub(crate) fn dispatch(&self, aftermath: Aftermath) {
        let Aftermath { done, callbacks, leftover } = aftermath;
        let mut closures = Vec::new();
        for callback in callbacks {
            match (callback, &done) {
                (Callback::Closure(closure), _) => closures.push(closure),
                (Callback::Message(to), Some(done)) => {
                    self.run_in_order(done.record.id, std::mem::take(&mut closures));
                    self.tell(&to, done.clone());
                }
                (Callback::Message(_), None) => self.counts.on_run(),
            }
        }
        if let Some(done) = &done {
            self.run_in_order(done.record.id, closures);
        }
        if let Some(value) = leftover {
            self.discard(value);
        }
    }

    /// Drops a value of the user's on one of the threads.
    pub(crate) fn discard(&self, value: impl Send + 'static) {
        self.pool.run(Box::new(move || catch::discard(value)));
    }

    /// Gives one result's closures to one thread, which runs them one after the other.
    fn run_in_order(&self, of: TaskId, closures: Closures) {
        if closures.is_empty() || !self.turns.begin(of, closures) {
            return;
        }
        let (turns, counts) = (self.turns.clone(), self.counts.clone());
        self.pool.run(Box::new(move || {
            while let Some(closures) = turns.next(of) {
                closures.into_iter().for_each(|closure| counts.run(closure));
            }
        }));
    }

    fn tell(&self, to: &Recipient<TaskDone>, done: TaskDone) {
        match to.try_send(done) {
            Ok(()) => {}
            // A full mailbox is the subscriber's own; what it subscribed to was bounded at registration.
            Err(SendError::Full(done)) => to.do_send(done),
            Err(SendError::Closed(_)) => self.counts.on_undeliverable(),
        }
        self.counts.on_run();
    }
}

impl Turns {
    /// Queues closures; returns whether somebody has to begin with them.
    fn begin(&self, of: TaskId, closures: Closures) -> bool {
        match self.0.lock().entry(of) {
            hashbrown::hash_map::Entry::Occupied(mut running) => {
                running.get_mut().extend(closures);
                false
            }
            hashbrown::hash_map::Entry::Vacant(place) => {
                place.insert(closures);
                true
            }
        }
    }

    /// Takes what is next of a result; forgets the result if that is nothing.
    fn next(&self, of: TaskId) -> Option<Closures> {
        let mut running = self.0.lock();
        let closures = std::mem::take(running.get_mut(&of)?);
        if closures.is_empty() {
            running.remove(&of);
            return None;
        }
        Some(closures)
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
