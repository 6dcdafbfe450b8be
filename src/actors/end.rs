//! The end of an actor, asked for.
//!
//! An arbiter that stops drops its actors where they sleep. Their mailboxes, which live as long as anybody holds an
//! address, then keep the waker of the sleeper, and that keeps the arbiter's runtime with its descriptors. An actor
//! that ends by a message is awake, and leaves no waker behind.

use actix::prelude::*;

use super::{Callbacks, ResultStore, Scheduler};

/// Ends an actor; answered when it has handled everything that was sent before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;

macro_rules! ends {
    ($($actor:ty),*) => {$(
        impl Handler<End> for $actor {
            type Result = ();

            fn handle(&mut self, _: End, ctx: &mut Context<Self>) {
                ctx.stop();
            }
        }
    )*};
}

ends!(Scheduler, ResultStore, Callbacks);
