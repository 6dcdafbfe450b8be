//! Clients that take their results more slowly than these come: what of theirs waits for an engine is held back.
//!
//! Held are a client's own queues, of tasks that any engine or several may take. What is bound to one engine waits in one
//! queue for all clients, which stands still while its first task is of such a client: whoever names an engine has chosen to
//! wait for it. Clients that share a queue because they are too many are not held back.

use hashbrown::HashSet;

use super::entry::Line;
use super::events::Ledger;
use super::orders::Order;
use super::queues::TargetSets;

/// Who is held back.
#[derive(Debug, Default)]
pub(super) struct Holds(HashSet<u64>);

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, client: u64) -> bool {
        // Mostly there is none, and every new queue asks.
        !self.0.is_empty() && self.0.contains(&client)
    }
}

impl TargetSets {
    /// Makes the tasks of a set, of which there are some, to be found by engines; unless they are held back.
    pub(super) fn show(&mut self, set: u32) {
        if !self.get(set).is_held {
            self.waiting.insert(set as usize);
        }
    }

    /// Returns the sets of a client; not those that it shares with others.
    fn of(&self, client: u64) -> Vec<u32> {
        let is_own = |set: &u32| !self.shares.has_guests(*set);
        self.iter().filter(|(_, target)| target.client() == Some(client)).map(|(set, _)| set).filter(is_own).collect()
    }
}

impl Ledger {
    /// A client does not take what its tasks return: no more of them start.
    pub fn on_held(&mut self, client: u64) {
        self.sets.holds.0.insert(client);
        for set in self.sets.of(client) {
            self.sets.get_mut(set).is_held = true;
            self.sets.waiting.remove(set as usize);
        }
    }

    /// It takes them again, or is gone.
    pub fn on_released(&mut self, client: u64) -> Vec<Order> {
        let mut orders = Vec::new();
        if !self.sets.holds.0.remove(&client) {
            return orders;
        }
        for set in self.sets.of(client) {
            self.sets.get_mut(set).is_held = false;
            if self.sets.get(set).queue.len() > 0 {
                self.sets.show(set);
                self.pump(Line::Set(set), &mut orders);
            }
        }
        self.pump_bound(&mut orders);
        orders
    }

    /// Sends what is bound to engines, where it does not stand still any more.
    fn pump_bound(&mut self, orders: &mut Vec<Order>) {
        for engine in self.fleet.places_where(|engine| engine.direct.len() > 0) {
            self.pump(Line::Direct(engine), orders);
        }
    }

    /// Tasks may have been given up, for which others stood still.
    pub(super) fn on_given_up(&mut self, orders: &mut Vec<Order>) {
        if !self.sets.holds.is_empty() {
            self.pump_bound(orders);
        }
    }

    /// Returns whether nothing is to be sent from a queue.
    pub(super) fn is_held(&mut self, line: Line) -> bool {
        match line {
            Line::Set(set) => self.sets.get(set).is_held,
            Line::Direct(_) if !self.sets.holds.is_empty() => {
                self.head(line).is_some_and(|head| self.sets.holds.contains(self.entry(head.slot).id.client))
            }
            Line::Direct(_) | Line::None => false,
        }
    }

    /// Returns whether a task that comes is to wait, though none does in its queue.
    pub(super) fn is_held_back(&self, slot: u32, line: Line) -> bool {
        match line {
            Line::Set(set) => self.sets.get(set).is_held,
            Line::Direct(_) => self.sets.holds.contains(self.entry(slot).id.client),
            Line::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{EngineOffer, Request, SettledTask};
    use crate::limits::Limits;
    use crate::task::{Attempt, Closure, EngineId, Moment, Payload, Retries, Target, TaskId, TaskKind};

    static KIND: TaskKind =
        TaskKind { name: "function", version: 1, key: 1, fingerprint: 1, idempotent: false, portable: true };

    fn submit(ledger: &mut Ledger, client: u64, seq: u64, target: Target) -> Vec<TaskId> {
        let (id, payload) = (TaskId { client, seq }, Payload::Typed(Box::new(Closure(|| ()))));
        let request = Request { id, kind: &KIND, payload, target, retries: Retries::default(), extras: None };
        runs(&ledger.on_submit(Moment::FIRST, vec![request]))
    }

    /// Returns the tasks that are to run.
    fn runs(orders: &[Order]) -> Vec<TaskId> {
        let run = |order: &Order| match order {
            Order::Run { assignment, .. } => Some(assignment.id),
            _ => None,
        };
        orders.iter().filter_map(run).collect()
    }

    /// Has the engine run these, and what it gets for them; returns the clients whose tasks they were, in that order.
    fn run_out(ledger: &mut Ledger, engine: EngineId, mut sent: Vec<TaskId>) -> Vec<u64> {
        let mut at = 0;
        while let Some(&id) = sent.get(at) {
            at += 1;
            let done = SettledTask { id, count: 1, engine: Some(engine), attempt: Attempt(1), ran: None, won: 1 };
            sent.extend(runs(&ledger.on_settled(&[done])));
        }
        sent.into_iter().map(|id| id.client).collect()
    }

    #[test]
    fn nothing_of_a_client_that_is_held_starts_until_it_is_released() {
        let mut ledger = Ledger::new(&Limits::default());
        let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
        let view: Arc<[EngineId]> = [engine].into();
        let first = submit(&mut ledger, 7, 0, Target::Any);
        assert!(submit(&mut ledger, 7, 1, Target::Any).is_empty());
        ledger.on_held(7);
        ledger.on_held(7);
        // What comes now waits as well; also in a queue that it did not have before.
        for (client, seq, target) in [
            (8, 0, Target::One(engine)),
            (7, 2, Target::Of(view)),
            (7, 3, Target::Any),
            (8, 1, Target::Any),
            (7, 4, Target::One(engine)),
            (8, 2, Target::One(engine)),
        ] {
            assert!(submit(&mut ledger, client, seq, target).is_empty());
        }
        let mut ran = run_out(&mut ledger, engine, first);
        ran.sort_unstable();
        assert_eq!((ran, ledger.status().queued), (vec![7, 8, 8], 5), "the last waits behind what is held");
        let orders = ledger.on_cancel(&[TaskId { client: 7, seq: 4 }.into()], "no need");
        assert_eq!(runs(&orders), [TaskId { client: 8, seq: 2 }], "and starts when that is not wanted any more");
        ledger.on_settled(&[SettledTask {
            id: TaskId { client: 7, seq: 4 },
            count: 1,
            engine: None,
            attempt: Attempt(0),
            ran: None,
            won: 1,
        }]);
        assert_eq!(run_out(&mut ledger, engine, runs(&orders)), [8]);
        let next = runs(&ledger.on_released(7));
        assert_eq!(run_out(&mut ledger, engine, next), [7; 3]);
        assert!(runs(&ledger.on_released(7)).is_empty());
        let next = submit(&mut ledger, 7, 5, Target::Any);
        assert_eq!(run_out(&mut ledger, engine, next), [7]);
    }

    #[test]
    fn a_queue_that_is_passed_on_is_held_with_its_new_client_only() {
        let mut ledger = Ledger::new(&Limits::default());
        ledger.on_held(7);
        let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
        assert!(submit(&mut ledger, 7, 0, Target::Any).is_empty());
        let id = TaskId { client: 7, seq: 0 };
        ledger.on_cancel(&[id.into()], "no need");
        ledger.on_settled(&[SettledTask { id, count: 1, engine: None, attempt: Attempt(0), ran: None, won: 1 }]);
        // The queue of the one that is held has no tasks, and serves another.
        let next = submit(&mut ledger, 8, 0, Target::Any);
        assert_eq!(run_out(&mut ledger, engine, next), [8]);
        assert!(submit(&mut ledger, 7, 1, Target::Any).is_empty());
        let next = runs(&ledger.on_released(7));
        assert_eq!(run_out(&mut ledger, engine, next), [7]);
    }
}
