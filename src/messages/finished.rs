//! From an engine to the ResultStore, and from there back to the Scheduler.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use bytes::Bytes;

use crate::apart;
use crate::error::TaskError;
use crate::ledger::{HandBack, SettledTask};
use crate::task::{Attempt, EngineId, Outcome, Printed, TaskId};

/// Tells the ResultStore how tasks ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Finished {
    /// The outcomes.
    pub batch: Vec<Completion>,
}

/// The outcome of one attempt, or of several items of a map.
#[derive(Debug)]
pub struct Completion {
    /// The task, or the first of those that ended.
    pub id: TaskId,
    /// How many ended, counted up from `id`; 1 but for items of a map.
    pub count: u32,
    /// The attempt; 0 if the task never started.
    pub attempt: Attempt,
    /// The engine that made the attempt; `None` if the Scheduler settles the task itself.
    pub engine: Option<EngineId>,
    /// Where the task was, if the Scheduler settles it.
    pub at: Option<EngineId>,
    /// How long the attempt ran, by the engine's clock.
    pub ran: Option<Duration>,
    /// The value, or why there is none; the values of a [`Chunk`](crate::task::Chunk), in order.
    pub outcome: Outcome,
    /// The encoded value, where it was asked for.
    pub kept: Option<Box<Bytes>>,
    /// What was printed meanwhile, if anything.
    pub printed: Option<Arc<Printed>>,
}

impl Completion {
    /// Says why tasks have no value that no engine was given.
    pub fn without_value(id: TaskId, count: u32, error: TaskError) -> Self {
        let outcome = Err(error);
        Self { id, count, attempt: Attempt(0), engine: None, at: None, ran: None, outcome, kept: None, printed: None }
    }
}

/// Tells the Scheduler what the ResultStore made of outcomes.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Settled {
    /// Each outcome that came.
    pub batch: Vec<SettledTask>,
}

/// Gives tasks back to the Scheduler: not started, or failed and allowed another attempt.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HandedBack {
    /// The engine that had them.
    pub engine: EngineId,
    /// The tasks, in the order in which they were sent.
    pub batch: Vec<HandBack>,
}

impl Drop for HandedBack {
    /// Calls in a mailbox that ends with its arbiter are not dropped on it: that is code of the user's.
    fn drop(&mut self) {
        apart::discard(std::mem::take(&mut self.batch));
    }
}
