//! Engines that come and go, as the scheduler hears of them, and who is told.

use actix::dev::SendError;
use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Desk, REMOVED, Scheduler};
use crate::error::Error;
use crate::limits::ENGINE_SUBSCRIBERS_MAX;
use crate::messages::{EngineEvent, Join, Leave, Retire, Subscribe};

impl Handler<Join> for Scheduler {
    type Result = MessageResult<Join>;

    fn handle(&mut self, msg: Join, ctx: &mut Context<Self>) -> Self::Result {
        let (id, orders) = self.ledger.on_join(msg.offer);
        self.engines.insert(id, Desk { address: msg.address, outgoing: Vec::new() });
        self.roster.add(id);
        self.tell(&EngineEvent::Joined { engine: id });
        tracing::debug!(engine = %id, slots = msg.offer.slots, "engine joined");
        self.carry_out(orders, ctx);
        MessageResult(id)
    }
}

impl Handler<Leave> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Leave, ctx: &mut Context<Self>) {
        if self.engines.remove(&msg.engine).is_none() {
            return;
        }
        self.roster.remove(msg.engine, &msg.cause);
        self.tell(&EngineEvent::Left { engine: msg.engine, cause: (*msg.cause).into() });
        // Dropping the senders tells those who asked it to go.
        self.retiring.remove(&msg.engine);
        tracing::debug!(engine = %msg.engine, cause = %msg.cause, "engine left");
        let orders = self.ledger.on_leave(msg.engine, &msg.cause);
        self.carry_out(orders, ctx);
        self.answer_stop();
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
            let orders = self.ledger.on_retire(engine, REMOVED);
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

impl Handler<Subscribe> for Scheduler {
    type Result = Result<(), Error>;

    fn handle(&mut self, msg: Subscribe, _: &mut Context<Self>) -> Self::Result {
        self.subscribers.retain(Recipient::connected);
        if self.subscribers.len() >= ENGINE_SUBSCRIBERS_MAX {
            return Err(Error::Overloaded { what: "subscribers of engine events", limit: ENGINE_SUBSCRIBERS_MAX });
        }
        self.subscribers.push(msg.to);
        Ok(())
    }
}

impl Scheduler {
    /// Tells subscribers of an engine that came or went; forgets those that are gone.
    fn tell(&mut self, event: &EngineEvent) {
        self.subscribers.retain(|to| match to.try_send(event.clone()) {
            Ok(()) => true,
            // A full mailbox is the subscriber's own.
            Err(SendError::Full(event)) => {
                to.do_send(event);
                true
            }
            Err(SendError::Closed(_)) => false,
        });
    }
}
