//! The callbacks' actor: tells subscribers, and has closures run where they may block and panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use actix::dev::SendError;
use actix::prelude::*;

use super::pool::Pool;
use super::threads::Threads;
use crate::catch;
use crate::limits::Limits;
use crate::messages::{Aftermath, Callback, Discard, Dispatch, TaskDone};

/// The actor behind `on_done`, `pipe_to` and `add_done_callback`.
pub struct Callbacks {
    pool: Pool,
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

    fn on_run(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Callbacks {
    pub(crate) fn new(limits: &Limits, threads: Arc<Threads>, counts: Arc<CallbackCounts>) -> Self {
        Self { pool: Pool::new(limits.callback_threads_max, threads), counts }
    }

    fn dispatch(&mut self, aftermath: Aftermath) {
        let mut closures = Vec::new();
        for callback in aftermath.callbacks {
            match callback {
                Callback::Closure(closure) => closures.push(closure),
                Callback::Message(to) => {
                    self.run_in_order(&mut closures);
                    if let Some(done) = &aftermath.done {
                        self.tell(&to, done.clone());
                    }
                }
            }
        }
        self.run_in_order(&mut closures);
        if let Some(value) = aftermath.leftover {
            self.pool.run(Box::new(move || catch::discard(value)));
        }
        for aftermath in aftermath.more {
            self.dispatch(aftermath);
        }
    }

    /// Gives one result's closures to one thread, which runs them one after the other.
    fn run_in_order(&mut self, closures: &mut Vec<Box<dyn FnOnce() + Send>>) {
        if closures.is_empty() {
            return;
        }
        let (closures, counts) = (std::mem::take(closures), self.counts.clone());
        self.pool.run(Box::new(move || {
            for closure in closures {
                if let Err(message) = catch::user_code(closure) {
                    counts.panicked.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%message, "a callback panicked");
                }
                counts.on_run();
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

impl Actor for Callbacks {
    type Context = Context<Self>;
}

impl Handler<Dispatch> for Callbacks {
    type Result = ();

    fn handle(&mut self, mut msg: Dispatch, _: &mut Context<Self>) {
        for aftermath in std::mem::take(&mut msg.batch) {
            self.dispatch(aftermath);
        }
    }
}

impl Handler<Discard> for Callbacks {
    type Result = ();

    fn handle(&mut self, mut msg: Discard, _: &mut Context<Self>) {
        let batch = std::mem::take(&mut msg.batch);
        self.pool.run(Box::new(move || batch.into_iter().for_each(catch::discard)));
    }
}
