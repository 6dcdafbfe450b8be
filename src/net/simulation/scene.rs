//! What everybody in a simulation sees, and what a task may come to there.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::Faults;
use super::links::Links;
use crate::remote::simulation::{World, is_shy};
use crate::task::{Attempt, Retries, TaskId};
use crate::{Error, TaskError};

pub(super) struct Scene {
    pub(super) world: World,
    pub(super) links: Rc<Links>,
    pub(super) faults: Faults,
    /// Clients that have not left.
    pub(super) clients: Cell<u32>,
    /// Tasks that were submitted and can be encoded.
    pub(super) sent: Cell<u64>,
    /// Tasks that were given up before their clients knew that they had settled.
    pub(super) cancelled: Cell<u64>,
    /// Sessions of engines that went on over another connection.
    pub(super) resumed: Cell<u32>,
    /// Engines that left when they were told to.
    pub(super) left: Cell<u32>,
    /// Results whose controller stayed away.
    pub(super) disconnected: Cell<u32>,
}

impl Scene {
    pub(super) fn new(faults: Faults, clients: u32) -> Rc<Self> {
        Rc::new(Self {
            world: World::default(),
            links: Rc::default(),
            faults,
            clients: Cell::new(clients),
            sent: Cell::default(),
            cancelled: Cell::default(),
            resumed: Cell::default(),
            left: Cell::default(),
            disconnected: Cell::default(),
        })
    }

    /// Counts tasks that are submitted.
    pub(super) fn count(&self, mut tasks: Range<u64>) {
        let shy = tasks.clone().filter(|x| is_shy(*x)).count() as u64;
        self.sent.set(self.sent.get() + tasks.by_ref().count() as u64 - shy);
    }

    /// Judges what became of a task.
    pub(super) fn judge_outcome(
        &self,
        x: u64,
        id: TaskId,
        retries: Retries,
        is_cancelled: bool,
        outcome: Result<u64, TaskError>,
    ) {
        let starts = self.world.starts.borrow().get(&id).copied().unwrap_or(0);
        let Retries { errors, losses } = retries;
        self.world.note(format!("{x}: {:?}", outcome.as_ref().map_err(TaskError::status)));
        let most = match (self.faults, x % 11 == 10) {
            (Faults::Short, true) => 1 + errors,
            (Faults::Short, false) => 1,
            (Faults::All, _) => 1 + errors.max(losses),
        };
        assert!(starts <= most.into(), "task {id} ({x}) started {starts} times, and {most} are allowed");
        match outcome {
            Ok(value) => assert_eq!((value, x % 11 == 10, is_shy(x), starts > 0), (x * x, false, false, true)),
            Err(TaskError::Undecodable { .. }) => assert!(is_shy(x) && starts == 0, "task {id} can be encoded"),
            Err(TaskError::Failed { .. }) => assert!(x % 11 == 10 && starts > 0, "task {id} failed, and should not"),
            Err(TaskError::Cancelled { .. }) => assert!(is_cancelled, "nobody cancelled {id}"),
            Err(TaskError::EngineLost { attempt, .. }) if self.faults == Faults::All => {
                assert!(attempt > Attempt(losses.into()), "{id} is lost at attempt {attempt}");
            }
            Err(TaskError::Disconnected) if self.faults == Faults::All => {
                self.disconnected.set(self.disconnected.get() + 1);
            }
            Err(other) => panic!("task {id} ({x}): {other:?}"),
        }
    }

    /// Judges why there is no answer.
    pub(super) fn judge_answer(&self, error: Error) {
        match error {
            Error::Task(TaskError::Failed { .. } | TaskError::Cancelled { .. }) => {}
            Error::Task(TaskError::EngineLost { .. }) | Error::Disconnected if self.faults == Faults::All => {}
            // It did not come there.
            Error::UnknownResult { .. } if self.faults == Faults::All => {}
            other => panic!("{other:?}"),
        }
    }
}
