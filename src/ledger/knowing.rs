//! Engines whose program has not all tasks of this one, or has others, and who may run what.
//!
//! Most clusters have none: then none of this is asked. Where there are some, tasks that may run anywhere wait in a queue
//! for each function, of those engines that have it; and what no engine has is refused at once.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::engine::Engine;
use super::events::Ledger;
use super::orders::Request;
use super::queues::ANY;
use super::shares::Share;
use crate::error::TaskError;
use crate::task::{Lack, TaskKind, TaskTable};

/// A function, and whether this very program has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) kind: &'static TaskKind,
    /// This program lacks it, and so does each engine that is built as this one is.
    is_foreign: bool,
}

/// Which programs there are.
#[derive(Debug, Default)]
pub(super) struct Knowing {
    /// The different tables of engines that have ever joined.
    tables: Vec<Arc<TaskTable>>,
}

/// How many different programs are remembered; those of a cluster are few.
const TABLES_MAX: usize = 64;

impl Function {
    /// Returns the function that a request calls.
    pub(super) fn of(request: &Request) -> Self {
        Self { kind: request.kind, is_foreign: request.payload.is_foreign() }
    }
}

impl Hash for Function {
    /// Hashes what nearly always tells functions apart, and no names.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.fingerprint.hash(state);
    }
}

impl Knowing {
    /// Returns whether there may be an engine that has not this function.
    pub(super) fn is_needed_for(&self, function: Function) -> bool {
        function.is_foreign || self.is_needed()
    }

    /// Returns whether an engine ever joined that has not all tasks.
    pub(super) fn is_needed(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Returns whether no program that ever joined has a function of this one.
    fn is_ours_alone(&self, function: Function) -> bool {
        self.tables.iter().all(|table| table.lack(function.kind).is_some())
    }

    fn on_table(&mut self, tasks: &Arc<TaskTable>) {
        if self.tables.len() < TABLES_MAX && self.tables.iter().all(|known| known != tasks) {
            self.tables.push(tasks.clone());
        }
    }
}

impl Engine {
    /// Checks that its program has a function.
    pub(super) fn check(&self, function: Function) -> Result<(), TaskError> {
        let task = || function.kind.name.into();
        self.lack(function).map_or(Ok(()), |lack| Err(TaskError::UnknownTask { engine: self.id, task: task(), lack }))
    }

    /// Returns whether its program has a function, or all of this program, if `None`.
    pub(super) fn has(&self, needs: Option<Function>) -> bool {
        needs.map_or(self.tasks.is_none(), |function| self.lack(function).is_none())
    }

    fn lack(&self, function: Function) -> Option<Lack> {
        match &self.tasks {
            Some(tasks) => tasks.lack(function.kind),
            None => function.is_foreign.then_some(Lack::Missing),
        }
    }
}

impl Ledger {
    /// Makes a new engine a member of the sets for what it can run.
    pub(super) fn enlist_by_tasks(&mut self, place: u32) {
        let engine = self.fleet.get(place);
        if let Some(tasks) = &engine.tasks {
            self.knowing.on_table(tasks);
        }
        let sets = self.sets.iter_open().filter(|(_, share)| engine.has(share.needs));
        let sets: Vec<u32> = sets.map(|(set, _)| set).collect();
        sets.into_iter().for_each(|set| self.enlist(place, set));
    }

    /// Returns whether a client's tasks that may run wherever their function is wait in the first set.
    pub(super) fn has_any(&self, function: Function, client: u64) -> bool {
        !self.knowing.is_needed_for(function) && self.sets.is_first(client)
    }

    /// Finds the queue for a client's task that may run wherever its function is.
    pub(super) fn open_set(&mut self, function: Function, client: u64) -> Result<u32, TaskError> {
        if !self.knowing.is_needed_for(function) {
            return self.share_of_any(client);
        }
        let share = Share { needs: Some(function), client };
        let found = self.sets.find_share(share);
        if function.is_foreign {
            let has_members = found.is_some_and(|set| !self.sets.get(set).members.is_empty());
            if !has_members {
                self.check_that_some_have(function)?;
            }
        } else if found.is_none() && self.knowing.is_ours_alone(function) {
            let first = self.fleet.iter().find_map(|engine| engine.check(function).err());
            return match first {
                Some(unknown) if self.sets.get(ANY).members.is_empty() => Err(unknown),
                _ => self.share_of_any(client),
            };
        }
        found.map_or_else(|| self.new_share(share), Ok)
    }

    /// Checks that some engine has a function; where there is none at all, the next may have it.
    fn check_that_some_have(&self, function: Function) -> Result<(), TaskError> {
        let mut engines = self.fleet.iter();
        let Some(first) = engines.next() else { return Ok(()) };
        if engines.any(|engine| engine.has(Some(function))) { Ok(()) } else { first.check(function) }
    }
}
