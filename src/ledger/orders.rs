//! What the ledger is told, and what it orders.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::TaskError;
use crate::task::{Attempt, EngineId, Extras, Payload, Printed, Retries, Span, Target, TaskId, TaskKind, TaskTable};

/// A task that a caller wants run.
#[derive(Debug)]
pub struct Request {
    /// The task, or the first of several: those of a [`Chunk`](crate::task::Chunk) are counted up from here.
    pub id: TaskId,
    /// Its function.
    pub kind: &'static TaskKind,
    /// The call.
    pub payload: Payload,
    /// Which engines may run it.
    pub target: Target,
    /// How many more attempts it may have.
    pub retries: Retries,
    /// Label, deadline and what else few callers ask for.
    pub extras: Option<Arc<Extras>>,
}

/// What the scheduler is to do next.
#[derive(Debug)]
pub enum Order {
    /// Send the task to the engine.
    Run {
        /// Where to.
        engine: EngineId,
        /// What.
        assignment: Assignment,
    },
    /// Tell the engine that nobody waits for the task any more.
    Revoke {
        /// The engine that has it.
        engine: EngineId,
        /// The task.
        task: TaskId,
    },
    /// Ask the engine to hand back what it has not started: another one is idle.
    Recall {
        /// The engine.
        engine: EngineId,
    },
    /// The engine has nothing left and is to leave: it was asked to.
    Dismiss {
        /// The engine.
        engine: EngineId,
        /// Why it was to go.
        cause: Box<str>,
    },
    /// Tell the result store how tasks ended.
    Settle {
        /// The tasks.
        tasks: Span,
        /// How often they had started.
        attempt: Attempt,
        /// The engine that they were at last, if they had started.
        at: Option<EngineId>,
        /// Why they have no value.
        error: TaskError,
        /// What the last attempt printed, if that is known.
        printed: Option<Arc<Printed>>,
    },
    /// Tell the result store that outcomes of attempts before this one are stale.
    Expect {
        /// The tasks.
        tasks: Span,
        /// The next attempt.
        attempt: Attempt,
    },
    /// Drop the call, where code of the user's may run.
    Discard(Payload),
}

/// One attempt, as an engine gets it. The call may be a chunk: one attempt of each of its tasks.
#[derive(Debug)]
pub struct Assignment {
    /// The task, or the first of several.
    pub id: TaskId,
    /// Which execution this is.
    pub attempt: Attempt,
    /// Whether the call is to be handed back for another attempt if this one fails.
    pub may_retry: bool,
    /// The call.
    pub payload: Payload,
    /// Label, deadline and what else few callers ask for.
    pub extras: Option<Arc<Extras>>,
}

impl Assignment {
    /// Takes the first `count` tasks out; `None` if there are not more than that.
    pub fn split_front(&mut self, count: u32) -> Option<Self> {
        let payload = self.payload.split_front(count)?;
        let Self { id, attempt, may_retry, ref extras, .. } = *self;
        self.id = id.plus(count);
        Some(Self { id, attempt, may_retry, payload, extras: extras.clone() })
    }
}

/// A task that an engine gives back without an outcome; or several of a chunk, its last ones.
#[derive(Debug)]
pub struct HandBack {
    /// The task, or the first of several.
    pub id: TaskId,
    /// How many, counted up from `id`.
    pub count: u32,
    /// The attempt that was to be made, or was made.
    pub attempt: Attempt,
    /// The call, for another attempt; `None` if it was dropped or used up.
    pub payload: Option<Payload>,
    /// How the attempt ended; `None` if it never started and so used no attempt.
    pub error: Option<TaskError>,
    /// What the attempt printed, if it had begun and its engine can tell.
    pub printed: Option<Arc<Printed>>,
}

impl HandBack {
    /// Gives back what was not started.
    pub fn unstarted(assignment: Assignment) -> Self {
        let Assignment { id, attempt, payload, .. } = assignment;
        Self { id, count: payload.count(), attempt, payload: Some(payload), error: None, printed: None }
    }
}

/// What the result store made of an outcome that reached it.
///
/// It counts for a task if it is the first; not if the task was settled before, or the attempt is stale.
#[derive(Clone, Copy, Debug)]
pub struct SettledTask {
    /// The task, or the first of several.
    pub id: TaskId,
    /// How many, counted up from `id`.
    pub count: u32,
    /// The engine that made the outcome; `None` if the scheduler did.
    pub engine: Option<EngineId>,
    /// The attempt that made it.
    pub attempt: Attempt,
    /// How long that attempt ran.
    pub ran: Option<Duration>,
    /// For how many of the tasks it counted.
    pub won: u32,
}

/// What an engine brings when it joins.
#[derive(Clone, Debug)]
pub struct EngineOffer {
    /// How many tasks it runs at once.
    pub slots: u32,
    /// Whether it is in this process, and so takes closures.
    pub is_local: bool,
    /// The tasks that its program has; `None` if it is built as this one is.
    pub tasks: Option<Arc<TaskTable>>,
}

/// One engine in the [`QueueStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// The engine.
    pub id: EngineId,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// Whether it is a thread of the controller's process.
    pub is_local: bool,
    /// Tasks sent to it and not yet returned.
    pub outstanding: u32,
    /// Tasks in the scheduler that wait for this engine and no other.
    pub queued: usize,
    /// Tasks that were settled by what it returned, since it joined.
    pub settled: u64,
    /// How long ago it joined; zero where nobody looks at a clock.
    pub up: Duration,
}

/// Where the tasks are, at one moment.
///
/// ```
/// use callboard::prelude::*;
///
/// let cluster = Cluster::threads(2).start()?;
/// let status = cluster.client().queue_status().get()?;
/// assert_eq!((status.pending, status.engines.len(), status.engines[1].outstanding), (0, 2, 0));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Tasks accepted and not settled.
    pub pending: usize,
    /// Of these, tasks that wait in the scheduler.
    pub queued: usize,
    /// Each engine, in the order of their ids.
    pub engines: Vec<EngineStatus>,
    /// Tasks settled since the start.
    pub settled: u64,
    /// Outcomes that came after the task was settled, or from a stale attempt, and were dropped.
    pub late_outcomes: u64,
    /// Callbacks whose recipient was gone.
    pub undeliverable_callbacks: u64,
    /// Callbacks that panicked.
    pub panicked_callbacks: u64,
}
