//! Where one task is. The ledger knows which engine has it; whether it has begun there only that engine knows, and is asked.
//!
//! While the engine is asked, the task may move on. So what it said counts only for the attempt that it was asked about, and behind what
//! it has returned and handed back until then.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Scheduler;
use crate::error::Error;
use crate::ledger::Whereabouts;
use crate::limits::LOOKS_MAX;
use crate::messages::{GetState, Leave, Look, TakeIn};
use crate::task::{Attempt, EngineId, TaskId, TaskState};

/// How often a task may have moved on while its engine was asked; one that still does is said to be on its way.
const MOVES_MAX: usize = 16;

/// What is known of a task.
enum Sight {
    /// Where it is.
    Known(Result<Option<TaskState>, Error>),
    /// Its engine is asked.
    Asked(Asking),
}

/// An engine is asked what it is at.
struct Asking {
    engine: EngineId,
    attempt: Attempt,
    told: oneshot::Receiver<Option<(TaskId, Attempt)>>,
    _room: OwnedSemaphorePermit,
}

/// What an engine said.
struct Said {
    engine: EngineId,
    /// The attempt that it was asked about.
    attempt: Attempt,
    is_at: Option<(TaskId, Attempt)>,
}

/// The engine that a task was at has said what it is at, or is gone.
#[derive(Message)]
#[rtype(result = "Sight")]
struct Looked {
    task: TaskId,
    said: Option<Said>,
}

impl Handler<GetState> for Scheduler {
    type Result = ResponseFuture<Result<Option<TaskState>, Error>>;

    fn handle(&mut self, GetState { task }: GetState, ctx: &mut Context<Self>) -> Self::Result {
        if self.ledger.whereabouts(task).is_none() {
            // It may have been handed over before; what comes meanwhile holds nobody up.
            let after = self.taken_in + self.submissions.len() as u64;
            while self.taken_in < after && self.take_in_batch(ctx) {}
        }
        let (mut sight, me, store) = (self.sight(task, None, ctx), ctx.address(), self.store.clone());
        Box::pin(async move {
            for _ in 0..MOVES_MAX {
                let asking = match sight {
                    Sight::Known(state) => return state,
                    Sight::Asked(asking) => asking,
                };
                let Asking { engine, attempt, told, _room } = asking;
                let said = told.await.ok().map(|is_at| Said { engine, attempt, is_at });
                // Outcomes that came before come first, and so does what was handed back: that is in the mailbox already.
                store.send(TakeIn).await.map_err(|_| Error::ClusterStopped)?;
                sight = me.send(Looked { task, said }).await.map_err(|_| Error::ClusterStopped)?;
            }
            Ok(Some(TaskState::Queued))
        })
    }
}

impl Handler<Looked> for Scheduler {
    type Result = MessageResult<Looked>;

    fn handle(&mut self, Looked { task, said }: Looked, ctx: &mut Context<Self>) -> Self::Result {
        MessageResult(self.sight(task, said, ctx))
    }
}

impl Scheduler {
    /// Looks where a task is, given what an engine said since it was looked last.
    fn sight(&mut self, task: TaskId, said: Option<Said>, ctx: &mut Context<Self>) -> Sight {
        let (engine, attempt) = match self.ledger.whereabouts(task) {
            None => return Sight::Known(Ok(None)),
            Some(Whereabouts::Waiting) => return Sight::Known(Ok(Some(TaskState::Queued))),
            Some(Whereabouts::At { engine, attempt }) => (engine, attempt),
        };
        if let Some(said) = said.filter(|said| (said.engine, said.attempt) == (engine, attempt)) {
            return Sight::Known(Ok(self.ledger.state_at(task, said.is_at)));
        }
        let Some(look) = self.engines.get(&engine).and_then(|desk| desk.address.look.clone()) else {
            return Sight::Known(Ok(Some(TaskState::Sent { engine: Some(engine) })));
        };
        let Ok(room) = Arc::clone(&self.looks).try_acquire_owned() else {
            return Sight::Known(Err(Error::Overloaded { what: "questions where tasks are", limit: LOOKS_MAX }));
        };
        if !look.connected() {
            ctx.notify(Leave { engine, cause: "its actor stopped".into(), had: Vec::new() });
        }
        let (tell, told) = oneshot::channel();
        look.do_send(Look { tell });
        Sight::Asked(Asking { engine, attempt, told, _room: room })
    }
}
