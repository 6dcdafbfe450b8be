//! Who waits for which task: a table with four verbs.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use crate::messages::{Waiter, Watched};
use crate::task::{Attempt, TaskId};

/// The tasks that are not settled.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    tasks: Slab<Row>,
    /// From a task's id to its row. The ids themselves are in the rows.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Row {
    watched: Watched,
    /// Outcomes of attempts before this one are stale.
    expected: Attempt,
}

impl Waiting {
    /// Notes who waits. Gives the waiter back if the task is known: the first submission stands.
    pub(super) fn insert(&mut self, watched: Watched) -> Option<Waiter> {
        if self.find(watched.id).is_some() {
            return watched.waiter;
        }
        let hash = self.hasher.hash_one(watched.id);
        let row = self.tasks.insert(Row { watched, expected: Attempt(0) }) as u32;
        let (tasks, hasher) = (&self.tasks, &self.hasher);
        self.index.insert_unique(hash, row, |&row| hasher.hash_one(tasks[row as usize].watched.id));
        None
    }

    /// Makes outcomes of earlier attempts stale.
    pub(super) fn expect(&mut self, task: TaskId, attempt: Attempt) {
        if let Some(row) = self.find(task) {
            self.tasks[row as usize].expected = attempt;
        }
    }

    /// Takes a task out with its first good outcome; `None` if it is settled already or the outcome is stale.
    ///
    /// An attempt of `None` is the scheduler's own word and never stale.
    pub(super) fn complete(&mut self, task: TaskId, attempt: Option<Attempt>) -> Option<Watched> {
        let hash = self.hasher.hash_one(task);
        let tasks = &self.tasks;
        let found = self.index.find_entry(hash, |&row| tasks[row as usize].watched.id == task).ok()?;
        if attempt.is_some_and(|attempt| attempt < tasks[*found.get() as usize].expected) {
            return None;
        }
        let (row, _) = found.remove();
        let watched = self.tasks.remove(row as usize).watched;
        if self.tasks.is_empty() && self.tasks.capacity() > 4_096 {
            // After a burst the memory goes back.
            self.tasks.shrink_to_fit();
            self.index.shrink_to(0, |_| 0);
        }
        Some(watched)
    }

    /// Returns the task if it is not settled.
    pub(super) fn get(&self, task: TaskId) -> Option<&Watched> {
        self.find(task).map(|row| &self.tasks[row as usize].watched)
    }

    fn find(&self, task: TaskId) -> Option<u32> {
        let hash = self.hasher.hash_one(task);
        self.index.find(hash, |&row| self.tasks[row as usize].watched.id == task).copied()
    }
}
