//! Questions to the actors, and the end.

use actix::Message;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::ledger::QueueStatus;
use crate::task::{Record, TaskId, TaskState};

/// What becomes of tasks that are pending when a cluster or an executor is shut down.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().apply(square(2));
/// cluster.shutdown(Pending::Finish).get()?;
/// assert_eq!(ar.get()?, 4);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// They are finished first.
    Finish,
    /// They settle as cancelled, at once.
    Cancel,
}

/// Asks the Scheduler to accept nothing more; answered when every task is settled.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop {
    /// What becomes of pending tasks.
    pub pending: Pending,
}

/// Asks the Scheduler to take in what callers handed over before this; answered when it has, and when the
/// ResultStore has been told. Or the ResultStore what engines handed over; answered when those who wait know.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct TakeIn;

/// Asks the ResultStore to tell when every task is settled that a client has submitted before one of its own.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AwaitSettled {
    /// The first task of the client that is not waited for.
    pub before: TaskId,
    /// Dropped then, which tells.
    pub tell: oneshot::Sender<()>,
}

/// Asks the Scheduler where the tasks are.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "QueueStatus")]
pub struct GetStatus;

/// Asks the Scheduler where a task is; answered with `None` if it is settled or about to be, or was never submitted.
///
/// Refused as [`Error::Overloaded`] where too many wait for an answer of engines.
///
/// ```
/// use callboard::messages::GetState;
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// # actix::System::new().block_on(async {
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().apply(square(7));
/// let task = ar.id();
/// ar.await?;
/// let state = cluster.addresses().scheduler.send(GetState { task }).await.expect("it is there")?;
/// assert_eq!(state, None, "it is settled");
/// # Ok::<(), callboard::Error>(())
/// # })?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Option<TaskState>, Error>")]
pub struct GetState {
    /// The task.
    pub task: TaskId,
}

/// Asks the ResultStore what it remembers of a task.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Record, Error>")]
pub struct GetRecord {
    /// The task.
    pub task: TaskId,
}

/// Asks the ResultStore for all records of settled tasks, oldest first.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Record>")]
pub struct GetRecords;

/// Asks the ResultStore for a kept value.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Kept, Error>")]
pub struct FetchKept {
    /// The task.
    pub task: TaskId,
}

/// The answer to [`FetchKept`].
#[derive(Debug)]
pub enum Kept {
    /// The value, in postcard.
    Value(Bytes),
    /// The task is not settled yet; resolves when it is, to ask again.
    Pending(oneshot::Receiver<()>),
}

/// Tells the ResultStore to forget the records and kept values of settled tasks.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Purge;

/// As [`Purge`], of the tasks of one client.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct PurgeClient {
    /// The client, as its tasks have it.
    pub client: u64,
}

/// Tells the Scheduler whether a client elsewhere takes what its tasks return.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Flow {
    /// It does not: no more of the tasks of the client of this number start.
    Held(u64),
    /// It does again, or is gone.
    Released(u64),
}

/// Tells the ResultStore that whoever had its tasks is away: each settles as [`Disconnected`](crate::TaskError::Disconnected).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LoseAll;
