//! How a task ends that has no value.

use std::fmt;
use std::time::Duration;

use crate::task::{Attempt, EngineId, Lack, Status, TaskId};

/// Which execution of which task an error is about.
///
/// ```
/// use callboard::prelude::*;
/// #[task]
/// fn fall() { panic!("over") }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().apply(fall());
/// let Err(TaskError::Panicked { place, message }) = ar.get() else { panic!("it panics") };
/// assert_eq!((place.task, place.name, &*message), (ar.id(), "fall", "over"));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The task.
    pub task: TaskId,
    /// The name of its function.
    pub name: &'static str,
    /// The engine that ran it; `None` for an executor's own thread.
    pub engine: Option<EngineId>,
    /// Which execution it was.
    pub attempt: Attempt,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (task {}, ", self.name, self.task)?;
        if let Some(engine) = self.engine {
            write!(f, "engine {engine}, ")?;
        }
        write!(f, "attempt {})", self.attempt)
    }
}

/// What of a call is encoded.
///
/// ```
/// assert_eq!(callboard::Coded::Arguments.to_string(), "cannot code the arguments");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coded {
    /// The arguments, on their way to the engine.
    Arguments,
    /// The result, on its way back.
    Result,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "cannot code the arguments",
            Self::Result => "cannot code the result",
        })
    }
}

/// A task ended without a value, or its value cannot be had.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn half(x: u32) -> Result<u32, String> { if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) } }
///
/// let cluster = Cluster::threads(1).start()?;
/// match cluster.client().load_balanced().apply(half(7)).get() {
///     Err(TaskError::Failed { text, .. }) => assert_eq!(&*text, "7 is odd"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task's code returned an error. The text holds the error and its causes.
    #[error("{place} failed: {text}")]
    Failed {
        /// Which execution.
        place: Box<Place>,
        /// The error and its causes.
        text: Box<str>,
    },
    /// The task's code panicked. The engine lives on.
    #[error("{place} panicked: {message}")]
    Panicked {
        /// Which execution.
        place: Box<Place>,
        /// The panic's message.
        message: Box<str>,
    },
    /// Somebody cancelled the task, or the cluster stopped.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// Why, in the words of who did it.
        reason: Box<str>,
    },
    /// The task was not done by its deadline. It may still run; its result is dropped.
    #[error("not done within its deadline of {deadline:?}")]
    TimedOut {
        /// The time it had from its submission.
        deadline: Duration,
    },
    /// The engine left while it ran this task, which may have had side effects, or before a task bound to
    /// it started (attempt 0). Retry only if it is safe to run twice.
    #[error("engine {engine} was lost at attempt {attempt}: {cause}")]
    EngineLost {
        /// The engine.
        engine: EngineId,
        /// How often the task had started.
        attempt: Attempt,
        /// What became of the engine.
        cause: Box<str>,
    },
    /// Too much is pending already. Wait for results, use `apply_when_admitted`, or raise the limit.
    #[error("{what}: {limit} are pending already; wait for results, use apply_when_admitted, or raise the limit")]
    Overloaded {
        /// `tasks` or `bytes`.
        what: &'static str,
        /// The limit, from [`Limits`](crate::Limits).
        limit: usize,
    },
    /// The view has no engines. Start some, or make the view after `client.wait_for_engines(n)`.
    #[error("the view has no engines; start some, or make it after client.wait_for_engines(n)")]
    NoEngines,
    /// The engine's program does not contain this task. Build it in, or register it.
    #[error(
        "engine {engine} has {}; build its program with the crate that defines it (use my_tasks as _;) or register it",
        lacking(*lack, task)
    )]
    UnknownTask {
        /// The engine, or the first of those that lack it.
        engine: EngineId,
        /// The name of the function; its key, where only that is known.
        task: Box<str>,
        /// Whether it is not there, or is another.
        lack: Lack,
    },
    /// A closure was to run where there is no engine of this process. Write it as a `#[task]`.
    #[error("a closure cannot leave this process, and no engine of this process may run it; write it as a #[task]")]
    NotPortable,
    /// Arguments or result could not be encoded or decoded.
    #[error("{what} of {text}")]
    Undecodable {
        /// What of the call it was.
        what: Coded,
        /// The name of the function, and what the codec said.
        text: Box<str>,
    },
    /// Whoever had the task went away before it had an outcome: the cluster stopped, its controller cannot be reached (there
    /// the task may still run), or a [`Promise`](crate::Promise) was dropped.
    #[error(
        "whoever had the task went away before it had an outcome: the cluster stopped, its controller cannot be reached (there \
         the task may still run), or its promise was dropped"
    )]
    Disconnected,
    /// No worker of the pool can run tasks: its initializer failed, or a process could not be launched. The task did not start.
    /// Mend what the text says; the pool tries again when it is given the next task.
    #[error("no worker of the pool can run tasks: {text}")]
    WorkersFailed {
        /// What failed, and why.
        text: Box<str>,
    },
    /// What the executor gave the task to is gone, or gave it up: the task may have run, or may run still. Make another
    /// executor, and submit it again only if it is safe to run twice.
    #[error("what had the task is gone: {cause}")]
    ExecutorLost {
        /// What became of it.
        cause: Box<str>,
    },
    /// The executor takes no more tasks. Submit before its `shutdown`, or make another.
    #[error("the executor was shut down; submit before its shutdown(), or make another")]
    ShutDown,
    /// The value was taken out before (`.await`, `take`, `pipe_to`). Use `get` to read it more than once.
    #[error("the value was already taken; use get() to read it more than once")]
    AlreadyTaken,
    /// The value was not kept as long as this. Raise the limits of the result store, or fetch it sooner.
    #[error("the result was evicted; fetch it sooner, or raise the limits of the result store")]
    ResultEvicted,
    /// Blocking here would stop the runtime or arbiter that this thread drives. Use `.await`.
    #[error("this thread drives an async runtime, which blocking would stop; use .await, or ask from spawn_blocking")]
    WouldBlock,
    /// The task was not done in the time you gave. It goes on.
    #[error("not done within {waited:?}; the task goes on")]
    NotReady {
        /// The time you gave.
        waited: Duration,
    },
}

/// Why some attributes of serde do not go with this codec.
const NAMELESS: &str = "what travels names no fields";

impl TaskError {
    /// The codec refused `what` of a call of `name`.
    pub(crate) fn undecodable(what: Coded, name: &str, reason: &str) -> Self {
        Self::Undecodable { what, text: format!("{name}: {reason}").into() }
    }

    /// The codec could not read `what` of a call of `name`. It writes no names of fields, so what serde's attributes leave out or
    /// have guessed is missed here, and the codec itself knows nothing of attributes.
    pub(crate) fn unreadable(what: Coded, name: &str, error: &postcard::Error) -> Self {
        let reason = format!(
            "{error}; if a type in it has #[serde(skip_serializing_if)], untagged, tag or flatten, do without: {NAMELESS}"
        );
        Self::undecodable(what, name, &reason)
    }

    /// Returns the status of a task that ended like this.
    pub fn status(&self) -> Status {
        match self {
            Self::Failed { .. } | Self::Undecodable { .. } => Status::Failed,
            Self::Panicked { .. } => Status::Panicked,
            Self::Cancelled { .. } => Status::Cancelled,
            Self::TimedOut { .. } => Status::TimedOut,
            Self::EngineLost { .. } | Self::ExecutorLost { .. } | Self::Disconnected => Status::Lost,
            Self::Overloaded { .. }
            | Self::NoEngines
            | Self::UnknownTask { .. }
            | Self::NotPortable
            | Self::WorkersFailed { .. }
            | Self::ShutDown => Status::Refused,
            // A task does not end like this; a promise may be settled with what asking for another result gave.
            Self::AlreadyTaken | Self::ResultEvicted | Self::WouldBlock | Self::NotReady { .. } => Status::Failed,
        }
    }
}

fn lacking(lack: Lack, task: &str) -> String {
    match lack {
        Lack::Missing => format!("no task {task}"),
        Lack::Differs => format!("a task {task} with other arguments or another result"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_because_every_pending_result_has_room_for_one() {
        assert!(size_of::<TaskError>() <= 32, "{}", size_of::<TaskError>());
    }
}
