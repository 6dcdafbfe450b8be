//! Questions of a client elsewhere: asked here as a client of this process asks, and answered there.

use bytes::Bytes;
use tokio::sync::oneshot::Receiver;

use super::functions::{UNNAMED, function, named};
use super::ids_here::IdsHere;
use super::trouble::{About, TEXT_BYTES_MAX, error, ns, trouble};
use crate::actors::{Questions, ask};
use crate::error::{Error, TaskError};
use crate::ledger::QueueStatus;
use crate::messages::{FetchKept, GetRecord, GetState, GetStatus, Kept, Pending, PurgeClient, Stop, TakeIn};
use crate::registry::Registry;
use crate::task::{Attempt, Moment, Record, TaskId, TaskState};
use crate::wire::clients::{self, Question, Refusal, Remembered};
use crate::wire::protocol::Body;

/// An answer of the cluster's actors.
pub(super) enum Answer {
    Status(QueueStatus),
    Record(Record),
    Kept(Bytes),
    Done,
    State(Option<TaskState>),
}

impl Answer {
    /// Puts it into a message; `put` its bytes.
    pub(super) fn put(self, put: impl FnOnce(Bytes) -> Body) -> clients::Answer {
        match self {
            Self::Status(status) => clients::Answer::Status(status),
            Self::Record(record) => clients::Answer::Record(Box::new(remembered(&record))),
            Self::Kept(bytes) => clients::Answer::Kept(put(bytes)),
            Self::Done => clients::Answer::Done,
            Self::State(state) => clients::Answer::State(state),
        }
    }
}

/// Asks what a client wants to know.
pub(super) async fn answered(question: Question, client: u64, to: Questions) -> Result<Answer, Refusal> {
    let gone = |_| Refusal::Stopped;
    match question {
        Question::Status => ask(&to.status, GetStatus).await.map(Answer::Status).map_err(gone),
        Question::State(task) => {
            let state = ask(&to.state, GetState { task }).await.map_err(gone)?;
            // So that its outcome is told before, if it has one.
            ask(&to.outcomes, TakeIn).await.map_err(gone)?;
            state.map(Answer::State).map_err(|error| refusal(task, error))
        }
        Question::Record(task) => {
            ask(&to.take_in, TakeIn).await.map_err(gone)?;
            let record = ask(&to.record, GetRecord { task }).await.map_err(gone)?;
            record.map(Answer::Record).map_err(|error| refusal(task, error))
        }
        Question::Fetch(task) => {
            ask(&to.take_in, TakeIn).await.map_err(gone)?;
            loop {
                let kept = ask(&to.fetch, FetchKept { task }).await.map_err(gone)?;
                match kept.map_err(|error| refusal(task, error))? {
                    Kept::Value(bytes) => return Ok(Answer::Kept(bytes)),
                    Kept::Pending(settled) => drop(settled.await),
                }
            }
        }
        Question::Purge => done(ask(&to.purge_client, PurgeClient { client })).await,
        Question::Finish => done(ask(&to.stop, Stop { pending: Pending::Finish })).await,
        Question::CancelAll => done(ask(&to.stop, Stop { pending: Pending::Cancel })).await,
        Question::RunOnHosts(_) | Question::LeaveHosts(_) => Err(Refusal::Other("hosts are asked elsewhere".into())),
    }
}

async fn done(told: Receiver<()>) -> Result<Answer, Refusal> {
    told.await.map(|()| Answer::Done).map_err(|_| Refusal::Stopped)
}

fn refusal(task: TaskId, error: Error) -> Refusal {
    match error {
        Error::UnknownResult { task } => Refusal::UnknownResult(task),
        Error::Task(error) => Refusal::Task(task, trouble(error, TEXT_BYTES_MAX)),
        Error::ClusterStopped => Refusal::Stopped,
        Error::Overloaded { limit, .. } => Refusal::Overloaded(limit as u64),
        other => Refusal::Other(other.to_string().into()),
    }
}

/// Makes of a refusal the error that it was.
pub(super) fn error_of(refusal: Refusal, ids: IdsHere) -> Error {
    match refusal {
        Refusal::UnknownResult(task) => Error::UnknownResult { task },
        Refusal::Task(task, trouble) => {
            // Which function it was is not told: whoever fetches by an id has no more than that.
            TaskError::into(error(trouble, About { task, name: "task", attempt: Attempt(0), ids }))
        }
        Refusal::Stopped => Error::ClusterStopped,
        Refusal::Overloaded(limit) => Error::Overloaded { what: "questions to the controller", limit: limit as usize },
        Refusal::Other(reason) => Error::System { doing: "asking the controller", reason: reason.into() },
    }
}

fn remembered(record: &Record) -> Remembered {
    let now = Moment::now();
    let ago = |moment: Moment| ns(now.since(moment));
    Remembered {
        id: record.id,
        function: function(record.kind),
        label: record.label.as_deref().map(Into::into),
        status: record.status,
        engine: record.engine,
        attempt: record.attempt,
        submitted_ago_ns: ago(record.submitted),
        started_ago_ns: record.started.map(ago),
        completed_ago_ns: record.completed.map(ago),
        stdout: record.stdout.clone(),
        stderr: record.stderr.clone(),
    }
}

/// Makes of what is remembered there a record here, by the clock of this process.
pub(super) fn record_of(remembered: Remembered, registry: &Registry, ids: IdsHere) -> Result<Record, Box<str>> {
    let now = Moment::now();
    let at = |ago| now.before(std::time::Duration::from_nanos(ago));
    Ok(Record {
        id: remembered.id,
        kind: named(remembered.function, registry)?.map_or(&UNNAMED, |named| named.kind),
        label: remembered.label.map(Into::into),
        status: remembered.status,
        engine: remembered.engine.map(|engine| ids.here(engine)),
        attempt: remembered.attempt,
        submitted: at(remembered.submitted_ago_ns),
        started: remembered.started_ago_ns.map(at),
        completed: remembered.completed_ago_ns.map(at),
        stdout: remembered.stdout,
        stderr: remembered.stderr,
    })
}
