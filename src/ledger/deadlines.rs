//! Which pending task is due next.

use std::collections::{BTreeSet, HashMap};

use crate::task::Moment;

/// The tasks that have a deadline, by time and by place in the ledger.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_time: BTreeSet<(Moment, u32)>,
    by_slot: HashMap<u32, Moment>,
}

impl Deadlines {
    pub(super) fn insert(&mut self, slot: u32, due: Moment) {
        self.by_time.insert((due, slot));
        self.by_slot.insert(slot, due);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(due) = self.by_slot.remove(&slot) {
            self.by_time.remove(&(due, slot));
        }
    }

    pub(super) fn due(&self, slot: u32) -> Option<Moment> {
        self.by_slot.get(&slot).copied()
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes out one task that is due.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<u32> {
        let (due, slot) = *self.by_time.first()?;
        if due > now {
            return None;
        }
        self.remove(slot);
        Some(slot)
    }
}
