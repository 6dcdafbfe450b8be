//! Hearing a peer: what it says becomes messages to the actor that stands for it.

use actix::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::frame::Message;
use crate::wire::pump::run;
use crate::wire::session::{Credit, Ending, Heard, Speaker};

/// What a peer said.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Said {
    pub(crate) message: Message,
    /// Dropped when it has been dealt with.
    pub(crate) credit: Credit,
}

/// Has an actor hear what its peer says, until the session ends; returns how it ended.
pub(crate) async fn attend<R, W, A>(reader: R, writer: W, speaker: &Speaker, actor: &Addr<A>) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    A: Actor<Context = Context<A>> + Handler<Said>,
{
    let hear = |Heard { message, credit, .. }| {
        actor.do_send(Said { message, credit });
        Ok(())
    };
    run(reader, writer, speaker, hear).await
}
