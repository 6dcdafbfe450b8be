//! From the Scheduler to the ResultStore, before any engine gets the task.

use std::fmt;
use std::sync::Arc;

use actix::Message;

use super::{Callback, TaskDone};
use crate::error::TaskError;
use crate::task::{Attempt, Extras, Moment, Outcome, Run, TaskId, TaskKind};
use crate::{apart, catch};

/// Tells the ResultStore who waits for which task.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// The tasks.
    pub batch: Vec<Watched>,
}

/// One task and who waits for it.
#[derive(Debug)]
pub struct Watched {
    /// The task.
    pub id: TaskId,
    /// Its function.
    pub kind: &'static TaskKind,
    /// Label and what else few callers ask for.
    pub extras: Option<Arc<Extras>>,
    /// When the Scheduler took it.
    pub submitted: Moment,
    /// Bytes that admission counted for it, given back when it is settled.
    pub weight: u32,
    /// Who gets the outcome.
    pub waiter: Option<Waiter>,
}

/// Tells the ResultStore that outcomes of earlier attempts are stale from now on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Expect {
    /// Each task, and the attempt that is next.
    pub batch: Vec<(TaskId, Attempt)>,
}

/// Whatever takes an outcome: the inside of an `AsyncResult`.
pub trait Settle: Send + Sync {
    /// Takes the outcome of the task at `index`; returns what is left to do, if anything.
    ///
    /// Called at most once for each index, on the ResultStore's thread: it must not run code of the user's.
    fn settle(&self, index: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>>;
}

/// What is left to do after a result was settled, where code of the user's may run.
#[derive(Default)]
pub struct Aftermath {
    /// What to tell subscribers; there if there are callbacks.
    pub done: Option<TaskDone>,
    /// In the order of their registration.
    pub callbacks: Vec<Callback>,
    /// A value that nobody wants, to be dropped.
    pub leftover: Option<Box<dyn Send>>,
}

impl fmt::Debug for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aftermath({} callbacks)", self.callbacks.len())
    }
}

/// The place that waits for one outcome.
///
/// Settles as [`TaskError::Disconnected`] if it is dropped: wherever a task is lost with whatever held it
/// (a mailbox, an arbiter), its `AsyncResult` resolves.
pub struct Waiter {
    result: Option<Arc<dyn Settle>>,
    index: u32,
}

impl Waiter {
    /// Makes the place for the task at `index` of `result`.
    pub fn new(result: Arc<dyn Settle>, index: u32) -> Self {
        Self { result: Some(result), index }
    }

    /// Hands over the outcome.
    pub fn settle(mut self, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        self.result.take().and_then(|result| result.settle(self.index, run, outcome))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(result) = self.result.take() else { return };
        let run = Run::none(&TaskError::Disconnected);
        if let Some(aftermath) = result.settle(self.index, run, Err(TaskError::Disconnected)) {
            aftermath.carry_out_apart();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.index)
    }
}

impl Aftermath {
    /// Does what is left where there is no callbacks' actor any more.
    pub(super) fn carry_out_apart(self) {
        apart::run(move || {
            for callback in self.callbacks {
                match (callback, &self.done) {
                    (Callback::Message(to), Some(done)) => to.do_send(done.clone()),
                    (Callback::Message(_), None) => {}
                    (Callback::Closure(closure), _) => {
                        if let Err(message) = catch::user_code(closure) {
                            tracing::warn!(%message, "a callback panicked");
                        }
                    }
                }
            }
            catch::discard(self.leftover);
        });
    }
}
