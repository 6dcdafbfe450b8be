//! From the Scheduler to an engine. A remote engine is whatever else takes these.

use actix::Message;
use tokio::sync::oneshot;

use crate::ledger::Assignment;
use crate::task::{Attempt, TaskId};

/// Asks an engine to run tasks, in this order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Run {
    /// The attempts to make.
    pub batch: Vec<Assignment>,
}

/// Tells an engine that nobody waits for these tasks any more.
///
/// One that has not started is handed back; one that runs is asked to stop, or stopped.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Revoke {
    /// The tasks.
    pub tasks: Vec<TaskId>,
    /// What is done to those that run.
    pub manner: Manner,
}

/// How a task that runs is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It is asked to: [`TaskContext::is_cancelled`](crate::TaskContext::is_cancelled) turns true.
    #[default]
    Ask,
    /// If its engine is a process of its own, that is killed and replaced; else it is asked to.
    Force,
}

/// Asks an engine to hand back what it has not started, and to go on: another engine is idle.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Recall;

/// Asks an engine which task it runs.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Look {
    /// Told the task whose code it is at, and which attempt that is: of several that were sent together the one. `None` if it is
    /// at none. What it returned or handed back before is on its way then.
    pub tell: oneshot::Sender<Option<(TaskId, Attempt)>>,
}

/// Tells an engine to hand back what has not started, and to end after what runs.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StopEngine {
    /// Why it is to go.
    pub cause: Box<str>,
}
