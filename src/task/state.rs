//! Where a task is, for whoever asks while it is not settled.
//!
//! | state      | who knows it                                                              |
//! |------------|---------------------------------------------------------------------------|
//! | `Queued`   | the scheduler's ledger; whoever holds the promise                         |
//! | `Sent`     | the ledger, and its engine: it has not begun it                           |
//! | `Running`  | the engine that has begun it; whoever holds the promise and said so       |
//! | `Returned` | the engine, of an item of a map whose piece is not at its end             |
//! | `Settled`  | the result itself                                                         |
//!
//! Nobody is told when a task changes its state, which would cost each task as much again: whoever wants to know asks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{EngineId, Status};

/// Where a task is: the answer to [`AsyncResult::state`](crate::AsyncResult::state).
///
/// True when it was given: a task that is queued then may run by the time that somebody reads it.
///
/// ```
/// use callboard::{EngineId, Status, TaskState};
///
/// assert_eq!(TaskState::Running { engine: Some(EngineId(3)) }.to_string(), "running on engine 3");
/// assert_eq!(TaskState::Settled(Status::TimedOut).to_string(), "timed out");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskState {
    /// It waits for an engine or a thread: on its way to the scheduler, in a queue, for its turn in a combinator, between two attempts.
    Queued,
    /// It was sent ahead, and no code of it has begun, as far as is known there.
    Sent {
        /// Where to; `None` if that is no engine of a cluster's.
        engine: Option<EngineId>,
    },
    /// Its code has begun, and has not returned.
    Running {
        /// Where; `None` if that is no engine of a cluster's.
        engine: Option<EngineId>,
    },
    /// Its code has returned, and its outcome is on its way: items of a map come together with others that they were sent with.
    Returned {
        /// Where from; `None` if that is no engine of a cluster's.
        engine: Option<EngineId>,
    },
    /// It has an outcome.
    Settled(Status),
}

impl TaskState {
    /// Returns the engine that has the task, if one has it.
    pub fn engine(&self) -> Option<EngineId> {
        match self {
            Self::Sent { engine } | Self::Running { engine } | Self::Returned { engine } => *engine,
            Self::Queued | Self::Settled(_) => None,
        }
    }

    /// Calls its engine by another name.
    #[cfg(feature = "remote")]
    pub(crate) fn map_engine(self, name: impl Fn(EngineId) -> EngineId) -> Self {
        match self {
            Self::Sent { engine } => Self::Sent { engine: engine.map(name) },
            Self::Running { engine } => Self::Running { engine: engine.map(name) },
            Self::Returned { engine } => Self::Returned { engine: engine.map(name) },
            Self::Queued | Self::Settled(_) => self,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued => f.write_str("queued"),
            Self::Sent { engine: Some(engine) } => write!(f, "sent to engine {engine}"),
            Self::Sent { engine: None } => f.write_str("sent"),
            Self::Running { engine: Some(engine) } => write!(f, "running on engine {engine}"),
            Self::Running { engine: None } => f.write_str("running"),
            Self::Returned { engine: Some(engine) } => write!(f, "returned by engine {engine}"),
            Self::Returned { engine: None } => f.write_str("returned"),
            Self::Settled(status) => status.fmt(f),
        }
    }
}
