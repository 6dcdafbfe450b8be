//! How a task ended, in fewer bytes: there may be a million results that somebody holds.

use std::sync::Arc;

use crate::task::{Attempt, EngineId, Moment, Printed, Run, Status};

/// A [`Run`], packed.
#[derive(Debug)]
pub(super) struct Brief {
    started: Option<Moment>,
    completed: Moment,
    printed: Option<Arc<Printed>>,
    engine: u32,
    attempt: u16,
    status: Status,
    has_engine: bool,
}

impl Brief {
    pub(super) fn of(run: Run) -> Self {
        let Run { status, engine, attempt, started, completed, printed } = run;
        // The ledger counts attempts in as many bits.
        let attempt = u16::try_from(attempt.0).unwrap_or(u16::MAX);
        let (engine, has_engine) = (engine.map_or(0, |engine| engine.0), engine.is_some());
        Self { started, completed, printed, engine, attempt, status, has_engine }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    pub(super) fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    pub(super) fn to_run(&self) -> Run {
        Run {
            status: self.status,
            engine: self.has_engine.then_some(EngineId(self.engine)),
            attempt: Attempt(self.attempt.into()),
            started: self.started,
            completed: self.completed,
            printed: self.printed.clone(),
        }
    }
}
