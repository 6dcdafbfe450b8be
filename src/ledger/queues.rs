//! Tasks that wait for an engine: one queue for each set of engines that a view may aim at.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

use super::bits::{Bits, Mask};
use super::holds::Holds;
use super::shares::{Share, Shares};
use crate::limits::TARGET_SETS_MAX;
use crate::task::EngineId;

/// A waiting task: its place in the ledger and the stamp that place had when it began to wait.
///
/// A task that was cancelled is not searched for in the queue: its place is freed, and whoever meets the
/// outdated stamp passes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: u32,
    pub(super) stamp: u32,
}

/// Tasks in the order in which they may start.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tickets: VecDeque<Ticket>,
    /// How many of the tickets are still good.
    live: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn push_back(&mut self, ticket: Ticket) {
        self.tickets.push_back(ticket);
        self.live += 1;
    }

    pub(super) fn push_front(&mut self, ticket: Ticket) {
        self.tickets.push_front(ticket);
        self.live += 1;
    }

    /// Returns the first good ticket.
    pub(super) fn front(&mut self, is_good: impl Fn(Ticket) -> bool) -> Option<Ticket> {
        while let Some(&ticket) = self.tickets.front() {
            if is_good(ticket) {
                return Some(ticket);
            }
            self.tickets.pop_front();
        }
        None
    }

    /// Takes out the ticket that `front` returned.
    pub(super) fn pop_front(&mut self) {
        self.tickets.pop_front();
        self.live -= 1;
        if self.tickets.is_empty() {
            // A burst's capacity is given back, or memory would not return to where it was.
            self.tickets.shrink_to(64);
        }
    }

    /// Notes that one ticket went bad; clears them away when half are.
    pub(super) fn on_gone(&mut self, is_good: impl Fn(Ticket) -> bool) {
        self.live -= 1;
        if self.tickets.len() > 32 + 2 * self.live {
            self.tickets.retain(|&ticket| is_good(ticket));
            self.tickets.shrink_to(64);
        }
    }

    /// Takes out every good ticket.
    pub(super) fn drain(&mut self, is_good: impl Fn(Ticket) -> bool) -> Vec<Ticket> {
        self.live = 0;
        std::mem::take(&mut self.tickets).into_iter().filter(|&ticket| is_good(ticket)).collect()
    }
}

/// A set of engines that a view may aim at, and what waits for any of them.
#[derive(Debug, Default)]
pub(super) struct TargetSet {
    /// The engines, by place in the fleet.
    pub(super) members: Bits,
    pub(super) queue: Queue,
    /// Tasks in the ledger that aim at this set.
    pub(super) tasks: usize,
    /// Whose tasks these are that may run anywhere, if they are such: they wait for the next engine, too, where there is
    /// none.
    pub(super) share: Option<Share>,
    /// Its tasks do not start, because its client is held back.
    pub(super) is_held: bool,
    /// The view's own list; held, so that its address stays its own. And whose that view is.
    named: Option<(Arc<[EngineId]>, u64)>,
}

/// All engines that have every task of this program; for the first client.
pub(super) const ANY: u32 = 0;
/// All engines of this process.
pub(super) const LOCAL: u32 = 1;

/// The sets in use.
#[derive(Debug)]
pub(super) struct TargetSets {
    sets: Slab<TargetSet>,
    /// The view's list, by address: hashing 10 000 ids for each task would cost more than the task.
    by_address: HashMap<usize, u32>,
    /// Whose the open sets are.
    pub(super) shares: Shares,
    pub(super) holds: Holds,
    /// Sets with a task that waits, and may start.
    pub(super) waiting: Mask,
}

impl TargetSet {
    /// Returns whether what waits for it waits for the next engine, too, where there is none.
    pub(super) fn is_open(&self) -> bool {
        self.share.is_some()
    }

    /// Returns whose tasks these are, if they are of one client: but for those that share because they are too many.
    pub(super) fn client(&self) -> Option<u64> {
        self.share.map(|share| share.client).or(self.named.as_ref().map(|(_, client)| *client))
    }

    /// Returns whether it is of all engines that have every task of this program.
    pub(super) fn is_of_any(&self) -> bool {
        self.share.is_some_and(|share| share.needs.is_none())
    }
}

impl TargetSets {
    pub(super) fn new() -> Self {
        let mut sets = Slab::new();
        let share = Some(Share { needs: None, client: 0 });
        let any = sets.insert(TargetSet { share, ..TargetSet::default() });
        let local = sets.insert(TargetSet::default());
        debug_assert_eq!((any, local), (ANY as usize, LOCAL as usize), "the two fixed sets come first");
        Self {
            sets,
            by_address: HashMap::new(),
            shares: Shares::default(),
            holds: Holds::default(),
            waiting: Mask::default(),
        }
    }

    pub(super) fn get(&self, set: u32) -> &TargetSet {
        &self.sets[set as usize]
    }

    pub(super) fn get_mut(&mut self, set: u32) -> &mut TargetSet {
        &mut self.sets[set as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &TargetSet)> {
        self.sets.iter().map(|(set, target)| (set as u32, target))
    }

    /// Adds a set of engines that no view has named.
    pub(super) fn add_open(&mut self, share: Share) -> u32 {
        let is_held = self.holds.contains(share.client);
        self.sets.insert(TargetSet { share: Some(share), is_held, ..TargetSet::default() }) as u32
    }

    /// Returns whether there may be no more sets.
    pub(super) fn is_full(&self) -> bool {
        self.sets.len() >= TARGET_SETS_MAX
    }

    /// Forgets a set that has no tasks, rather of those that views have named.
    pub(super) fn forget_unused(&mut self) -> Option<u32> {
        let unused = self.sets.iter().find(|(_, set)| set.tasks == 0 && set.named.is_some());
        let Some(unused) = unused.map(|(set, _)| set as u32) else { return self.forget_unused_share() };
        if let Some((named, _)) = self.remove(unused).named {
            self.by_address.remove(&address_of(&named));
        }
        Some(unused)
    }

    pub(super) fn remove(&mut self, set: u32) -> TargetSet {
        self.sets.remove(set as usize)
    }

    pub(super) fn find(&self, named: &Arc<[EngineId]>) -> Option<u32> {
        self.by_address.get(&address_of(named)).copied()
    }

    /// Adds a set of a client's; forgets an unused one where there are too many. `Err` if all are in use.
    pub(super) fn add(&mut self, named: &Arc<[EngineId]>, client: u64) -> Result<(u32, Option<u32>), ()> {
        let forgotten = if self.is_full() { Some(self.forget_unused().ok_or(())?) } else { None };
        let (named_by, is_held) = (Some((named.clone(), client)), self.holds.contains(client));
        let set = TargetSet { named: named_by, is_held, ..TargetSet::default() };
        let added = self.sets.insert(set) as u32;
        self.by_address.insert(address_of(named), added);
        Ok((added, forgotten))
    }
}

fn address_of(named: &Arc<[EngineId]>) -> usize {
    Arc::as_ptr(named).cast::<EngineId>() as usize
}
