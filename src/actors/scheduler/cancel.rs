//! Cancels: they do not overtake the tasks that they are about.

use actix::prelude::*;

use super::Scheduler;
use crate::messages::{Cancel, Manner, Revoke};

/// How many batches are taken in before a cancel lets other messages through: some milliseconds.
const BATCHES_PER_CANCEL: usize = 16;

impl Handler<Cancel> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Cancel, ctx: &mut Context<Self>) {
        let after = self.taken_in + self.submissions.len() as u64;
        Handler::handle(self, CancelAfter { after, cancel: msg }, ctx);
    }
}

/// A cancel that waits until the tasks that were handed over before it are taken in.
#[derive(Message)]
#[rtype(result = "()")]
struct CancelAfter {
    /// How many tasks that is, counted from the start.
    after: u64,
    cancel: Cancel,
}

impl Handler<CancelAfter> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: CancelAfter, ctx: &mut Context<Self>) {
        for _ in 0..BATCHES_PER_CANCEL {
            if self.taken_in >= msg.after || !self.take_in_batch(ctx) {
                break;
            }
        }
        if self.taken_in < msg.after {
            // Other messages first: a cancel in a flood of tasks holds nobody up.
            ctx.notify(msg);
            return;
        }
        let Cancel { tasks, reason, manner } = msg.cancel;
        let forced = if manner == Manner::Force { self.ledger.sent_of(&tasks) } else { Vec::new() };
        let orders = self.ledger.on_cancel(&tasks, &reason);
        self.carry_out(orders, ctx);
        for (engine, tasks) in forced {
            if let Some(desk) = self.engines.get(&engine) {
                desk.address.revoke.do_send(Revoke { tasks, manner });
            }
        }
    }
}
