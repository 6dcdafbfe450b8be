//! What can happen to tasks and engines, one function an event.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use super::bits::Bits;
use super::deadlines::Deadlines;
use super::entry::{Entry, Line, Place};
use super::estimates::Estimates;
use super::orders::{EngineOffer, EngineStatus, HandBack, Order, QueueStatus, Request, SettledTask, Verdict};
use super::placement::{Ahead, Engine, Fleet};
use super::queues::{ANY, LOCAL, TargetSets};
use crate::error::TaskError;
use crate::limits::Limits;
use crate::task::{Attempt, EngineId, Moment, Payload, Target, TaskId};

/// Which task is where.
#[derive(Debug)]
pub struct Ledger {
    pub(super) entries: Slab<Entry>,
    /// From a task's id to its slot. The ids themselves are in the entries.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub(super) sets: TargetSets,
    pub(super) fleet: Fleet,
    pub(super) estimates: Estimates,
    deadlines: Deadlines,
    /// Tasks that are settled and still hold a slot.
    ghosts: usize,
    next_engine: u32,
    pub(super) next_stamp: u32,
    settled: u64,
    late: u64,
}

impl Ledger {
    /// Makes an empty ledger.
    pub fn new(limits: &Limits) -> Self {
        // An estimate is never more than this, so a task that is not known to be shorter counts as the whole backlog.
        let backlog_ns = limits.engine_backlog_us.saturating_mul(1_000).min(u32::MAX.into());
        let ahead = Ahead { backlog_ns, outstanding: limits.engine_outstanding_max };
        Self {
            entries: Slab::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            sets: TargetSets::new(),
            fleet: Fleet::new(ahead),
            estimates: Estimates::default(),
            deadlines: Deadlines::default(),
            ghosts: 0,
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
        let place = self.fleet.add(Engine::new(id, offer.slots.max(1), offer.is_local));
        self.enlist(place, ANY);
        if offer.is_local {
            self.enlist(place, LOCAL);
        }
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

    /// Callers want tasks run.
    pub fn on_submit(&mut self, now: Moment, requests: Vec<Request>) -> Vec<Order> {
        let mut orders = Vec::with_capacity(requests.len());
        for request in requests {
            self.submit(now, request, &mut orders);
        }
        orders
    }

    /// A caller wants tasks cancelled, wherever they are. Those already settled stay as they are.
    pub fn on_cancel(&mut self, tasks: &[TaskId], reason: &str) -> Vec<Order> {
        let mut orders = Vec::new();
        for &task in tasks {
            if let Some(slot) = self.slot_of(task) {
                self.give_up(slot, TaskError::Cancelled { reason: reason.into() }, &mut orders);
            }
        }
        orders
    }

    /// Everything that is pending is cancelled.
    pub fn on_cancel_all(&mut self, reason: &str) -> Vec<Order> {
        let tasks: Vec<TaskId> = self.entries.iter().map(|(_, entry)| entry.id).collect();
        self.on_cancel(&tasks, reason)
    }

    /// Time has passed: tasks that are due settle as `TimedOut`.
    pub fn on_tick(&mut self, now: Moment) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some(slot) = self.deadlines.pop_due(now) {
            let deadline = self.entry(slot).extras.as_ref().and_then(|extras| extras.deadline);
            self.give_up(slot, TaskError::TimedOut { deadline: deadline.unwrap_or_default() }, &mut orders);
        }
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
        orders
    }

    /// Returns when `on_tick` is next to be called.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// Returns how many tasks are accepted and not settled.
    pub fn pending(&self) -> usize {
        self.entries.len() - self.ghosts
    }

    /// Returns where the tasks are.
    pub fn status(&self) -> QueueStatus {
        let mut engines: Vec<EngineStatus> = self
            .fleet
            .iter()
            .map(|engine| EngineStatus {
                id: engine.id,
                slots: engine.slots,
                outstanding: engine.outstanding,
                queued: engine.direct.len(),
            })
            .collect();
        engines.sort_unstable_by_key(|engine| engine.id);
        let in_sets: usize = self.sets.iter().map(|(_, set)| set.queue.len()).sum();
        QueueStatus {
            pending: self.pending(),
            queued: in_sets + engines.iter().map(|engine| engine.queued).sum::<usize>(),
            engines,
            settled: self.settled,
            late_outcomes: self.late,
            ..QueueStatus::default()
        }
    }

    pub(super) fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    pub(super) fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    fn slot_of(&self, task: TaskId) -> Option<u32> {
        let hash = self.hasher.hash_one(task);
        self.index.find(hash, |&slot| self.entries[slot as usize].id == task).copied()
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
        match line {
            Ok(line) => self.send_or_queue(slot, line, orders),
            Err(error) => self.give_up(slot, error, orders),
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert(slot, now.after(deadline));
        }
    }

    fn insert(&mut self, request: Request, line: Line) -> u32 {
        let hash = self.hasher.hash_one(request.id);
        let entry = Entry {
            id: request.id,
            kind: request.kind,
            payload: Some(request.payload),
            extras: request.extras,
            place: Place::Settling,
            line,
            retries: request.retries,
            used: Default::default(),
            starts: 0,
            cost_ns: 0,
            stamp: 0,
        };
        if let Line::Set(set) = line {
            self.sets.get_mut(set).tasks += 1;
        }
        let slot = self.entries.insert(entry) as u32;
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hash, slot, |&slot| hasher.hash_one(entries[slot as usize].id));
        slot
    }

    /// Takes a task out of the ledger, for good.
    pub(super) fn remove(&mut self, slot: u32) {
        let entry = self.entries.remove(slot as usize);
        self.ghosts -= usize::from(matches!(entry.place, Place::Ghost(_)));
        let hash = self.hasher.hash_one(entry.id);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == slot) {
            found.remove();
        }
        if let Line::Set(set) = entry.line {
            self.sets.get_mut(set).tasks -= 1;
        }
        if entry.extras.is_some() {
            self.deadlines.remove(slot);
        }
        if self.entries.is_empty() && self.entries.capacity() > 4_096 {
            // After a burst the memory goes back.
            self.entries.shrink_to_fit();
            self.index.shrink_to(0, |_| 0);
        }
    }

    /// Finds the queue for a task, or why there is none.
    fn line_for(&mut self, request: &Request) -> Result<Line, TaskError> {
        let needs_local = !request.kind.portable;
        match &request.target {
            Target::Any if !needs_local => Ok(Line::Set(ANY)),
            Target::Any if self.sets.get(LOCAL).members.is_empty() => Err(TaskError::NotPortable),
            Target::Any => Ok(Line::Set(LOCAL)),
            Target::One(engine) => {
                let place = self.fleet.find(*engine).ok_or_else(|| gone(*engine, Attempt(0)))?;
                if needs_local && !self.fleet.get(place).is_local {
                    return Err(TaskError::NotPortable);
                }
                Ok(Line::Direct(place))
            }
            Target::Of(engines) => self.set_for(engines, needs_local).map(Line::Set),
        }
    }

    fn set_for(&mut self, engines: &Arc<[EngineId]>, needs_local: bool) -> Result<u32, TaskError> {
        if engines.is_empty() {
            return Err(TaskError::NoEngines);
        }
        let set = match self.sets.find(engines) {
            Some(set) => set,
            None => self.add_set(engines)?,
        };
        let members = &self.sets.get(set).members;
        if members.is_empty() {
            return Err(gone(engines[0], Attempt(0)));
        }
        if needs_local && members.iter().any(|place| !self.fleet.get(place as u32).is_local) {
            return Err(TaskError::NotPortable);
        }
        Ok(set)
    }

    fn add_set(&mut self, engines: &Arc<[EngineId]>) -> Result<u32, TaskError> {
        let places: Vec<u32> = engines.iter().filter_map(|&engine| self.fleet.find(engine)).collect();
        let full = |()| TaskError::Overloaded { what: "sets of engines", limit: crate::limits::TARGET_SETS_MAX };
        let (set, forgotten) = self.sets.add(engines, Bits::default()).map_err(full)?;
        if let Some(old) = forgotten {
            self.fleet.iter_mut().for_each(|engine| engine.sets.remove(old as usize));
        }
        for place in places {
            self.enlist(place, set);
        }
        Ok(set)
    }

    fn enlist(&mut self, place: u32, set: u32) {
        self.sets.get_mut(set).members.insert(place as usize);
        self.fleet.get_mut(place).sets.insert(set as usize);
    }

    fn on_lost(&mut self, slot: u32, engine: EngineId, cause: &str, orders: &mut Vec<Order>) {
        match self.entry(slot).place {
            Place::At(_) => self.lose(slot, engine, cause, orders),
            Place::Lingering(_) => self.entry_mut(slot).place = Place::Settling,
            Place::Ghost(_) => self.remove(slot),
            Place::Waiting | Place::Settling => {}
        }
    }

    /// Settles a task whose engine is gone.
    fn lose(&mut self, slot: u32, engine: EngineId, cause: &str, orders: &mut Vec<Order>) {
        let entry = self.entry_mut(slot);
        entry.place = Place::Settling;
        let error = TaskError::EngineLost { engine, attempt: entry.attempt(), cause: cause.into() };
        orders.push(Order::Settle { task: entry.id, attempt: entry.attempt(), error });
        orders.extend(entry.payload.take().map(Order::Discard));
    }

    fn on_member_left(&mut self, set: u32, place: u32, engine: EngineId, cause: &str, orders: &mut Vec<Order>) {
        self.sets.get_mut(set).members.remove(place as usize);
        // What may run anywhere waits for the next engine; what may run nowhere any more does not.
        if set == ANY || !self.sets.get(set).members.is_empty() {
            return;
        }
        self.sets.waiting.remove(set as usize);
        for ticket in self.sets.get_mut(set).queue.drain(|_| true) {
            if self.is_good(ticket) {
                self.lose(ticket.slot, engine, cause, orders);
            }
        }
    }

    /// Settles a task that nobody wants any more, wherever it is.
    fn give_up(&mut self, slot: u32, error: TaskError, orders: &mut Vec<Order>) {
        let (place, line) = (self.entry(slot).place, self.entry(slot).line);
        let was_refused = self.entry(slot).payload.is_some() && place == Place::Settling;
        match place {
            Place::Waiting => {
                self.entry_mut(slot).place = Place::Settling;
                self.on_ticket_gone(line);
            }
            Place::At(engine) => {
                self.entry_mut(slot).place = Place::Lingering(engine);
                let engine = self.fleet.get(engine).id;
                orders.push(Order::Revoke { engine, task: self.entry(slot).id });
            }
            Place::Settling if was_refused => {}
            Place::Lingering(_) | Place::Ghost(_) | Place::Settling => return,
        }
        let entry = self.entry_mut(slot);
        orders.extend(entry.payload.take().map(Order::Discard));
        orders.push(Order::Settle { task: entry.id, attempt: entry.attempt(), error });
    }

    /// Takes one task back from an engine. Returns the queue that it now waits in, if it does.
    fn take_back(&mut self, place: u32, back: HandBack, orders: &mut Vec<Order>) -> Option<Line> {
        let HandBack { id, attempt, payload, error } = back;
        let slot = self.slot_of(id).filter(|&slot| {
            let entry = self.entry(slot);
            let is_here = matches!(entry.place, Place::At(p) | Place::Lingering(p) | Place::Ghost(p) if p == place);
            is_here && entry.attempt() == attempt
        });
        let Some(slot) = slot else {
            orders.extend(payload.map(Order::Discard));
            return None;
        };
        self.fleet.on_returned(place, self.entry(slot).cost_ns);
        match self.entry(slot).place {
            Place::Lingering(_) => self.entry_mut(slot).place = Place::Settling,
            Place::Ghost(_) => self.remove(slot),
            _ => return self.try_again(slot, self.fleet.get(place).id, payload, error, orders),
        }
        orders.extend(payload.map(Order::Discard));
        None
    }

    /// Queues a task that came back, if it may start again; else settles it.
    fn try_again(
        &mut self,
        slot: u32,
        engine: EngineId,
        payload: Option<Payload>,
        error: Option<TaskError>,
        orders: &mut Vec<Order>,
    ) -> Option<Line> {
        let entry = self.entry_mut(slot);
        entry.payload = payload;
        let error = match error {
            Some(error) => error,
            None if entry.payload.is_some() => {
                entry.starts -= 1;
                self.queue_first(slot);
                return Some(self.entry(slot).line);
            }
            None => TaskError::EngineLost { engine, attempt: entry.attempt(), cause: "it lost the call".into() },
        };
        let is_loss = matches!(error, TaskError::EngineLost { .. });
        let may = if is_loss { entry.may_retry_losses() } else { entry.may_retry_errors() };
        if !may || entry.payload.is_none() {
            entry.place = Place::Settling;
            orders.extend(entry.payload.take().map(Order::Discard));
            orders.push(Order::Settle { task: entry.id, attempt: entry.attempt(), error });
            return None;
        }
        if is_loss {
            entry.used.losses += 1;
        } else {
            entry.used.errors += 1;
        }
        orders.push(Order::Expect { task: entry.id, attempt: Attempt(entry.starts + 1) });
        self.queue_last(slot);
        Some(self.entry(slot).line)
    }

    /// Notes one outcome. Returns the engine whose slot it freed.
    fn settled(&mut self, task: &SettledTask, orders: &mut Vec<Order>) -> Option<u32> {
        self.late += u64::from(task.verdict == Verdict::Late);
        let slot = self.slot_of(task.id)?;
        let entry = self.entry(slot);
        let from = task.engine.and_then(|engine| self.fleet.find(engine));
        let is_first = task.verdict == Verdict::First;
        let freed = match entry.place {
            // Its outcome would have been the first: this one is of an earlier task with the same id.
            Place::At(_) if !is_first => None,
            Place::At(p) | Place::Lingering(p) | Place::Ghost(p) => {
                (from == Some(p) && entry.attempt() == task.attempt).then_some(p)
            }
            Place::Waiting | Place::Settling => None,
        };
        if let Some(engine) = freed {
            self.measure(slot, engine, task.ran);
        }
        self.move_on(slot, freed.is_some(), is_first, orders);
        freed
    }

    /// Moves a task on by the table in `entry.rs`: was its slot freed, is its outcome confirmed?
    fn move_on(&mut self, slot: u32, is_freed: bool, is_first: bool, orders: &mut Vec<Order>) {
        self.settled += u64::from(is_first);
        let (place, line) = (self.entry(slot).place, self.entry(slot).line);
        match (place, is_freed, is_first) {
            (Place::At(_) | Place::Lingering(_), true, true)
            | (Place::Ghost(_), true, _)
            | (Place::Settling, _, true) => {
                self.remove(slot);
            }
            (Place::At(p) | Place::Lingering(p), false, true) => {
                self.entry_mut(slot).place = Place::Ghost(p);
                self.ghosts += 1;
            }
            (Place::Lingering(_), true, false) => self.entry_mut(slot).place = Place::Settling,
            (Place::Waiting, _, true) => {
                // Settled by somebody else's message while it waited.
                let entry = self.entry_mut(slot);
                entry.place = Place::Settling;
                orders.extend(entry.payload.take().map(Order::Discard));
                self.on_ticket_gone(line);
                self.remove(slot);
            }
            _ => {}
        }
    }

    fn measure(&mut self, slot: u32, engine: u32, ran: Option<Duration>) {
        let (cost_ns, key) = (self.entry(slot).cost_ns, self.entry(slot).kind.key);
        self.fleet.on_returned(engine, cost_ns);
        if let Some(ran) = ran {
            self.estimates.on_measured(key, ran);
        }
    }
}

/// The engine that a task is bound to is not there.
fn gone(engine: EngineId, attempt: Attempt) -> TaskError {
    TaskError::EngineLost { engine, attempt, cause: "it has left the cluster".into() }
}
