//! Carries out what the ledger orders.

use std::time::Duration;

use actix::prelude::*;

use super::Scheduler;
use crate::apart;
use crate::error::TaskError;
use crate::ledger::Order;
use crate::limits::RECALL_LOOK_MS;
use crate::messages::{Completion, Discard, Expect, Finished, Leave, Manner, Recall, Revoke, Run, StopEngine};
use crate::task::{EngineId, Moment};

impl Scheduler {
    /// Does what the ledger ordered.
    pub(super) fn carry_out(&mut self, orders: Vec<Order>, ctx: &mut Context<Self>) {
        let (mut expect, mut finished, mut lost, mut discard) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut running, mut revoked) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Run { engine, assignment } => {
                    if let Some(desk) = self.engines.get_mut(&engine) {
                        if desk.outgoing.is_empty() {
                            running.push(engine);
                        }
                        desk.outgoing.push(assignment);
                    }
                }
                Order::Revoke { engine, task } => revoked.push((engine, task)),
                Order::Recall { engine } => {
                    if let Some(desk) = self.engines.get(&engine) {
                        desk.address.recall.do_send(Recall);
                    }
                }
                Order::Dismiss { engine, cause } => {
                    if let Some(desk) = self.engines.get(&engine) {
                        desk.address.stop.do_send(StopEngine { cause: cause.clone() });
                    }
                    ctx.notify(Leave { engine, cause, had: Vec::new() });
                }
                Order::Settle { tasks, attempt, at, error, printed } => {
                    let is_lost = at.is_some() && matches!(error, TaskError::EngineLost { .. });
                    let (id, count, outcome) = (tasks.first, tasks.count, Err(error));
                    let word =
                        Completion { id, count, attempt, engine: None, at, ran: None, outcome, kept: None, printed };
                    if is_lost { &mut lost } else { &mut finished }.push(word);
                }
                Order::Expect { tasks, attempt } => expect.push((tasks, attempt)),
                Order::Discard(payload) => discard.push(payload),
            }
        }
        // Before the runs, or a stale outcome might pass for a new one.
        if !expect.is_empty() {
            self.store.do_send(Expect { batch: expect });
        }
        for engine in running {
            self.send_run(engine, ctx);
        }
        for (engine, task) in revoked {
            if let Some(desk) = self.engines.get(&engine) {
                desk.address.revoke.do_send(Revoke { tasks: vec![task], manner: Manner::Ask });
            }
        }
        if !finished.is_empty() {
            self.store.do_send(Finished { batch: finished });
        }
        if !lost.is_empty() {
            // Behind what the engine itself has made of them, which counts. An `Err` is a store that is gone.
            apart::discard(self.finished.push(lost).err().into_iter().flatten());
        }
        discard.retain(|payload| payload.needs_drop());
        if !discard.is_empty() {
            self.callbacks.do_send(Discard { batch: discard });
        }
        self.set_alarm(ctx);
        self.set_look(ctx);
    }

    fn send_run(&mut self, engine: EngineId, ctx: &mut Context<Self>) {
        let Some(desk) = self.engines.get_mut(&engine) else { return };
        let batch = std::mem::take(&mut desk.outgoing);
        if desk.address.run.connected() {
            desk.address.run.do_send(Run { batch });
        } else {
            apart::discard(batch);
            ctx.notify(Leave { engine, cause: "its actor stopped".into(), had: Vec::new() });
        }
    }

    /// Sets the timer to the next deadline.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.ledger.next_deadline() else { return };
        if self.alarm.is_some_and(|(set_to, _)| set_to <= due) {
            return;
        }
        if let Some((_, timer)) = self.alarm.take() {
            ctx.cancel_future(timer);
        }
        // A millisecond is the timer's own grain: a moment too early would only ring again.
        let wait = due.since(Moment::now()) + Duration::from_millis(1);
        let timer = ctx.run_later(wait, |scheduler, ctx| {
            scheduler.alarm = None;
            let orders = scheduler.ledger.on_tick(Moment::now());
            scheduler.carry_out(orders, ctx);
        });
        self.alarm = Some((due, timer));
    }

    /// Has the ledger look in a while whether an idle engine might run what others have.
    fn set_look(&mut self, ctx: &mut Context<Self>) {
        if self.is_look_set || !self.ledger.wants_look() {
            return;
        }
        self.is_look_set = true;
        ctx.run_later(Duration::from_millis(RECALL_LOOK_MS), |scheduler, ctx| {
            scheduler.is_look_set = false;
            let orders = scheduler.ledger.on_look();
            scheduler.carry_out(orders, ctx);
        });
    }
}
