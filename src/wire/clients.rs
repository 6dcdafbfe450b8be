//! What a client and a controller say to each other in a session: what views and results of one process say to its
//! actors, as bytes.
//!
//! Tasks, outcomes and answers go on the bulk lane, in order; what is to be done behind tasks that were submitted before
//! goes on the control lane and says how many these were.

use serde::{Deserialize, Serialize};

use super::hosts::{Program, ProgramHash};
use super::protocol::{Body, Encoded};
use crate::ledger::QueueStatus;
use crate::task::{Attempt, EngineId, Lack, Span, Status, Stream, TaskId, TaskState};

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClient {
    /// It calls these functions from now on.
    Functions(Vec<Function>),
    /// It aims at these engines from now on, by this number; whatever had the number before has it no more.
    Engines(u32, Vec<EngineId>),
    /// Have these run, in this order.
    Submit(Vec<Submitted>),
    /// Do this once so many calls were taken in, counted from the start.
    Behind(u64, Wish),
    /// A program that was wanted: the one buffer of this message.
    Program(ProgramHash),
}

/// A function, as its program knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Function {
    /// Its full name.
    pub name: Box<str>,
    /// Its version.
    pub version: u32,
    /// Its fingerprint.
    pub fingerprint: u64,
    /// Whether running it twice is as good as once.
    pub is_idempotent: bool,
}

/// A task, or several of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The task, or the first.
    pub id: TaskId,
    /// How many, counted up from `id`; more than 1 if they are items of a map.
    pub count: u32,
    /// The key of the function.
    pub key: u64,
    /// Which engines may run it.
    pub aim: Aim,
    /// How many more attempts it may have after an error, and after its engine was lost.
    pub retries: (u16, u16),
    /// The caller's name for it.
    pub label: Option<Box<str>>,
    /// How long after it was taken in it is worth anything, in nanoseconds.
    pub deadline_ns: Option<u64>,
    /// Its value is kept by its id.
    pub is_kept: bool,
    /// How many items of a map are to travel together; 0 if that is up to the scheduler.
    pub chunksize: u32,
    /// Its arguments; of several, as `task/encoded/items.rs` has it.
    pub arguments: Encoded,
}

/// Which engines may run a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aim {
    /// Any.
    Any,
    /// This one.
    One(EngineId),
    /// Those that were told by this number.
    Of(u32),
}

/// What a client wants beside tasks being run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Settle these as cancelled.
    Cancel {
        /// The tasks.
        tasks: Vec<Span>,
        /// Why.
        reason: Box<str>,
        /// What is done to those that run.
        manner: Manner,
    },
    /// Answer this, by this number.
    Answer(u64, Question),
}

/// What is done to tasks that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// They are told.
    Ask,
    /// Their processes are ended.
    Force,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Where the tasks are.
    Status,
    /// What is remembered of a task.
    Record(TaskId),
    /// The value that was kept of a task.
    Fetch(TaskId),
    /// To forget what is remembered of the client's own tasks.
    Purge,
    /// To accept nothing more, and finish what is pending.
    Finish,
    /// To accept nothing more, and cancel what is pending.
    CancelAll,
    /// To run a program on hosts.
    RunOnHosts(Box<RunOnHosts>),
    /// To end what was started so.
    LeaveHosts(u64),
    /// Where a task is.
    State(TaskId),
}

/// A program that is to run on hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOnHosts {
    /// Which.
    pub program: Program,
    /// Its arguments, as bytes.
    pub args: Vec<Vec<u8>>,
    /// As how many engines.
    pub engines: u32,
    /// How long hosts with room are waited for, in milliseconds.
    pub wait_ms: u64,
}

/// To a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToClient {
    /// These engines are there, and no others. Comes first.
    Engines(Vec<EngineId>),
    /// One has joined.
    Joined(EngineId),
    /// One has left, and why.
    Left(EngineId, Box<str>),
    /// No engine joins any more: the cluster ends.
    Ending,
    /// Tasks have settled.
    Settled(Vec<Settled>),
    /// The answer to the question of this number.
    Answer(u64, Result<Answer, Refusal>),
    /// A program that is to run on hosts is to be sent.
    Wanted(ProgramHash),
}

/// How a task ended, or several together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The task, or the first.
    pub id: TaskId,
    /// How many.
    pub count: u32,
    /// The key of their function.
    pub key: u64,
    /// Which attempt it was.
    pub attempt: Attempt,
    /// The engine of that attempt.
    pub engine: Option<EngineId>,
    /// How long the attempt ran, in nanoseconds, if it did.
    pub ran_ns: Option<u64>,
    /// The value, or why there is none.
    pub outcome: Result<Returned, Trouble>,
    /// What was printed meanwhile, by task.
    pub printed: Vec<(TaskId, Stream, Box<str>)>,
}

/// What was returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// A value.
    One(Encoded),
    /// The values of several items.
    Each {
        /// As `task/encoded/items.rs` has it; nothing where there is none.
        values: Encoded,
        /// Why there is none, by place, in order.
        troubles: Vec<(u32, Trouble)>,
    },
}

/// Why a task has no value: [`TaskError`](crate::TaskError), as far as a task can end so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// Its code returned an error, on this engine.
    Failed(Option<EngineId>, Box<str>),
    /// Its code panicked.
    Panicked(Option<EngineId>, Box<str>),
    /// It was cancelled.
    Cancelled(Box<str>),
    /// It was not done within so many nanoseconds.
    TimedOut(u64),
    /// Its engine was lost at this attempt.
    EngineLost(EngineId, Attempt, Box<str>),
    /// There were so many of these already.
    Overloaded(Box<str>, u64),
    /// There is no engine.
    NoEngines,
    /// The engine's program has no such function.
    Unknown(EngineId, Box<str>, Lack),
    /// The arguments cannot be read or written.
    Arguments(Box<str>),
    /// The value cannot be read or written.
    Value(Box<str>),
    /// It was kept, and is no more.
    Evicted,
    /// Whoever had it is gone.
    Disconnected,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Where the tasks are.
    Status(QueueStatus),
    /// What is remembered of a task.
    Record(Box<Remembered>),
    /// The value that was kept, in postcard.
    Kept(Body),
    /// It is done.
    Done,
    /// These engines have joined, of the launch of this number.
    OnHosts(u64, Vec<EngineId>),
    /// Where a task is that is not settled; of one that is its outcome tells. It comes behind the outcomes that there were.
    State(Option<TaskState>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Nothing is known of such a task.
    UnknownResult(TaskId),
    /// The task ended without a value.
    Task(TaskId, Trouble),
    /// The cluster has ended.
    Stopped,
    /// So many questions wait already.
    Overloaded(u64),
    /// Something else, in words.
    Other(Box<str>),
}

/// What is remembered of a task. Moments are told by how long ago they were, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The task.
    pub id: TaskId,
    /// Its function.
    pub function: Function,
    /// The caller's name for it.
    pub label: Option<Box<str>>,
    /// Where it is in its life.
    pub status: Status,
    /// The engine of the attempt that settled it.
    pub engine: Option<EngineId>,
    /// That attempt.
    pub attempt: Attempt,
    /// When the scheduler took it.
    pub submitted_ago_ns: u64,
    /// When that attempt started.
    pub started_ago_ns: Option<u64>,
    /// When its outcome reached the result store.
    pub completed_ago_ns: Option<u64>,
    /// What that attempt printed to its standard output.
    pub stdout: Box<str>,
    /// What it printed to its standard error.
    pub stderr: Box<str>,
}

impl Submitted {
    /// Returns how many bytes of text it has.
    pub fn text_bytes(&self) -> usize {
        self.label.as_ref().map_or(0, |label| label.len())
    }
}

impl Settled {
    /// Returns how many bytes of text it has.
    pub fn text_bytes(&self) -> usize {
        let printed: usize = self.printed.iter().map(|(_, _, text)| text.len()).sum();
        let troubles = match &self.outcome {
            Ok(Returned::One(_)) => 0,
            Ok(Returned::Each { troubles, .. }) => troubles.iter().map(|(_, trouble)| trouble.text_bytes()).sum(),
            Err(trouble) => trouble.text_bytes(),
        };
        printed + troubles
    }
}

impl Trouble {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Failed(_, text) | Self::Panicked(_, text) | Self::EngineLost(_, _, text) => text.len(),
            Self::Cancelled(text) | Self::Overloaded(text, _) | Self::Unknown(_, text, _) => text.len(),
            Self::Arguments(text) | Self::Value(text) => text.len(),
            Self::TimedOut(_) | Self::NoEngines | Self::Evicted | Self::Disconnected => 0,
        }
    }
}
