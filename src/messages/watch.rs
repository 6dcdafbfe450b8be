//! From the Scheduler to the ResultStore, before any engine gets the task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use actix::Message;

use super::{Callback, TaskDone};
use crate::catch;
use crate::error::TaskError;
use crate::task::{Attempt, Extras, Moment, Outcome, Run, TaskId, TaskKind};

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

    /// Takes the callbacks that were registered while the ones before were called; none ends the calling.
    fn next_callbacks(&self, _index: u32) -> Vec<Callback> {
        Vec::new()
    }
}

/// Where to ask for further callbacks once those of an [`Aftermath`] were called: so they never run side by side.
pub struct MoreCallbacks {
    result: Arc<dyn Settle>,
    index: u32,
}

impl MoreCallbacks {
    /// Names the result whose callbacks are called.
    pub fn of(result: Arc<dyn Settle>, index: u32) -> Self {
        Self { result, index }
    }

    /// Takes the next callbacks; none is the end.
    pub fn take(&self) -> Vec<Callback> {
        self.result.next_callbacks(self.index)
    }
}

/// What is left to do after a result was settled, where code of the user's may run.
#[derive(Default)]
pub struct Aftermath {
    /// What to tell subscribers; there if there are callbacks.
    pub done: Option<TaskDone>,
    /// In the order of their registration.
    pub callbacks: VecDeque<Callback>,
    /// Who has the callbacks that come after these.
    pub more: Option<MoreCallbacks>,
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
        self.result.take().and_then(|result| settle(result, self.index, run, outcome))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(result) = self.result.take() else { return };
        let run = Run::none(&TaskError::Disconnected);
        if let Some(aftermath) = settle(result, self.index, run, Err(TaskError::Disconnected)) {
            aftermath.carry_out_alone();
        }
    }
}

/// Settles a result whose callbacks, if there are any, are called next.
fn settle(result: Arc<dyn Settle>, index: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
    let mut aftermath = result.settle(index, run, outcome)?;
    if !aftermath.callbacks.is_empty() {
        aftermath.more = Some(MoreCallbacks::of(result, index));
    }
    Some(aftermath)
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.index)
    }
}

impl Aftermath {
    /// Takes the next callback, also of those that were registered since.
    pub(crate) fn next_callback(&mut self) -> Option<Callback> {
        if self.callbacks.is_empty() {
            self.callbacks = self.more.as_ref()?.take().into();
        }
        self.callbacks.pop_front()
    }

    /// Does what is left where there is no callbacks' actor any more: on a thread of its own.
    fn carry_out_alone(mut self: Box<Self>) {
        let work = move || {
            while let Some(callback) = self.next_callback() {
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
        };
        if let Err(error) = std::thread::Builder::new().name("cb-callback".into()).spawn(work) {
            tracing::error!(%error, "no thread for the callbacks of a task that the stopped cluster left");
        }
    }
}
