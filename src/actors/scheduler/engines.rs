//! Engines that come and go, as the scheduler hears of them.

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Desk, Scheduler};
use crate::error::Error;
use crate::messages::{Failing, Join, Leave, Retire, Subscribe};
#[cfg(all(unix, feature = "remote"))]
use crate::task::EngineId;
use crate::task::Moment;

impl Handler<Join> for Scheduler {
    type Result = MessageResult<Join>;

    fn handle(&mut self, msg: Join, ctx: &mut Context<Self>) -> Self::Result {
        let slots = msg.offer.slots;
        let (id, orders) = self.ledger.on_join(msg.offer);
        self.engines.insert(id, Desk { address: msg.address, outgoing: Vec::new(), joined: Moment::now() });
        self.roster.add(id);
        tracing::debug!(engine = %id, slots, "engine joined");
        self.carry_out(orders, ctx);
        MessageResult(id)
    }
}

impl Handler<Leave> for Scheduler {
    type Result = ();

    fn handle(&mut self, mut msg: Leave, ctx: &mut Context<Self>) {
        if self.engines.remove(&msg.engine).is_none() {
            return;
        }
        self.roster.remove(msg.engine, &msg.cause);
        // Dropping the senders tells those who asked it to go.
        self.retiring.remove(&msg.engine);
        tracing::debug!(engine = %msg.engine, cause = %msg.cause, "engine left");
        let had = std::mem::take(&mut msg.had);
        let orders = self.ledger.on_lost_engine(msg.engine, had, &msg.cause);
        self.carry_out(orders, ctx);
        if self.engines.is_empty() {
            let queued = self.ledger.status().queued;
            if queued > 0 {
                tracing::warn!(queued, cause = %msg.cause, "the last engine has left; tasks wait for another to join");
            }
        }
        self.answer_stop();
    }
}

impl Handler<Failing> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Failing, _: &mut Context<Self>) {
        self.ledger.on_failing(msg.engine, &msg.cause);
    }
}

impl Handler<Retire> for Scheduler {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, msg: Retire, ctx: &mut Context<Self>) -> Self::Result {
        if let Some(unknown) = msg.engines.iter().find(|&engine| !self.engines.contains_key(engine)) {
            let error = Error::NoSuchEngine { asked: unknown.0.into(), have: self.roster.ids() };
            return Box::pin(std::future::ready(Err(error)));
        }
        // What was bound to them before is lost with this cause, and not because they are gone.
        self.take_in(ctx);
        let mut leaving = Vec::new();
        for engine in msg.engines {
            let (tell, told) = oneshot::channel();
            self.retiring.entry(engine).or_default().push(tell);
            leaving.push(told);
            let orders = self.ledger.on_retire(engine, &msg.cause);
            self.carry_out(orders, ctx);
        }
        Box::pin(async {
            for left in leaving {
                // The sender is dropped when the engine has left.
                let _ = left.await;
            }
            Ok(())
        })
    }
}

/// Asks why an engine is to go, if it is: by whoever would launch another in its place.
#[cfg(all(unix, feature = "remote"))]
#[derive(Message)]
#[rtype(result = "Option<Box<str>>")]
pub(crate) struct WhyItGoes {
    pub(crate) engine: EngineId,
}

#[cfg(all(unix, feature = "remote"))]
impl Handler<WhyItGoes> for Scheduler {
    type Result = MessageResult<WhyItGoes>;

    fn handle(&mut self, WhyItGoes { engine }: WhyItGoes, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.ledger.why_it_goes(engine).map(Into::into))
    }
}

impl Handler<Subscribe> for Scheduler {
    type Result = Result<(), Error>;

    fn handle(&mut self, msg: Subscribe, _: &mut Context<Self>) -> Self::Result {
        self.subscribers.add(&self.roster, msg.to)
    }
}
