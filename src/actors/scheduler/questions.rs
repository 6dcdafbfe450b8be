//! Questions to the scheduler, and the end.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::Scheduler;
use crate::ledger::QueueStatus;
use crate::messages::{GetStatus, Pending, Stop, TakeIn};
use crate::task::Moment;

impl Handler<GetStatus> for Scheduler {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        let (undeliverable_callbacks, panicked_callbacks) = self.counts.read();
        let mut status = self.ledger.status();
        let now = Moment::now();
        for engine in &mut status.engines {
            engine.up = self.engines.get(&engine.id).map_or(Duration::ZERO, |desk| now.since(desk.joined));
        }
        let handed_over = self.submissions.tasks();
        MessageResult(QueueStatus {
            pending: status.pending + handed_over,
            queued: status.queued + handed_over,
            undeliverable_callbacks,
            panicked_callbacks,
            ..status
        })
    }
}

impl Handler<Stop> for Scheduler {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, msg: Stop, ctx: &mut Context<Self>) -> ResponseFuture<()> {
        self.take_in(ctx);
        // No engine joins any more: whoever waits for some is told.
        self.roster.close();
        let (settled, answer) = oneshot::channel();
        self.stopping.get_or_insert_default().push(settled);
        if msg.pending == Pending::Cancel {
            let orders = self.ledger.on_cancel_all("the cluster was shut down");
            self.carry_out(orders, ctx);
        }
        self.answer_stop();
        Box::pin(async {
            // A dropped sender is an arbiter that is gone, and its tasks with it.
            let _ = answer.await;
        })
    }
}

impl Handler<TakeIn> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: TakeIn, ctx: &mut Context<Self>) {
        self.take_in(ctx);
    }
}
