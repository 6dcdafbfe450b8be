//! The engines, found by id, by place, by load, and in line.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use slab::Slab;

use super::ages::Ages;
use super::bits::Bits;
use super::engine::{Ahead, Engine, LEVELS};
use super::policy::{Policy, Random};
use crate::task::EngineId;

/// The engines, found by id, by place and by load.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) engines: Slab<Engine>,
    by_id: HashMap<EngineId, u32>,
    /// Those that may take more, by their load.
    pub(super) levels: [Bits; LEVELS],
    /// Those that have more than they can run at once, and were not asked for it.
    givers: Bits,
    /// The idle ones and the others that may take more, by when they were last given a task; kept for `Lru` only.
    pub(super) lines: [BTreeSet<(u64, u32)>; 2],
    /// When each was last given a task, for sets of them; kept for `Lru` only.
    pub(super) ages: Ages,
    /// One above the highest place there ever was.
    highest: usize,
    /// How often a task was given to some engine.
    given: u64,
    ahead: Ahead,
    pub(super) policy: Policy,
    pub(super) random: Random,
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
        // Tasks that only it may run are in the way of others, too.
        let waits = engine.movable > engine.slots || engine.movable > 0 && engine.outstanding > engine.slots;
        let is_giver = waits && !engine.is_recalled;
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
