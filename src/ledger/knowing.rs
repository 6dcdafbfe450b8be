//! Engines whose program has not all tasks of this one, and who may run what.
//!
//! Most clusters have none: then none of this is asked. Where there are some, tasks that may run anywhere wait in a queue
//! for each function, of those engines that have it; and what no engine has is refused at once.

use std::sync::Arc;

use hashbrown::HashMap;

use super::events::Ledger;
use super::placement::Engine;
use super::queues::ANY;
use crate::error::TaskError;
use crate::task::{TaskKind, TaskTable};

/// Who has which function.
#[derive(Debug, Default)]
pub(super) struct Knowing {
    /// The different tables of engines that have ever joined.
    tables: Vec<Arc<TaskTable>>,
    /// The engines that have a function, as a target set, by the function's fingerprint.
    sets: HashMap<u64, (&'static TaskKind, u32)>,
}

/// How many different programs are remembered; those of a cluster are few.
const TABLES_MAX: usize = 64;

impl Knowing {
    /// Returns whether an engine ever joined that has not all tasks.
    pub(super) fn is_needed(&self) -> bool {
        !self.tables.is_empty()
    }
}

impl Engine {
    /// Checks that its program has a function.
    pub(super) fn check(&self, kind: &TaskKind) -> Result<(), TaskError> {
        let lack = self.tasks.as_ref().and_then(|tasks| tasks.lack(kind));
        lack.map_or(Ok(()), |lack| Err(TaskError::UnknownTask { engine: self.id, task: kind.name.into(), lack }))
    }
}

impl Ledger {
    /// Makes a new engine a member of the sets for what it can run.
    pub(super) fn enlist_by_tasks(&mut self, place: u32, tasks: Option<Arc<TaskTable>>) {
        match tasks {
            None => self.enlist(place, ANY),
            Some(tasks) => {
                let tables = &mut self.knowing.tables;
                if tables.len() < TABLES_MAX && tables.iter().all(|known| *known != tasks) {
                    tables.push(tasks);
                }
            }
        }
        let engine = self.fleet.get(place);
        let sets = self.knowing.sets.values().filter(|(kind, _)| engine.check(kind).is_ok());
        let sets: Vec<u32> = sets.map(|(_, set)| *set).collect();
        sets.into_iter().for_each(|set| self.enlist(place, set));
    }

    /// Finds the queue for a task that may run wherever its function is.
    pub(super) fn knowing_set(&mut self, kind: &'static TaskKind) -> Result<u32, TaskError> {
        if !self.knowing.is_needed() {
            return Ok(ANY);
        }
        if let Some(&(_, set)) = self.knowing.sets.get(&kind.fingerprint) {
            return Ok(set);
        }
        if self.knowing.tables.iter().all(|table| table.lack(kind).is_some()) {
            let first = self.fleet.iter().find_map(|engine| engine.check(kind).err());
            return match first {
                Some(unknown) if self.sets.get(ANY).members.is_empty() => Err(unknown),
                _ => Ok(ANY),
            };
        }
        let set = self.sets.add_open();
        self.knowing.sets.insert(kind.fingerprint, (kind, set));
        let places = self.fleet.places_where(|engine| engine.check(kind).is_ok());
        places.into_iter().for_each(|place| self.enlist(place, set));
        Ok(set)
    }
}
