//! Which queue a task belongs in, by the engines it may run on.

use std::sync::Arc;

use super::entry::Line;
use super::events::Ledger;
use super::knowing::Function;
use super::orders::{Order, Request};
use super::queues::{ANY, LOCAL};
use crate::error::TaskError;
use crate::limits::TARGET_SETS_MAX;
use crate::task::{Attempt, EngineId, Target};

impl Ledger {
    /// Finds the queue for a task, or why there is none.
    pub(super) fn line_for(&mut self, request: &Request) -> Result<Line, TaskError> {
        let needs_local = !request.kind.portable;
        let function = Function::of(request);
        match &request.target {
            // With one client, and engines that have everything, this is all that is asked.
            Target::Any if !needs_local && self.has_any(function, request.id.client) => Ok(Line::Set(ANY)),
            Target::Any if !needs_local => self.open_set(function, request.id.client).map(Line::Set),
            Target::Any if self.sets.get(LOCAL).members.is_empty() => Err(TaskError::NotPortable),
            Target::Any => Ok(Line::Set(LOCAL)),
            Target::One(engine) => {
                let place = self.fleet.find(*engine).filter(|&place| self.fleet.get(place).retiring.is_none());
                let place = place.ok_or_else(|| gone(*engine, Attempt(0)))?;
                if needs_local && !self.fleet.get(place).is_local {
                    return Err(TaskError::NotPortable);
                }
                self.fleet.get(place).check(function)?;
                Ok(Line::Direct(place))
            }
            Target::Of(engines) => self.set_for(engines, function, request.id.client).map(Line::Set),
        }
    }

    fn set_for(&mut self, engines: &Arc<[EngineId]>, function: Function, client: u64) -> Result<u32, TaskError> {
        if engines.is_empty() {
            return Err(TaskError::NoEngines);
        }
        let set = match self.sets.find(engines) {
            Some(set) => set,
            None => self.add_set(engines, client)?,
        };
        let members = &self.sets.get(set).members;
        if members.is_empty() {
            return Err(gone(engines[0], Attempt(0)));
        }
        if !function.kind.portable && members.iter().any(|place| !self.fleet.get(place as u32).is_local) {
            return Err(TaskError::NotPortable);
        }
        if self.knowing.is_needed_for(function) {
            members.iter().try_for_each(|place| self.fleet.get(place as u32).check(function))?;
        }
        Ok(set)
    }

    pub(super) fn add_set(&mut self, engines: &Arc<[EngineId]>, client: u64) -> Result<u32, TaskError> {
        let places: Vec<u32> = engines.iter().filter_map(|&engine| self.fleet.find(engine)).collect();
        let full = |()| TaskError::Overloaded { what: "sets of engines", limit: TARGET_SETS_MAX };
        let (set, forgotten) = self.sets.add(engines, client).map_err(full)?;
        if let Some(old) = forgotten {
            self.on_set_forgotten(old);
        }
        for place in places {
            self.enlist(place, set);
        }
        Ok(set)
    }

    pub(super) fn on_set_forgotten(&mut self, set: u32) {
        self.fleet.iter_mut().for_each(|engine| engine.sets.remove(set as usize));
    }

    pub(super) fn enlist(&mut self, place: u32, set: u32) {
        self.sets.get_mut(set).members.insert(place as usize);
        self.fleet.get_mut(place).sets.insert(set as usize);
    }

    pub(super) fn on_member_left(
        &mut self,
        set: u32,
        place: u32,
        engine: EngineId,
        cause: &str,
        orders: &mut Vec<Order>,
    ) {
        self.sets.get_mut(set).members.remove(place as usize);
        // What may run anywhere waits for the next engine; what may run nowhere any more does not.
        if self.sets.get(set).is_open() || !self.sets.get(set).members.is_empty() {
            return;
        }
        self.sets.waiting.remove(set as usize);
        for ticket in self.sets.get_mut(set).queue.drain(|_| true) {
            if self.is_good(ticket) {
                self.lose(ticket.slot, engine, cause, orders);
            }
        }
    }
}

/// The engine that a task is bound to is not there.
fn gone(engine: EngineId, attempt: Attempt) -> TaskError {
    TaskError::EngineLost { engine, attempt, cause: "it has left the cluster".into() }
}
