//! What can go wrong: [`Error`] when your call was refused, [`TaskError`] when a task ended without a value.
//!
//! Inside a task there is a third, [`TaskFailure`](crate::TaskFailure): what its code reports.

mod task_error;
mod composite;

use std::time::Duration;

use crate::task::{EngineId, TaskId};

pub use composite::CompositeError;
pub use task_error::{Coded, Place, TaskError};

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
    /// An engine was to be restarted that dialled in: whatever launched it starts it. Remove it, and launch another where it was.
    #[error("engine {engine} dialled in, so it cannot be started again from here; remove it, and launch another")]
    StartedElsewhere {
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
    /// More threads or processes than one machine is for: likely a slip. Ask for fewer, or spread them over machines.
    #[error("{what} is {asked}; it must be at most {max}")]
    TooMany {
        /// The setting.
        what: &'static str,
        /// What was asked for.
        asked: usize,
        /// The most there may be.
        max: usize,
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
