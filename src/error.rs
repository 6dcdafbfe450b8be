//! What can go wrong: [`Error`] when your call was refused, [`TaskError`] when a task ended without a value.
//!
//! Inside a task there is a third, [`TaskFailure`](crate::TaskFailure): what its code reports.

use std::fmt;
use std::time::Duration;

use crate::task::{Attempt, EngineId, Lack, Status, TaskId};

/// Your call was refused; nothing was done.
///
/// ```
/// use callboard::{Error, prelude::*};
///
/// let cluster = Cluster::threads(2).start()?;
/// let error = cluster.client().engine(7).unwrap_err();
/// assert!(matches!(&error, Error::NoSuchEngine { asked: 7, have } if have.len() == 2));
/// assert_eq!(error.to_string(), "no engine 7 here; engines are [0, 1]");
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine has this id or stands at this place. Ask `client.ids()`.
    #[error("no engine {asked} here; engines are {have:?}")]
    NoSuchEngine {
        /// What was asked for; negative counts from the end.
        asked: i64,
        /// The engines there are.
        have: Vec<EngineId>,
    },
    /// A selection names an engine twice, which would get every call twice and keep one of two parts. Name it once.
    #[error("engine {engine} is named twice; a view has each engine once")]
    EngineTwice {
        /// The engine.
        engine: EngineId,
    },
    /// A value by engine was asked for, and this one was not made by an engine. Leave out what was joined from elsewhere.
    #[error("task {task} ran on no engine; ask by_engine of results of engines only")]
    OfNoEngine {
        /// The task.
        task: TaskId,
    },
    /// The call needs an engine and there is none. Start some, or wait with `client.wait_for_engines(n)`.
    #[error("no engines have joined; start some, or wait with client.wait_for_engines(n)")]
    NoEngines,
    /// A limit or a count of zero, where at least one is needed.
    #[error("{what} is zero; it must be at least 1")]
    Zero {
        /// The setting.
        what: &'static str,
    },
    /// Two tasks have the same name and version. Give one of them `#[task(name = "..")]`.
    #[error(
        "two tasks are called {name} (version {version}): {first} and {second}; give one of them #[task(name = \"..\")]"
    )]
    DuplicateTask {
        /// The name.
        name: &'static str,
        /// The version.
        version: u32,
        /// Where the first is written.
        first: String,
        /// Where the second is written.
        second: String,
    },
    /// An engine process did not join, or ended before it did.
    #[error("an engine has not joined: {cause}")]
    EngineFailed {
        /// What became of it.
        cause: Box<str>,
    },
    /// A connection file is not as it should be, or cannot be written.
    #[error("connection file {}: {problem}", path.display())]
    ConnectionFile {
        /// Where it is.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        problem: Box<str>,
    },
    /// The cluster cannot listen there: another may, or the address is none of this machine.
    #[error("cannot listen at {address}: {reason}")]
    Listen {
        /// Where.
        address: Box<str>,
        /// What the operating system said.
        reason: Box<str>,
    },
    /// No controller was found there. See whether it runs, and whether the address can be reached from here.
    #[error("no controller was found at {address} for {waited:?}: {reason}")]
    Unreachable {
        /// Where.
        address: Box<str>,
        /// How long it was looked for.
        waited: Duration,
        /// Why it was not found the last time.
        reason: Box<str>,
    },
    /// Engines could not be launched: a program is not there, or whoever starts them refused.
    #[error("{by} launches no engines: {problem}")]
    Launch {
        /// Who was to start them.
        by: Box<str>,
        /// What refused and why, and what to do.
        problem: Box<str>,
    },
    /// A Dask cluster cannot be used: the interpreter is not there or lacks `distributed`, there is no scheduler, the workers
    /// are of another kind of machine.
    #[error("the Dask cluster at {address} cannot be used: {problem}")]
    Dask {
        /// The scheduler's address.
        address: Box<str>,
        /// What is wrong, and what to do.
        problem: Box<str>,
    },
    /// Whoever listens there does not let us in, or is not whom the connection file is for.
    #[error("refused at {address}: {reason}")]
    Refused {
        /// Where.
        address: Box<str>,
        /// Why, and what to do.
        reason: Box<str>,
    },
    /// A text names no executor, or one that this build cannot make.
    #[error("{place} {text:?}: {problem}")]
    Spec {
        /// Where it stands: `executor`, or a variable of the environment.
        place: &'static str,
        /// The text.
        text: Box<str>,
        /// What is wrong with it, and what is valid.
        problem: Box<str>,
    },
    /// This process was launched as an engine, and starts a cluster of its own: its `main` has to call
    /// `callboard::init()` first.
    #[error("this process was launched as an engine and starts a cluster; call callboard::init() first in main")]
    InitForgotten,
    /// The cluster was shut down, or the program dropped it; or its controller does not let this client in any more.
    #[error(
        "the cluster was shut down; start another, or keep the Cluster alive as long as its clients (to a cluster elsewhere \
         connect again: that tells why it lets nobody in)"
    )]
    ClusterStopped,
    /// The controller cannot be reached at present. It is looked for; ask again once it is back, as
    /// [`engine_events`](crate::Client::engine_events) tell.
    #[error("the controller cannot be reached at present; ask again once it is back")]
    Disconnected,
    /// Blocking here would stop the runtime or arbiter that this thread drives. Use `.await`.
    #[error("this thread drives an async runtime, which blocking would stop; use .await, or ask from spawn_blocking")]
    WouldBlock,
    /// The answer did not come in the time you gave.
    #[error("no answer within {waited:?}")]
    NotReady {
        /// The time you gave.
        waited: Duration,
    },
    /// Engines still run a task that does not return; their threads were left behind.
    #[error("still running after {waited:?}, left behind: {}", names.join(", "))]
    StillRunning {
        /// How long they were waited for.
        waited: Duration,
        /// The threads, by name.
        names: Vec<String>,
    },
    /// Too many of these are waiting already. Wait for some, or raise the limit.
    #[error("{what}: {limit} are waiting already; wait for some, or raise the limit")]
    Overloaded {
        /// What there are too many of.
        what: &'static str,
        /// The limit, from [`Limits`](crate::Limits).
        limit: usize,
    },
    /// Nothing is known of a task with this id, or its value was not kept. Submit with `keep()` what is to be fetched, and
    /// raise `records_max` if records go too soon.
    #[error(
        "nothing is kept of task {task}: it was never submitted here, or refused; its record was purged or went to make \
         room (limits.records_max, record_age_s_max); or its value was asked for and not kept (submit it with keep())"
    )]
    UnknownResult {
        /// The task.
        task: TaskId,
    },
    /// The operating system refused (a thread, a file, a process).
    #[error("{doing}: {reason}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// One value an engine was asked for, and an engine ran several of the tasks. Use `by_engine`.
    #[error("engine {engine} ran {tasks} of the tasks; for several values an engine use by_engine()")]
    SeveralOnOneEngine {
        /// The engine.
        engine: EngineId,
        /// How many of the tasks it ran.
        tasks: usize,
    },
    /// The task ended without a value.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Some tasks of many ended without a value.
    #[error(transparent)]
    Composite(#[from] CompositeError),
}

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

impl TaskError {
    /// The codec refused `what` of a call of `name`.
    pub(crate) fn undecodable(what: Coded, name: &str, reason: &str) -> Self {
        Self::Undecodable { what, text: format!("{name}: {reason}").into() }
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

/// Some tasks of many ended without a value; the others' values are in the result they came from.
///
/// ```
/// use callboard::{CompositeError, Error, prelude::*};
/// # #[task] fn half(x: u32) -> Result<u32, String> { if x % 2 == 0 { Ok(x / 2) } else { Err("odd".into()) } }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().map(half, [2, 3, 4]);
/// let Err(Error::Composite(CompositeError { errors, total })) = ar.get() else { panic!("3 is odd") };
/// assert_eq!((errors[0].0, errors.len(), total), (1, 1, 3));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositeError {
    /// The position of each failed task among all, and how it ended.
    pub errors: Vec<(usize, TaskError)>,
    /// How many tasks there were.
    pub total: usize,
}

impl fmt::Display for CompositeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tasks failed", self.errors.len(), self.total)?;
        const SHOWN: usize = 4;
        for (position, error) in self.errors.iter().take(SHOWN) {
            write!(f, "; [{position}] {error}")?;
        }
        if self.errors.len() > SHOWN {
            write!(f, "; and {} more", self.errors.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompositeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_because_every_pending_result_has_room_for_one() {
        assert!(size_of::<TaskError>() <= 32, "{}", size_of::<TaskError>());
    }
}
