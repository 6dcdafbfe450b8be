//! The callbacks' actor: tells subscribers, and has closures run where they may block and panic.

use std::sync::Arc;

use actix::prelude::*;

use super::dispatcher::{CallbackCounts, Dispatcher};
use super::threads::Threads;
use crate::limits::Limits;
use crate::messages::{Discard, Dispatch};

/// The actor behind `on_done`, `pipe_to` and `add_done_callback`.
pub struct Callbacks {
    dispatcher: Dispatcher,
}

impl Callbacks {
    pub(crate) fn new(limits: &Limits, threads: Arc<Threads>, counts: Arc<CallbackCounts>) -> Self {
        Self { dispatcher: Dispatcher::new(limits, threads, counts) }
    }
}

impl Actor for Callbacks {
    type Context = Context<Self>;
}

impl Handler<Dispatch> for Callbacks {
    type Result = ();

    fn handle(&mut self, mut msg: Dispatch, _: &mut Context<Self>) {
        for aftermath in std::mem::take(&mut msg.batch) {
            self.dispatcher.dispatch(aftermath);
        }
    }
}

impl Handler<Discard> for Callbacks {
    type Result = ();

    fn handle(&mut self, mut msg: Discard, _: &mut Context<Self>) {
        self.dispatcher.discard_each(std::mem::take(&mut msg.batch));
    }
}
