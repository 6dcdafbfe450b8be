//! How a task ended, and what is remembered of it.
//!
//! A task's life, as its record shows it:
//!
//! | status      | entered when                                            | left for                     |
//! |-------------|---------------------------------------------------------|------------------------------|
//! | `Pending`   | a client makes it                                       | any of the others, once      |
//! | `Done`      | an attempt returned a value                             | never                        |
//! | `Failed`    | the last attempt allowed returned an error              | never                        |
//! | `Panicked`  | the last attempt allowed panicked                       | never                        |
//! | `Cancelled` | a caller cancelled it, or the cluster stopped           | never                        |
//! | `TimedOut`  | its deadline passed                                     | never                        |
//! | `Lost`      | its engine was lost and no further attempt was allowed  | never                        |
//! | `Refused`   | it could not be accepted (limits, unknown task, ..)     | never                        |
//!
//! In a race the first outcome that reaches the result store wins; later ones are counted and dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, EngineId, Extras, Moment, Printed, Stream, TaskId, TaskKind, Value};
use crate::error::TaskError;

/// How an attempt ended: the value, or why there is none.
pub type Outcome = Result<Value, TaskError>;

/// Where a task is in its life; see the table above.
///
/// ```
/// use callboard::{Status, TaskError};
///
/// assert_eq!(TaskError::NoEngines.status(), Status::Refused);
/// assert_eq!(Status::TimedOut.to_string(), "timed out");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Not settled yet: queued, sent or running.
    #[default]
    Pending,
    /// It has a value.
    Done,
    /// Its code returned an error.
    Failed,
    /// Its code panicked.
    Panicked,
    /// It was cancelled.
    Cancelled,
    /// Its deadline passed.
    TimedOut,
    /// Its engine was lost.
    Lost,
    /// It was never accepted.
    Refused,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Lost => "lost",
            Self::Refused => "refused",
        })
    }
}

/// How a task ended, which engine ran it, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub status: Status,
    /// The engine of the attempt that settled the task.
    pub engine: Option<EngineId>,
    /// Which attempt that was.
    pub attempt: Attempt,
    /// When that attempt started, by the engine's own measure of how long it took.
    pub started: Option<Moment>,
    /// When the outcome reached the result store.
    pub completed: Moment,
    /// What the attempt printed, and others that settled with it; only engines in processes of their own tell.
    pub printed: Option<Arc<Printed>>,
}

impl Run {
    /// Describes a task that ended now and never started.
    pub fn none(error: &TaskError) -> Self {
        let (status, completed) = (error.status(), Moment::now());
        Self { status, engine: None, attempt: Attempt(0), started: None, completed, printed: None }
    }
}

/// What is remembered of a task: the answer to `ar.metadata()`.
///
/// ```
/// use callboard::{Status, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().with().label("one").apply(square(3));
/// ar.wait()?;
/// let record = ar.metadata();
/// assert_eq!((record.name(), record.status, record.label.as_deref()), ("square", Status::Done, Some("one")));
/// assert!(record.submitted <= record.started.unwrap() && record.run_time().is_some());
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    /// The task.
    pub id: TaskId,
    /// Its function.
    pub kind: &'static TaskKind,
    /// The caller's name for it.
    pub label: Option<Arc<str>>,
    /// Where it is in its life.
    pub status: Status,
    /// The engine of the attempt that settled it.
    pub engine: Option<EngineId>,
    /// That attempt; 0 if it never started.
    pub attempt: Attempt,
    /// When it was submitted: in the record of a result when the call was made, in one of the cluster's
    /// ([`Client::record`](crate::Client::record)) when the Scheduler took it, from where on its deadline counts.
    pub submitted: Moment,
    /// When that attempt started.
    pub started: Option<Moment>,
    /// When its outcome reached the result store.
    pub completed: Option<Moment>,
    /// What that attempt printed to its standard output, if its engine is a process of its own: the last
    /// `limits.printed_bytes_max` bytes of it, and a line that says so if there was more.
    pub stdout: Box<str>,
    /// What it printed to its standard error.
    pub stderr: Box<str>,
}

impl Record {
    /// Puts a record together; `run` is there once the task is settled.
    pub(crate) fn new(
        id: TaskId,
        kind: &'static TaskKind,
        extras: Option<&Extras>,
        submitted: Moment,
        run: Option<Run>,
    ) -> Self {
        let printed = run.as_ref().and_then(|run| run.printed.as_deref());
        let text = |stream| printed.and_then(|printed| printed.of(id, stream)).unwrap_or_default().into();
        let (stdout, stderr) = (text(Stream::Stdout), text(Stream::Stderr));
        Self {
            id,
            kind,
            label: extras.and_then(|extras| extras.label.clone()),
            status: run.as_ref().map_or(Status::Pending, |run| run.status),
            engine: run.as_ref().and_then(|run| run.engine),
            attempt: run.as_ref().map_or(Attempt(0), |run| run.attempt),
            submitted,
            started: run.as_ref().and_then(|run| run.started),
            completed: run.map(|run| run.completed),
            stdout,
            stderr,
        }
    }

    /// Returns how long the attempt that settled the task ran, if it did.
    pub fn run_time(&self) -> Option<Duration> {
        Some(self.completed?.since(self.started?))
    }

    /// Returns the name of the function, without its path.
    pub fn name(&self) -> &'static str {
        self.kind.short_name()
    }
}
