//! How a task leaves an engine or the ledger: given up, lost, handed back, settled.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Line, Place};
use super::events::Ledger;
use super::orders::{HandBack, Order, SettledTask};
use crate::error::TaskError;
use crate::task::{Attempt, EngineId, Payload, Printed, Span};

impl Ledger {
    /// Settles a task that nobody wants any more, wherever it is.
    pub(super) fn give_up(&mut self, slot: u32, error: TaskError, orders: &mut Vec<Order>) {
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
        let at = self.engine_of(slot);
        let entry = self.entry_mut(slot);
        orders.extend(entry.payload.take().map(Order::Discard));
        orders.push(Order::Settle { tasks: entry.span(), attempt: entry.attempt(), at, error, printed: None });
    }

    /// Returns the engine that a task is at.
    pub(super) fn engine_of(&self, slot: u32) -> Option<EngineId> {
        match self.entry(slot).place {
            Place::At(place) | Place::Lingering(place) | Place::Ghost(place) => Some(self.fleet.get(place).id),
            Place::Waiting | Place::Settling => None,
        }
    }

    pub(super) fn on_lost(&mut self, slot: u32, engine: EngineId, cause: &str, orders: &mut Vec<Order>) {
        match self.entry(slot).place {
            Place::At(_) => self.lose(slot, engine, cause, orders),
            Place::Lingering(_) => self.entry_mut(slot).place = Place::Settling,
            Place::Ghost(_) => self.remove(slot),
            Place::Waiting | Place::Settling => {}
        }
    }

    /// Settles a task whose engine is gone.
    pub(super) fn lose(&mut self, slot: u32, engine: EngineId, cause: &str, orders: &mut Vec<Order>) {
        let entry = self.entry_mut(slot);
        entry.place = Place::Settling;
        let error = TaskError::EngineLost { engine, attempt: entry.attempt(), cause: cause.into() };
        let (attempt, at) = (entry.attempt(), (entry.attempt() > Attempt(0)).then_some(engine));
        orders.push(Order::Settle { tasks: entry.span(), attempt, at, error, printed: None });
        orders.extend(entry.payload.take().map(Order::Discard));
    }

    /// Takes one task back from an engine. Returns the queue that it now waits in, if it does.
    pub(super) fn take_back(&mut self, place: u32, back: HandBack, orders: &mut Vec<Order>) -> Option<Line> {
        let HandBack { id, count, attempt, payload, error, printed } = back;
        let Some(slot) = self.returned_by(place, Span { first: id, count }, attempt) else {
            orders.extend(payload.map(Order::Discard));
            return None;
        };
        if error.is_some() {
            self.fleet.on_progress(place);
        }
        if self.entry(slot).id == id {
            let entry = self.entry(slot);
            self.fleet.on_returned(place, entry.cost_ns, entry.movable());
        } else {
            // The end of a piece whose beginning stays with the engine, and holds its slot.
            let kept = (id.seq - self.entry(slot).id.seq) as u32;
            self.cut_front(slot, kept);
            self.fleet.on_returned_in_part(place, self.entry(slot).movable());
        }
        match self.entry(slot).place {
            Place::Lingering(_) => self.entry_mut(slot).place = Place::Settling,
            Place::Ghost(_) => self.remove(slot),
            _ => return self.try_again(slot, self.fleet.get(place).id, payload, error, printed, orders),
        }
        orders.extend(payload.map(Order::Discard));
        None
    }

    /// Queues a task that came back, if it may start again; else settles it.
    pub(super) fn try_again(
        &mut self,
        slot: u32,
        engine: EngineId,
        payload: Option<Payload>,
        error: Option<TaskError>,
        printed: Option<Arc<Printed>>,
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
            let (tasks, attempt, at) = (entry.span(), entry.attempt(), Some(engine));
            orders.push(Order::Settle { tasks, attempt, at, error, printed });
            return None;
        }
        if is_loss {
            entry.used.losses += 1;
        } else {
            entry.used.errors += 1;
        }
        orders.push(Order::Expect { tasks: entry.span(), attempt: Attempt(u32::from(entry.starts) + 1) });
        self.queue_last(slot);
        Some(self.entry(slot).line)
    }

    /// Notes one outcome. Returns the engine whose slot it freed.
    pub(super) fn settled(&mut self, task: &SettledTask, orders: &mut Vec<Order>) -> Option<u32> {
        self.late += u64::from(task.count - task.won);
        self.settled += u64::from(task.won);
        self.pending = self.pending.saturating_sub(task.won as usize);
        let from = task.engine.and_then(|engine| self.fleet.find(engine));
        if let Some(engine) = from {
            self.fleet.get_mut(engine).settled += u64::from(task.won);
        }
        let Some(slot) = self.slot_of(task.id).filter(|&slot| self.entry(slot).count == task.count) else {
            self.settled_otherwise(task);
            return None;
        };
        let entry = self.entry(slot);
        // The scheduler's own word of tasks that it gave up; of pieces each of whose items was given up before by
        // itself, it counts for none, and yet no other word will come.
        let is_confirmed = task.engine.is_none() && matches!(entry.place, Place::Lingering(_) | Place::Settling);
        let is_first = task.won > 0 || is_confirmed;
        let freed = match entry.place {
            // Its outcome would have been the first: this one is of an earlier task with the same id.
            Place::At(_) if !is_first && !entry.is_thinned => None,
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
    pub(super) fn move_on(&mut self, slot: u32, is_freed: bool, is_first: bool, orders: &mut Vec<Order>) {
        let (place, line) = (self.entry(slot).place, self.entry(slot).line);
        match (place, is_freed, is_first) {
            (Place::At(_), true, _)
            | (Place::Lingering(_), true, true)
            | (Place::Ghost(_), true, _)
            | (Place::Settling, _, true) => {
                self.remove(slot);
            }
            (Place::At(p) | Place::Lingering(p), false, true) => {
                self.entry_mut(slot).place = Place::Ghost(p);
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

    pub(super) fn measure(&mut self, slot: u32, engine: u32, ran: Option<Duration>) {
        let entry = self.entry(slot);
        let Entry { cost_ns, kind, count, .. } = *entry;
        self.fleet.on_returned(engine, cost_ns, entry.movable());
        self.fleet.on_progress(engine);
        if let Some(ran) = ran {
            self.estimates.on_measured(kind.key, ran / count);
        }
    }
}
