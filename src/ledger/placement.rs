//! The engines, how loaded each is, and which one a task should go to.
//!
//! An engine may take a task if it has an idle slot, or if the task and all that was sent there before are
//! expected to run for less than the backlog limit: so tiny tasks are sent ahead by the thousand, and no
//! task waits behind a long one while another engine is idle.

use hashbrown::HashMap;

use slab::Slab;

use super::bits::{Bits, Mask};
use super::queues::Queue;
use crate::task::EngineId;

/// One engine, as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) id: EngineId,
    pub(super) slots: u32,
    pub(super) is_local: bool,
    /// Tasks sent and not yet returned.
    pub(super) outstanding: u32,
    /// What those are expected to take, in nanoseconds.
    pub(super) backlog_ns: u64,
    /// Tasks for this engine and no other.
    pub(super) direct: Queue,
    /// The target sets it is a member of.
    pub(super) sets: Mask,
    /// The task at the head of a queue does not fit yet. Nothing else is sent until it does, or a stream
    /// of small tasks would keep it waiting for ever.
    pub(super) is_draining: bool,
    /// Of the tasks sent and not yet returned, those that another engine might run.
    pub(super) movable: u32,
    /// It has returned nothing since the last look; see `recall.rs`.
    pub(super) is_silent: bool,
    /// It was asked to hand back what it has not started, and has returned nothing since.
    pub(super) is_recalled: bool,
    /// Where the round over its queues goes on: 0 is its own queue, `s + 1` that of set `s`.
    pub(super) turn: usize,
    /// Under which load it is listed.
    level: Option<u8>,
    /// Whether it is listed as one that has more than it can run at once.
    is_giver: bool,
}

/// What may be sent to an engine ahead of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) backlog_ns: u64,
    pub(super) outstanding: u32,
}

/// Loads are told apart by powers of two: 0 is an idle slot.
const LEVELS: usize = 8;

/// How many engines of one load are tried for a task that may just not fit.
const TRIES: usize = 4;

/// The engines, found by id, by place and by load.
#[derive(Debug)]
pub(super) struct Fleet {
    engines: Slab<Engine>,
    by_id: HashMap<EngineId, u32>,
    levels: [Bits; LEVELS],
    /// Those that have more than they can run at once, and were not asked for it.
    givers: Bits,
    ahead: Ahead,
}

impl Engine {
    pub(super) fn new(id: EngineId, slots: u32, is_local: bool) -> Self {
        Self {
            id,
            slots,
            is_local,
            outstanding: 0,
            backlog_ns: 0,
            direct: Queue::default(),
            sets: Mask::default(),
            is_draining: false,
            movable: 0,
            is_silent: false,
            is_recalled: false,
            turn: 0,
            level: None,
            is_giver: false,
        }
    }

    pub(super) fn can_take(&self, cost_ns: u32, ahead: Ahead) -> bool {
        let cost_ns = u64::from(cost_ns);
        let room_ns = ahead.backlog_ns.saturating_mul(self.slots.into());
        // With several slots there may be room for a long task too, but it waits for an idle one.
        let is_short = cost_ns < ahead.backlog_ns;
        self.outstanding < self.slots
            || (is_short
                && !self.is_recalled
                && self.outstanding < ahead.outstanding
                && self.backlog_ns + cost_ns <= room_ns)
    }

    /// Returns how much expected run time may be sent, in nanoseconds; an idle engine takes a whole backlog.
    pub(super) fn room_ns(&self, ahead: Ahead) -> u64 {
        let room_ns = ahead.backlog_ns.saturating_mul(self.slots.into()).saturating_sub(self.backlog_ns);
        if self.outstanding < self.slots { room_ns.max(ahead.backlog_ns) } else { room_ns }
    }

    fn level_now(&self, ahead: Ahead) -> Option<u8> {
        if self.is_draining {
            return None;
        }
        if self.outstanding < self.slots {
            return Some(0);
        }
        let load = (self.outstanding / self.slots).ilog2() as usize;
        self.can_take(1, ahead).then_some((1 + load).min(LEVELS - 1) as u8)
    }
}

impl Fleet {
    pub(super) fn new(ahead: Ahead) -> Self {
        Self { engines: Slab::new(), by_id: HashMap::new(), levels: Default::default(), givers: Bits::default(), ahead }
    }

    pub(super) fn ahead(&self) -> Ahead {
        self.ahead
    }

    /// Returns how many engines there are.
    pub(super) fn len(&self) -> u32 {
        self.engines.len() as u32
    }

    pub(super) fn find(&self, id: EngineId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, place: u32) -> &Engine {
        &self.engines[place as usize]
    }

    pub(super) fn get_mut(&mut self, place: u32) -> &mut Engine {
        &mut self.engines[place as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter().map(|(_, engine)| engine)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.engines.iter_mut().map(|(_, engine)| engine)
    }

    pub(super) fn add(&mut self, engine: Engine) -> u32 {
        let id = engine.id;
        let place = self.engines.insert(engine) as u32;
        self.by_id.insert(id, place);
        self.list(place);
        place
    }

    pub(super) fn remove(&mut self, place: u32) -> Engine {
        let engine = self.engines.remove(place as usize);
        self.by_id.remove(&engine.id);
        if let Some(level) = engine.level {
            self.levels[level as usize].remove(place as usize);
        }
        self.givers.remove(place as usize);
        engine
    }

    /// Notes that a task or a piece was sent; `movable` of its tasks might run elsewhere.
    pub(super) fn on_sent(&mut self, place: u32, cost_ns: u32, movable: u32) {
        let engine = self.get_mut(place);
        if engine.outstanding == 0 {
            engine.is_silent = false;
        }
        engine.outstanding += 1;
        engine.backlog_ns += u64::from(cost_ns);
        engine.movable += movable;
        self.list(place);
    }

    /// Notes that a task or a piece came back.
    pub(super) fn on_returned(&mut self, place: u32, cost_ns: u32, movable: u32) {
        let engine = self.get_mut(place);
        engine.outstanding -= 1;
        engine.backlog_ns -= u64::from(cost_ns);
        engine.movable -= movable;
        self.list(place);
    }

    /// Notes that a part of a piece came back.
    pub(super) fn on_returned_in_part(&mut self, place: u32, movable: u32) {
        self.get_mut(place).movable -= movable;
        self.list(place);
    }

    /// Notes that an engine came to the end of something.
    pub(super) fn on_progress(&mut self, place: u32) {
        let engine = self.get_mut(place);
        engine.is_silent = false;
        if std::mem::take(&mut engine.is_recalled) {
            self.list(place);
        }
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.levels[0].is_empty()
    }

    pub(super) fn has_idle_of(&self, members: &Bits) -> bool {
        self.levels[0].first_from(0, Some(members)).is_some()
    }

    pub(super) fn has_givers(&self) -> bool {
        !self.givers.is_empty()
    }

    pub(super) fn givers(&self) -> Vec<u32> {
        self.givers.iter().map(|place| place as u32).collect()
    }

    /// Lists an engine under its present load.
    pub(super) fn list(&mut self, place: u32) {
        let ahead = self.ahead;
        let engine = self.get_mut(place);
        let is_giver = engine.movable > engine.slots && !engine.is_recalled;
        if std::mem::replace(&mut engine.is_giver, is_giver) != is_giver {
            if is_giver {
                self.givers.insert(place as usize);
            } else {
                self.givers.remove(place as usize);
            }
        }
        let engine = self.get_mut(place);
        let (old, new) = (engine.level, engine.level_now(ahead));
        if old == new {
            return;
        }
        engine.level = new;
        if let Some(level) = old {
            self.levels[level as usize].remove(place as usize);
        }
        if let Some(level) = new {
            self.levels[level as usize].insert(place as usize);
        }
    }

    /// Returns the least loaded engine of `members` (all, if `None`) that may take a task now.
    ///
    /// Of equals the first is taken: it ran last, and its thread is likely awake.
    pub(super) fn pick(&self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        let levels = if u64::from(cost_ns) < self.ahead.backlog_ns { LEVELS } else { 1 };
        for level in &self.levels[..levels] {
            let mut from = 0;
            for _ in 0..TRIES {
                let Some(place) = level.first_from(from, members) else { break };
                if self.engines[place].can_take(cost_ns, self.ahead) {
                    return Some(place as u32);
                }
                from = place + 1;
            }
        }
        None
    }
}
