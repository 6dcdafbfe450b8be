//! Questions that count when they are asked.
//!
//! actix skips a message that was `send` once nobody waits for its answer any more, and holds it back while the mailbox
//! is full until somebody does. What a caller orders is to be done also where the caller does not look.

use actix::dev::{MessageResponse, OneshotSender};
use actix::prelude::*;
use tokio::sync::oneshot;

use super::{ResultStore, Scheduler};

/// A message, and where its answer goes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Asked<M: Message> {
    message: M,
    tell: OneshotSender<M::Result>,
}

/// Asks an actor; the receiver hears the answer, or that the actor is gone.
pub(crate) fn ask<A, M>(actor: &Addr<A>, message: M) -> oneshot::Receiver<M::Result>
where
    A: Actor<Context = Context<A>> + Handler<Asked<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let (tell, told) = oneshot::channel();
    actor.do_send(Asked { message, tell });
    told
}

macro_rules! can_be_asked {
    ($($actor:ty),*) => {$(
        impl<M> Handler<Asked<M>> for $actor
        where
            Self: Handler<M>,
            M: Message + 'static,
        {
            type Result = ();

            fn handle(&mut self, msg: Asked<M>, ctx: &mut Context<Self>) {
                Handler::handle(self, msg.message, ctx).handle(ctx, Some(msg.tell));
            }
        }
    )*};
}

can_be_asked!(Scheduler, ResultStore);
