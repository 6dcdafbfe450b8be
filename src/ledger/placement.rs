//! The engines, how loaded each is, and which one a task should go to.
//!
//! An engine may take a task if it has an idle slot, or if the task and all that was sent there before are
//! expected to run for less than the backlog limit: so tiny tasks are sent ahead by the thousand, and no
//! task waits behind a long one while another engine is idle.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use slab::Slab;

use super::ages::Ages;
use super::bits::{Bits, Mask};
use super::orders::EngineOffer;
use super::policy::{Policy, Random};
use super::queues::Queue;
use crate::task::{EngineId, TaskTable};

/// One engine, as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) id: EngineId,
    pub(super) slots: u32,
    pub(super) is_local: bool,
    /// The tasks that it can run, if these are not all.
    pub(super) tasks: Option<Arc<TaskTable>>,
    /// Tasks sent and not yet returned.
    pub(super) outstanding: u32,
    /// Tasks that were settled by what it returned.
    pub(super) settled: u64,
    /// What those sent are expected to take, in nanoseconds.
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
    /// Why it is to go: nothing more is sent to it, and it leaves when it has returned what it has.
    pub(super) retiring: Option<Box<str>>,
    /// It is lost, and whoever stands for it has still to hand back what it had.
    pub(super) is_failing: bool,
    /// The count of tasks given when it was last given one.
    pub(super) last_given: u64,
    /// Where it stands in line, and since which count.
    in_line: Option<(usize, u64)>,
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
pub(super) const LEVELS: usize = 8;

/// How many engines of one load are tried for a task that may just not fit.
const TRIES: usize = 4;

/// How many engines are tried for a task that may just not fit, where the policy does not look at the load; then
/// those with an idle slot, which may take any.
pub(super) const FITS_MAX: usize = 64;

/// The engines, found by id, by place and by load.
#[derive(Debug)]
pub(super) struct Fleet {
    engines: Slab<Engine>,
    by_id: HashMap<EngineId, u32>,
    levels: [Bits; LEVELS],
    /// Those that have more than they can run at once, and were not asked for it.
    givers: Bits,
    /// The idle ones and the others that may take more, by when they were last given a task; kept for `Lru` only.
    lines: [BTreeSet<(u64, u32)>; 2],
    /// When each was last given a task, for sets of them; kept for `Lru` only.
    ages: Ages,
    /// One above the highest place there ever was.
    highest: usize,
    /// How often a task was given to some engine.
    given: u64,
    ahead: Ahead,
    pub(super) policy: Policy,
    pub(super) random: Random,
}

impl Engine {
    pub(super) fn new(id: EngineId, offer: EngineOffer) -> Self {
        let EngineOffer { slots, is_local, tasks } = offer;
        Self {
            id,
            slots: slots.max(1),
            is_local,
            tasks,
            outstanding: 0,
            settled: 0,
            backlog_ns: 0,
            direct: Queue::default(),
            sets: Mask::default(),
            is_draining: false,
            movable: 0,
            is_silent: false,
            is_recalled: false,
            retiring: None,
            is_failing: false,
            last_given: 0,
            in_line: None,
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
        if self.retiring.is_some() {
            return false;
        }
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
        if self.is_draining || self.retiring.is_some() {
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
    pub(super) fn new(ahead: Ahead, policy: Policy, seed: u64) -> Self {
        Self {
            engines: Slab::new(),
            by_id: HashMap::new(),
            levels: Default::default(),
            givers: Bits::default(),
            lines: Default::default(),
            ages: Ages::default(),
            highest: 0,
            given: 0,
            ahead,
            policy,
            random: Random::new(seed),
        }
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

    pub(super) fn places_where(&self, is_meant: impl Fn(&Engine) -> bool) -> Vec<u32> {
        self.engines.iter().filter(|(_, engine)| is_meant(engine)).map(|(place, _)| place as u32).collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.engines.iter_mut().map(|(_, engine)| engine)
    }

    pub(super) fn add(&mut self, engine: Engine) -> u32 {
        let id = engine.id;
        let place = self.engines.insert(engine) as u32;
        self.by_id.insert(id, place);
        self.highest = self.highest.max(place as usize + 1);
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
        if let Some((line, given)) = engine.in_line {
            self.lines[line].remove(&(given, place));
        }
        if self.policy == Policy::Lru {
            // The next engine at this place has never been given one.
            self.ages.change(place, engine.last_given, 0);
        }
        engine
    }

    /// Notes that a task or a piece was sent; `movable` of its tasks might run elsewhere.
    pub(super) fn on_sent(&mut self, place: u32, cost_ns: u32, movable: u32) {
        self.given += 1;
        let given = self.given;
        let engine = self.get_mut(place);
        let before = std::mem::replace(&mut engine.last_given, given);
        if engine.outstanding == 0 {
            engine.is_silent = false;
        }
        engine.outstanding += 1;
        engine.backlog_ns += u64::from(cost_ns);
        engine.movable += movable;
        if self.policy == Policy::Lru {
            self.ages.change(place, before, given);
        }
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

    fn on_giver(&mut self, place: u32, is_giver: bool) {
        if is_giver {
            self.givers.insert(place as usize);
        } else {
            self.givers.remove(place as usize);
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
        let was_giver = std::mem::replace(&mut engine.is_giver, is_giver);
        let (old, new) = (engine.level, engine.level_now(ahead));
        engine.level = new;
        if was_giver != is_giver {
            self.on_giver(place, is_giver);
        }
        if self.policy == Policy::Lru {
            self.line_up(place);
        }
        if old == new {
            return;
        }
        if let Some(level) = old {
            self.levels[level as usize].remove(place as usize);
        }
        if let Some(level) = new {
            self.levels[level as usize].insert(place as usize);
        }
    }

    /// Returns how many places there are; some may be empty.
    pub(super) fn places(&self) -> usize {
        self.highest
    }

    /// Returns the engines of one load that may take more.
    pub(super) fn listed(&self, level: usize) -> &Bits {
        &self.levels[level]
    }

    /// Returns whether there is an engine at this place, one of `members`, that may take a task now.
    pub(super) fn may_take(&self, place: u32, members: Option<&Bits>, cost_ns: u32) -> bool {
        let Some(engine) = self.engines.get(place as usize) else { return false };
        let is_member = members.is_none_or(|members| members.contains(place as usize));
        is_member && engine.level.is_some() && engine.can_take(cost_ns, self.ahead)
    }

    /// Returns the least loaded engine of `members` (all, if `None`) that may take a task now.
    ///
    /// Of equals the first is taken: it ran last, and its thread is likely awake.
    pub(super) fn least_loaded(&self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        let levels = if self.is_short(cost_ns) { LEVELS } else { 1 };
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

    /// Returns whether a task may be sent ahead: a long one waits for an idle slot.
    pub(super) fn is_short(&self, cost_ns: u32) -> bool {
        u64::from(cost_ns) < self.ahead.backlog_ns
    }

    /// Returns the engine that may take a task now and was given one the longest time ago.
    pub(super) fn first_in_line(&self, cost_ns: u32) -> Option<u32> {
        let [idle, busy] = &self.lines;
        let is_good = |&&(_, place): &&(u64, u32)| self.may_take(place, None, cost_ns);
        let first_busy = if self.is_short(cost_ns) { busy.iter().take(FITS_MAX).find(is_good) } else { None };
        idle.first().into_iter().chain(first_busy).min().map(|&(_, place)| place)
    }

    /// Returns the engine of `members` that may take a task now and was given one the longest time ago.
    pub(super) fn first_in_line_of(&self, members: &Bits, cost_ns: u32) -> Option<u32> {
        let mut candidates = self.candidates(Some(members), cost_ns);
        for _ in 0..FITS_MAX {
            let oldest = self.ages.oldest(candidates.clone())?;
            if self.may_take(oldest, None, cost_ns) {
                return Some(oldest);
            }
            candidates.remove(oldest);
        }
        self.ages.oldest(self.idle(Some(members)))
    }

    /// Lines an engine up by when it was last given a task, if it may take one and somebody asks.
    fn line_up(&mut self, place: u32) {
        let engine = &mut self.engines[place as usize];
        let now = engine.level.map(|level| (usize::from(level > 0), engine.last_given));
        let before = std::mem::replace(&mut engine.in_line, now);
        if before == now {
            return;
        }
        if let Some((line, given)) = before {
            self.lines[line].remove(&(given, place));
        }
        if let Some((line, given)) = now {
            self.lines[line].insert((given, place));
        }
    }
}
