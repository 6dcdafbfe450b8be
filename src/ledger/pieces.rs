//! Pieces of a map: tasks with consecutive ids that are one entry.
//!
//! A map comes as one entry of all its items. When an engine may take some, that many are cut off the front
//! and sent as an entry of their own: as many as are expected to run for half the backlog of an engine, and
//! fewer towards the end of the map, so that the engines end together. An engine may return the beginning of
//! a piece as outcomes and the rest as not started, in either order; each is cut off as it comes. And items
//! may be cancelled one by one: in a piece that waits they leave holes, in one that was sent they run on and
//! their outcomes are late.

use std::collections::BTreeMap;

use super::entry::{Entry, Line, Place};
use super::events::Ledger;
use super::orders::{EngineStatus, Order, SettledTask};
use crate::error::TaskError;
use crate::task::{Attempt, EngineId, Payload, Span, TaskId};

/// Into how many pieces for each engine the rest of a map is cut at least.
const PIECES_PER_ENGINE: u32 = 2;

impl Ledger {
    /// Returns how many tasks of an entry an engine is to get, given what each is expected to take.
    pub(super) fn portion(&self, slot: u32, engine: u32, cost_ns: u32) -> u32 {
        let entry = self.entry(slot);
        // Whoever may start again, or is kept by its own id, travels alone.
        let is_alone = entry.retries.errors > 0 || entry.extras.as_ref().is_some_and(|extras| extras.keep);
        if is_alone {
            return 1;
        }
        if let Some(size) = entry.extras.as_ref().and_then(|extras| extras.chunksize) {
            return size.get().min(entry.count);
        }
        let ahead = self.fleet.ahead();
        let room_ns = self.fleet.get(engine).room_ns(ahead).min(ahead.backlog_ns / 2);
        let in_time = u32::try_from(room_ns / u64::from(cost_ns.max(1))).unwrap_or(u32::MAX);
        let in_turn = match entry.line {
            Line::Direct(_) | Line::None => entry.count,
            Line::Set(_) => entry.count.div_ceil(PIECES_PER_ENGINE * self.fleet.len().max(1)),
        };
        in_time.min(in_turn).clamp(1, entry.count)
    }

    /// Cuts the first `count` tasks off an entry, into one of their own. The rest keeps its ticket.
    pub(super) fn cut_front(&mut self, slot: u32, count: u32) -> u32 {
        self.unindex(slot);
        let entry = self.entry_mut(slot);
        debug_assert!(count < entry.count, "something is left behind the cut");
        let payload = entry.payload.as_mut().and_then(|payload| payload.split_front(count));
        let front = Entry { count, payload, extras: entry.extras.clone(), ..*entry };
        entry.id = entry.id.plus(count);
        entry.count -= count;
        if let Line::Set(set) = front.line {
            self.sets.on_task_came(set, front.id.client);
        }
        let front = self.entries.insert(front) as u32;
        self.index(slot);
        self.index(front);
        if let Some(due) = self.deadlines.due(slot) {
            self.deadlines.insert(front, due);
        }
        front
    }

    /// Returns the entries that have tasks of the span.
    pub(super) fn slots_in(&self, span: Span) -> Vec<u32> {
        let mut slots = Vec::new();
        if span.count as usize > self.entries.len() {
            // Whoever cancels may name more tasks than there are.
            let in_it = self.entries.iter().filter(|(_, entry)| entry.span().common(span).is_some());
            slots.extend(in_it.map(|(slot, _)| slot as u32));
            slots.sort_unstable_by_key(|&slot| self.entry(slot).id);
            return slots;
        }
        let mut at = 0;
        while at < span.count {
            let task = span.first.plus(at);
            let Some(slot) = self.slot_with(task) else {
                at += 1;
                continue;
            };
            slots.push(slot);
            let last = self.entry(slot).span().last().seq;
            at += u32::try_from(last - task.seq).unwrap_or(u32::MAX).saturating_add(1);
        }
        slots
    }

    /// Returns those of the tasks that engines have, cancelled or not, by engine.
    pub fn sent_of(&self, tasks: &[Span]) -> Vec<(EngineId, Vec<TaskId>)> {
        let mut sent = BTreeMap::<EngineId, Vec<TaskId>>::new();
        for &span in tasks {
            for slot in self.slots_in(span) {
                if let Some(engine) = self.engine_of(slot)
                    && let Some(common) = self.entry(slot).span().common(span)
                {
                    sent.entry(engine).or_default().extend((0..common.count).map(|at| common.first.plus(at)));
                }
            }
        }
        sent.into_iter().collect()
    }

    /// Gives up the tasks of an entry that are in the span.
    pub(super) fn give_up_in_part(
        &mut self,
        slot: u32,
        span: Span,
        error: impl Fn() -> TaskError,
        orders: &mut Vec<Order>,
    ) {
        let entry = self.entry_mut(slot);
        let Some(part) = entry.span().common(span) else { return };
        if part == entry.span() {
            return self.give_up(slot, error(), orders);
        }
        if !matches!(entry.place, Place::Waiting | Place::At(_)) {
            return;
        }
        let at = match entry.place {
            Place::At(place) => Some(self.fleet.get(place).id),
            _ => None,
        };
        let entry = self.entry_mut(slot);
        entry.is_thinned |= entry.payload.is_none();
        let from = (part.first.seq - entry.id.seq) as u32;
        let punched = entry.payload.as_mut().and_then(|payload| payload.punch(from, part.count));
        orders.extend(punched.map(Order::Discard));
        orders.push(Order::Settle { tasks: part, attempt: entry.attempt(), at, error: error(), printed: None });
        if entry.payload.as_ref().is_some_and(Payload::is_void) {
            // Each was given up by itself, and is confirmed by itself.
            let line = entry.line;
            entry.place = Place::Settling;
            self.on_ticket_gone(line);
            self.remove(slot);
        }
    }

    /// Notes outcomes that are not those of one entry.
    pub(super) fn settled_otherwise(&mut self, task: &SettledTask) {
        let span = Span { first: task.id, count: task.count };
        let Some(engine) = task.engine else { return self.confirm(span) };
        let Some(place) = self.fleet.find(engine) else { return };
        // The beginning of a piece whose rest is on its way back.
        if let Some(slot) = self.slot_of(task.id)
            && self.entry(slot).count > task.count
            && self.is_at(slot, place, task.attempt)
        {
            let front = self.cut_front(slot, task.count);
            self.fleet.on_returned_in_part(place, self.entry(front).movable());
            self.fleet.on_progress(place);
            if let Some(ran) = task.ran {
                self.estimates.on_measured(self.entry(front).kind.key, ran / task.count);
            }
            self.remove(front);
        }
    }

    /// Finds the entry that an engine returns, whole or the end of it.
    pub(super) fn returned_by(&self, engine: u32, span: Span, attempt: Attempt) -> Option<u32> {
        let slot = self.slot_with(span.first)?;
        let is_its_end = self.entry(slot).span().last() == span.last();
        (is_its_end && self.is_at(slot, engine, attempt)).then_some(slot)
    }

    /// Adds to a status what an entry of several tasks counts beyond one. Returns those that wait for no
    /// engine in particular.
    pub(super) fn count_pieces(&self, engines: &mut [EngineStatus]) -> usize {
        let mut queued = 0;
        for &slot in self.pieces.values() {
            let entry = self.entry(slot);
            // Of what waits only those that were not given up.
            let more = entry.payload.as_ref().map_or(entry.count, Payload::live).saturating_sub(1);
            let (sent, waiting, place) = match (entry.place, entry.line) {
                (Place::At(place) | Place::Lingering(place) | Place::Ghost(place), _) => (more, 0, place),
                (Place::Waiting, Line::Direct(place)) => (0, more, place),
                (Place::Waiting, _) => {
                    queued += more as usize;
                    continue;
                }
                (Place::Settling, _) => continue,
            };
            let id = self.fleet.get(place).id;
            if let Some(engine) = engines.iter_mut().find(|engine| engine.id == id) {
                engine.outstanding += sent;
                engine.queued += waiting as usize;
            }
        }
        queued
    }

    /// The result store confirms that these tasks are settled, which were given up in other pieces than they
    /// are in by now.
    fn confirm(&mut self, span: Span) {
        for slot in self.slots_in(span) {
            if self.entry(slot).span().common(span) != Some(self.entry(slot).span()) {
                continue;
            }
            match self.entry(slot).place {
                Place::Lingering(place) => self.entry_mut(slot).place = Place::Ghost(place),
                Place::Settling => self.remove(slot),
                Place::Waiting | Place::At(_) | Place::Ghost(_) => {}
            }
        }
    }

    /// Finds the entry that a task is in.
    pub(super) fn slot_with(&self, task: TaskId) -> Option<u32> {
        self.slot_of(task).or_else(|| {
            let (_, &slot) = self.pieces.range(..task).next_back()?;
            self.entry(slot).span().contains(task).then_some(slot)
        })
    }

    fn is_at(&self, slot: u32, engine: u32, attempt: Attempt) -> bool {
        let entry = self.entry(slot);
        let is_here = matches!(entry.place, Place::At(p) | Place::Lingering(p) | Place::Ghost(p) if p == engine);
        is_here && entry.attempt() == attempt
    }
}
