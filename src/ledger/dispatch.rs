//! How a task gets from a queue to an engine.

use super::entry::{Line, Place};
use super::events::Ledger;
use super::orders::{Assignment, Order};
use super::queues::Ticket;
use crate::task::Payload;

impl Ledger {
    /// Sends a task to an engine that may take it, or else puts it at the end of its queue.
    pub(super) fn send_or_queue(&mut self, slot: u32, line: Line, orders: &mut Vec<Order>) {
        // Those that wait go first: order is kept within a queue.
        if self.waiting_in(line) > 0 || self.is_held_back(slot, line) {
            return self.queue_last(slot);
        }
        while let Some(engine) = self.engine_for(slot, line) {
            if self.send_portion(slot, engine, orders) {
                return;
            }
        }
        self.queue_last(slot);
    }

    /// Sends the heads of a queue to whichever engines may take them.
    pub(super) fn pump(&mut self, line: Line, orders: &mut Vec<Order>) {
        while !self.is_held(line)
            && let Some(ticket) = self.head(line)
            && let Some(engine) = self.engine_for(ticket.slot, line)
        {
            self.send_head(line, ticket.slot, engine, orders);
        }
    }

    /// Gives an engine as much as it may take, from its queues in turn.
    pub(super) fn refill(&mut self, engine: u32, orders: &mut Vec<Order>) {
        if self.fleet.get(engine).retiring.is_some() {
            return self.run_down(engine, orders);
        }
        let ahead = self.fleet.ahead();
        let mut is_draining = false;
        while let Some(line) = self.next_line(engine) {
            let Some(ticket) = self.head(line) else { continue };
            if !self.fleet.get(engine).can_take(self.cost_ns(ticket.slot), ahead) {
                is_draining = true;
                break;
            }
            self.fleet.get_mut(engine).turn = position_of(line) + 1;
            self.send_head(line, ticket.slot, engine, orders);
        }
        self.fleet.get_mut(engine).is_draining = is_draining;
        self.fleet.list(engine);
    }

    pub(super) fn queue_last(&mut self, slot: u32) {
        let (line, ticket) = self.ticket_for(slot);
        match line {
            Line::Direct(engine) => self.fleet.get_mut(engine).direct.push_back(ticket),
            Line::Set(set) => self.sets.get_mut(set).queue.push_back(ticket),
            Line::None => unreachable!("a refused task is not queued"),
        }
    }

    pub(super) fn queue_first(&mut self, slot: u32) {
        let (line, ticket) = self.ticket_for(slot);
        match line {
            Line::Direct(engine) => self.fleet.get_mut(engine).direct.push_front(ticket),
            Line::Set(set) => self.sets.get_mut(set).queue.push_front(ticket),
            Line::None => unreachable!("a refused task is not queued"),
        }
    }

    /// Notes that a task left its queue without being sent.
    pub(super) fn on_ticket_gone(&mut self, line: Line) {
        let entries = &self.entries;
        let is_good = |ticket: Ticket| entries.get(ticket.slot as usize).is_some_and(|e| e.is_waiting_with(ticket));
        match line {
            Line::Direct(engine) => self.fleet.get_mut(engine).direct.on_gone(is_good),
            Line::Set(set) => {
                let queue = &mut self.sets.get_mut(set).queue;
                queue.on_gone(is_good);
                if queue.len() == 0 {
                    self.sets.waiting.remove(set as usize);
                }
            }
            Line::None => {}
        }
    }

    pub(super) fn is_good(&self, ticket: Ticket) -> bool {
        self.entries.get(ticket.slot as usize).is_some_and(|entry| entry.is_waiting_with(ticket))
    }

    /// Makes a task wait, with a stamp that no earlier ticket has.
    fn ticket_for(&mut self, slot: u32) -> (Line, Ticket) {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        let stamp = self.next_stamp;
        let entry = self.entry_mut(slot);
        entry.stamp = stamp;
        entry.place = Place::Waiting;
        let line = entry.line;
        if let Line::Set(set) = line {
            self.sets.show(set);
        }
        (line, Ticket { slot, stamp })
    }

    /// Sends the head of a queue, or as many tasks of it as the engine is to get; the others stay the head.
    fn send_head(&mut self, line: Line, slot: u32, engine: u32, orders: &mut Vec<Order>) {
        let stamp = self.entry(slot).stamp;
        if self.send_portion(slot, engine, orders) {
            self.pop(line);
        } else {
            debug_assert_eq!(stamp, self.entry(slot).stamp, "what is left keeps its ticket");
        }
    }

    /// Sends an engine as many tasks of an entry as it is to get. Returns whether these were all.
    fn send_portion(&mut self, slot: u32, engine: u32, orders: &mut Vec<Order>) -> bool {
        let count = self.entry(slot).count;
        let portion = if count == 1 { 1 } else { self.portion(slot, engine, self.cost_ns(slot)) };
        let is_all = portion == count;
        let sent = if is_all { slot } else { self.cut_front(slot, portion) };
        if self.entry(sent).payload.as_ref().is_some_and(Payload::is_void) {
            // Each was cancelled by itself, and is settled by itself.
            self.remove(sent);
        } else {
            self.send(sent, engine, orders);
        }
        is_all
    }

    fn send(&mut self, slot: u32, engine: u32, orders: &mut Vec<Order>) {
        let cost_ns = self.cost_ns(slot).saturating_mul(self.entry(slot).count);
        self.fleet.on_sent(engine, cost_ns, self.entry(slot).movable());
        let to = self.fleet.get(engine).id;
        let entry = self.entry_mut(slot);
        entry.place = Place::At(engine);
        entry.starts += 1;
        entry.cost_ns = cost_ns;
        let payload = entry.payload.take().expect("a task that waits has its call");
        let assignment = Assignment {
            id: entry.id,
            attempt: entry.attempt(),
            may_retry: entry.may_retry_errors(),
            payload,
            extras: entry.extras.clone(),
        };
        orders.push(Order::Run { engine: to, assignment });
    }

    fn engine_for(&mut self, slot: u32, line: Line) -> Option<u32> {
        let cost_ns = self.cost_ns(slot);
        match line {
            Line::Direct(place) => {
                let engine = self.fleet.get(place);
                (!engine.is_draining && engine.can_take(cost_ns, self.fleet.ahead())).then_some(place)
            }
            Line::Set(set) => {
                let Self { fleet, sets, knowing, .. } = self;
                let target = sets.get(set);
                let is_for_all = target.is_of_any() && !knowing.is_needed();
                fleet.pick((!is_for_all).then_some(&target.members), cost_ns)
            }
            Line::None => None,
        }
    }

    /// What one task of an entry is expected to take. A kind that never ran counts as the whole backlog: it needs an idle
    /// slot, and nothing is sent behind it.
    fn cost_ns(&self, slot: u32) -> u32 {
        let unknown = u32::try_from(self.fleet.ahead().backlog_ns).unwrap_or(u32::MAX);
        self.estimates.expected_ns(self.entry(slot).kind.key).unwrap_or(unknown)
    }

    fn waiting_in(&self, line: Line) -> usize {
        match line {
            Line::Direct(engine) => self.fleet.get(engine).direct.len(),
            Line::Set(set) => self.sets.get(set).queue.len(),
            Line::None => 0,
        }
    }

    /// Returns the next of an engine's queues that has a task, in turn.
    fn next_line(&mut self, engine: u32) -> Option<Line> {
        let has_direct = self.fleet.get(engine).direct.len() > 0 && !self.is_held(Line::Direct(engine));
        let Self { fleet, sets, .. } = self;
        let engine_ref = fleet.get(engine);
        let turn = engine_ref.turn;
        if turn == 0 && has_direct {
            return Some(Line::Direct(engine));
        }
        let from = turn.saturating_sub(1);
        if let Some(set) = engine_ref.sets.first_from(from, &sets.waiting) {
            return Some(Line::Set(set as u32));
        }
        if has_direct {
            return Some(Line::Direct(engine));
        }
        engine_ref.sets.first_from(0, &sets.waiting).map(|set| Line::Set(set as u32))
    }

    pub(super) fn head(&mut self, line: Line) -> Option<Ticket> {
        let entries = &self.entries;
        let is_good = |ticket: Ticket| entries.get(ticket.slot as usize).is_some_and(|e| e.is_waiting_with(ticket));
        match line {
            Line::Direct(engine) => self.fleet.get_mut(engine).direct.front(is_good),
            Line::Set(set) => self.sets.get_mut(set).queue.front(is_good),
            Line::None => None,
        }
    }

    fn pop(&mut self, line: Line) {
        match line {
            Line::Direct(engine) => self.fleet.get_mut(engine).direct.pop_front(),
            Line::Set(set) => {
                let queue = &mut self.sets.get_mut(set).queue;
                queue.pop_front();
                if queue.len() == 0 {
                    self.sets.waiting.remove(set as usize);
                }
            }
            Line::None => {}
        }
    }
}

/// The position of a queue in the round over an engine's queues.
fn position_of(line: Line) -> usize {
    match line {
        Line::Direct(_) | Line::None => 0,
        Line::Set(set) => set as usize + 1,
    }
}
