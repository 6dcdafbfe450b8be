//! The ledger's entries: how they come, are found by their ids, and go.

use super::Ledger;
use super::entry::{Entry, Line, Place};
use super::orders::Request;
use crate::task::TaskId;

impl Ledger {
    pub(super) fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    pub(super) fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    pub(super) fn slot_of(&self, task: TaskId) -> Option<u32> {
        let hash = task.table_hash();
        let found = self.index.find(hash, |&slot| self.entries[slot as usize].id == task).copied();
        found.or_else(|| self.pieces.get(&task).copied())
    }

    pub(super) fn insert(&mut self, request: Request, line: Line) -> u32 {
        let count = request.payload.count();
        let entry = Entry {
            id: request.id,
            count,
            kind: request.kind,
            payload: Some(request.payload),
            extras: request.extras,
            place: Place::Settling,
            line,
            is_thinned: false,
            retries: request.retries.counted(),
            used: Default::default(),
            starts: 0,
            cost_ns: 0,
            stamp: 0,
        };
        if let Line::Set(set) = line {
            self.sets.on_task_came(set, entry.id.client);
        }
        self.pending += count as usize;
        let slot = self.entries.insert(entry) as u32;
        self.index(slot);
        slot
    }

    /// Makes an entry to be found by its id.
    pub(super) fn index(&mut self, slot: u32) {
        let entries = &self.entries;
        let entry = &entries[slot as usize];
        if entry.count > 1 {
            self.pieces.insert(entry.id, slot);
        } else {
            let hash = |&slot: &u32| entries[slot as usize].id.table_hash();
            self.index.insert_unique(hash(&slot), slot, hash);
        }
    }

    /// Takes an entry out of where it is found; before its id or its count changes.
    pub(super) fn unindex(&mut self, slot: u32) {
        let entry = &self.entries[slot as usize];
        if entry.count > 1 {
            self.pieces.remove(&entry.id);
        } else if let Ok(found) = self.index.find_entry(entry.id.table_hash(), |&other| other == slot) {
            found.remove();
        }
    }

    /// Takes a task out of the ledger, for good.
    pub(super) fn remove(&mut self, slot: u32) {
        self.unindex(slot);
        let entry = self.entries.remove(slot as usize);
        if let Line::Set(set) = entry.line {
            self.sets.on_task_gone(set, entry.id.client);
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
}
