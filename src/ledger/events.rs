//! What can happen to tasks and engines, one function an event.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use slab::Slab;

use super::deadlines::Deadlines;
use super::engine::{Ahead, Engine};
use super::entry::{Entry, Line, Place};
use super::estimates::Estimates;
use super::fleet::Fleet;
use super::knowing::Knowing;
use super::orders::{EngineOffer, HandBack, Order, Request, SettledTask};
use super::policy::Policy;
use super::queues::{LOCAL, TargetSets};
use crate::error::TaskError;
use crate::limits::Limits;
use crate::task::{EngineId, Moment, Span, TaskId};

/// Which task is where.
///
/// ```
/// use callboard::Limits;
/// use callboard::ledger::{EngineOffer, Ledger, Order, Request};
/// use callboard::task::{Closure, ErasedTask, Moment, Payload, Retries, Target, TaskId};
///
/// let mut ledger = Ledger::new(&Limits::default());
/// let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
/// let call: Box<dyn ErasedTask> = Box::new(Closure(|| 42));
/// let request = Request {
///     id: TaskId { client: 7, seq: 0 },
///     kind: call.kind(),
///     payload: Payload::Typed(call),
///     target: Target::Any,
///     retries: Retries::default(),
///     extras: None,
/// };
/// let orders = ledger.on_submit(Moment::FIRST, vec![request]);
/// assert!(matches!(&orders[..], [Order::Run { engine: to, .. }] if *to == engine));
/// ```
#[derive(Debug)]
pub struct Ledger {
    pub(super) entries: Slab<Entry>,
    /// From a task's id to its slot. The ids themselves are in the entries.
    pub(super) index: HashTable<u32>,
    /// The pieces of more than one task, by the first of it.
    pub(super) pieces: BTreeMap<TaskId, u32>,
    pub(super) sets: TargetSets,
    pub(super) fleet: Fleet,
    pub(super) knowing: Knowing,
    pub(super) estimates: Estimates,
    pub(super) deadlines: Deadlines,
    /// Tasks accepted and not confirmed as settled.
    pub(super) pending: usize,
    next_engine: u32,
    pub(super) next_stamp: u32,
    pub(super) settled: u64,
    pub(super) late: u64,
}

impl Ledger {
    /// Makes an empty ledger that gives tasks to the least loaded engines.
    pub fn new(limits: &Limits) -> Self {
        Self::with_policy(limits, Policy::LeastLoad, 0)
    }

    /// Makes an empty ledger that chooses engines in its own way; at random, if that is its way, from this seed.
    pub fn with_policy(limits: &Limits, policy: Policy, seed: u64) -> Self {
        // An estimate is never more than this, so a task that is not known to be shorter counts as the whole backlog.
        let backlog_ns = limits.engine_backlog_us.saturating_mul(1_000).min(u32::MAX.into());
        let ahead = Ahead { backlog_ns, outstanding: limits.engine_outstanding_max };
        Self {
            entries: Slab::new(),
            index: HashTable::new(),
            pieces: BTreeMap::new(),
            sets: TargetSets::new(),
            fleet: Fleet::new(ahead, policy, seed),
            knowing: Knowing::default(),
            estimates: Estimates::default(),
            deadlines: Deadlines::default(),
            pending: 0,
            next_engine: 0,
            next_stamp: 0,
            settled: 0,
            late: 0,
        }
    }

    /// An engine came. Returns its id and what it is to run.
    pub fn on_join(&mut self, offer: EngineOffer) -> (EngineId, Vec<Order>) {
        let id = EngineId(self.next_engine);
        self.next_engine += 1;
        let is_local = offer.is_local;
        let place = self.fleet.add(Engine::new(id, offer));
        if is_local {
            self.enlist(place, LOCAL);
        }
        self.enlist_by_tasks(place);
        let mut orders = Vec::new();
        self.refill(place, &mut orders);
        (id, orders)
    }

    /// An engine is gone. What it handed back before is already elsewhere; what it still has is lost.
    pub fn on_leave(&mut self, engine: EngineId, cause: &str) -> Vec<Order> {
        let mut orders = Vec::new();
        let Some(place) = self.fleet.find(engine) else { return orders };
        let mut left = self.fleet.remove(place);

        let with_it =
            |entry: &Entry| matches!(entry.place, Place::At(p) | Place::Lingering(p) | Place::Ghost(p) if p == place);
        let slots: Vec<u32> = self.entries.iter().filter(|(_, e)| with_it(e)).map(|(s, _)| s as u32).collect();
        for slot in slots {
            self.on_lost(slot, engine, cause, &mut orders);
        }
        for ticket in left.direct.drain(|_| true) {
            if self.is_good(ticket) {
                self.lose(ticket.slot, engine, cause, &mut orders);
            }
        }
        for set in left.sets.iter() {
            self.on_member_left(set as u32, place, engine, cause, &mut orders);
        }
        orders
    }

    /// An engine is gone, and whoever stood for it hands back what it had: what had not started may move on without
    /// having used an attempt, what had is over with the error it comes with. What is not handed back is lost.
    pub fn on_lost_engine(&mut self, engine: EngineId, had: Vec<HandBack>, cause: &str) -> Vec<Order> {
        let mut orders = Vec::new();
        let Some(place) = self.fleet.find(engine) else {
            orders.extend(had.into_iter().filter_map(|back| back.payload).map(Order::Discard));
            return orders;
        };
        // Or it would be sent there again.
        self.fleet.get_mut(place).retiring = Some(cause.into());
        self.fleet.list(place);
        let mut lines = Vec::new();
        for back in had.into_iter().rev() {
            lines.extend(self.take_back(place, back, &mut orders));
        }
        lines.dedup();
        for line in lines {
            self.pump(line, &mut orders);
        }
        orders.extend(self.on_leave(engine, cause));
        orders
    }

    /// Callers want tasks run.
    pub fn on_submit(&mut self, now: Moment, requests: Vec<Request>) -> Vec<Order> {
        let mut orders = Vec::with_capacity(requests.len());
        for request in requests {
            self.submit(now, request, &mut orders);
        }
        orders
    }

    /// A caller wants tasks cancelled, wherever they are. Those already settled stay as they are.
    pub fn on_cancel(&mut self, tasks: &[Span], reason: &str) -> Vec<Order> {
        let mut orders = Vec::new();
        for &span in tasks {
            for slot in self.slots_in(span) {
                self.give_up_in_part(slot, span, || TaskError::Cancelled { reason: reason.into() }, &mut orders);
            }
        }
        self.on_given_up(&mut orders);
        orders
    }

    /// Everything that is pending is cancelled.
    pub fn on_cancel_all(&mut self, reason: &str) -> Vec<Order> {
        let tasks: Vec<Span> = self.entries.iter().map(|(_, entry)| entry.span()).collect();
        self.on_cancel(&tasks, reason)
    }

    /// Time has passed: tasks that are due settle as `TimedOut`.
    pub fn on_tick(&mut self, now: Moment) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some(slot) = self.deadlines.pop_due(now) {
            let deadline = self.entry(slot).extras.as_ref().and_then(|extras| extras.deadline);
            self.give_up(slot, TaskError::TimedOut { deadline: deadline.unwrap_or_default() }, &mut orders);
        }
        self.on_given_up(&mut orders);
        orders
    }

    /// An engine gives tasks back: not started, or failed and allowed another attempt.
    pub fn on_handed_back(&mut self, engine: EngineId, tasks: Vec<HandBack>) -> Vec<Order> {
        let mut orders = Vec::new();
        let Some(place) = self.fleet.find(engine) else {
            orders.extend(tasks.into_iter().filter_map(|back| back.payload).map(Order::Discard));
            return orders;
        };
        // Backwards, because each goes to the head of its queue and their order shall stay.
        let mut lines = Vec::new();
        for back in tasks.into_iter().rev() {
            if let Some(line) = self.take_back(place, back, &mut orders) {
                lines.push(line);
            }
        }
        self.refill(place, &mut orders);
        lines.dedup();
        for line in lines {
            self.pump(line, &mut orders);
        }
        orders
    }

    /// The result store got outcomes: slots are free, and the next tasks may go out.
    pub fn on_settled(&mut self, tasks: &[SettledTask]) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut touched = Vec::new();
        for task in tasks {
            if let Some(engine) = self.settled(task, &mut orders)
                && touched.last() != Some(&engine)
            {
                touched.push(engine);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for engine in touched {
            self.refill(engine, &mut orders);
        }
        self.on_given_up(&mut orders);
        orders
    }

    /// Returns when `on_tick` is next to be called.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// Returns how many tasks are accepted and not settled.
    pub fn pending(&self) -> usize {
        self.pending
    }

    fn submit(&mut self, now: Moment, request: Request, orders: &mut Vec<Order>) {
        if self.slot_of(request.id).is_some() {
            // The same submission twice, as a client that reconnects may send it: the first stands.
            orders.push(Order::Discard(request.payload));
            return;
        }
        let line = self.line_for(&request);
        let deadline = request.extras.as_ref().and_then(|extras| extras.deadline);
        let slot = self.insert(request, *line.as_ref().unwrap_or(&Line::None));
        if let Some(deadline) = deadline {
            // Before any of it is sent: what is cut off it takes the deadline along.
            self.deadlines.insert(slot, now.after(deadline));
        }
        match line {
            Ok(line) => self.send_or_queue(slot, line, orders),
            Err(error) => self.give_up(slot, error, orders),
        }
    }
}
