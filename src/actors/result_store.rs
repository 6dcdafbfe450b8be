//! The ResultStore: the one place that decides that a task is settled. The first outcome wins; later ones
//! are counted. It resolves who waits, keeps the record, and tells the Scheduler.

use std::sync::Arc;

use actix::prelude::*;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::Callbacks;
use super::lane::{Lane, LaneStream};
use super::records::Records;
use super::waiting::Waiting;
use crate::admission::{Admission, Released};
use crate::error::{Error, TaskError};
use crate::ledger::{SettledTask, Verdict};
use crate::limits::Limits;
use crate::messages::{
    Aftermath, Completion, Dispatch, Expect, FetchKept, Finished, GetRecord, GetRecords, Kept, Purge, Settled, Waiter,
    Watch, Watched,
};
use crate::task::{Moment, Outcome, Record, Run, Status, TaskId, Value};

/// The actor that publishes outcomes.
pub struct ResultStore {
    waiting: Waiting,
    records: Records,
    scheduler: Recipient<Settled>,
    callbacks: Addr<Callbacks>,
    admission: Arc<Admission>,
    /// Who asked for the kept value of a task that is not settled.
    asking: HashMap<TaskId, Vec<oneshot::Sender<()>>>,
    /// What engines push; taken by `started`.
    finished: Option<LaneStream<Completion>>,
}

/// What a ResultStore is made of.
pub(crate) struct ResultStoreParts {
    pub(crate) limits: Limits,
    pub(crate) scheduler: Recipient<Settled>,
    pub(crate) callbacks: Addr<Callbacks>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) finished: Arc<Lane<Completion>>,
}

/// An outcome that counted, and who waits for it.
struct Won {
    waiter: Option<Waiter>,
    run: Run,
    outcome: Outcome,
}

impl ResultStore {
    pub(crate) fn new(parts: ResultStoreParts) -> Self {
        Self {
            waiting: Waiting::default(),
            records: Records::new(&parts.limits),
            scheduler: parts.scheduler,
            callbacks: parts.callbacks,
            admission: parts.admission,
            asking: HashMap::new(),
            finished: Some(LaneStream::new(parts.finished, parts.limits.spin())),
        }
    }

    /// Decides whether an outcome counts, and remembers it if it does; else returns what is to be dropped.
    fn decide(
        &mut self,
        now: Moment,
        completion: Completion,
        released: &mut Released,
    ) -> (SettledTask, Result<Won, Outcome>) {
        let Completion { id, attempt, engine, ran, outcome, kept } = completion;
        let settled = SettledTask { id, engine, attempt, ran, verdict: Verdict::First };
        // The scheduler's own word is not an attempt's, and is never stale.
        let Some(watched) = self.waiting.complete(id, engine.map(|_| attempt)) else {
            return (SettledTask { verdict: Verdict::Late, ..settled }, Err(outcome));
        };
        let Watched { kind, extras, submitted, weight, waiter, .. } = watched;
        released.add(weight);
        let status = outcome.as_ref().err().map_or(Status::Done, TaskError::status);
        let started = ran.map(|ran| now.before(ran).max(submitted));
        let run = Run { status, engine, attempt, started, completed: now };
        if extras.as_ref().is_some_and(|extras| extras.keep) {
            self.records.keep(id, kept.map(|bytes| *bytes).ok_or_else(|| error_of(&outcome)));
        }
        if !self.asking.is_empty() {
            // Dropping the senders tells those who asked too early.
            self.asking.remove(&id);
        }
        self.records.add(id, kind, extras, submitted, run);
        (settled, Ok(Won { waiter, run, outcome }))
    }
}

impl Actor for ResultStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(finished) = self.finished.take() {
            ctx.add_stream(finished);
        }
    }
}

impl Drop for ResultStore {
    fn drop(&mut self) {
        // Whoever waits for room must not wait for ever. Those who wait for outcomes learn it from their waiters.
        self.admission.close();
    }
}

/// What engines pushed is one `Finished`.
impl StreamHandler<Vec<Completion>> for ResultStore {
    fn handle(&mut self, batch: Vec<Completion>, ctx: &mut Context<Self>) {
        Handler::handle(self, Finished { batch }, ctx);
    }
}

impl Handler<Watch> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: Watch, _: &mut Context<Self>) {
        for watched in msg.batch {
            // The second waiter of one id settles as it is dropped.
            drop(self.waiting.insert(watched));
        }
    }
}

impl Handler<Expect> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: Expect, _: &mut Context<Self>) {
        for (task, attempt) in msg.batch {
            self.waiting.expect(task, attempt);
        }
    }
}

impl Handler<Finished> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: Finished, _: &mut Context<Self>) {
        let (now, mut released) = (Moment::now(), Released::default());
        let decided = msg.batch.into_iter().map(|completion| self.decide(now, completion, &mut released));
        let (batch, outcomes): (Vec<_>, Vec<_>) = decided.unzip();
        // Before anybody is woken: whoever then asks or submits finds these tasks gone.
        self.admission.release(released);
        self.scheduler.do_send(Settled { batch });
        let left: Vec<Aftermath> = outcomes.into_iter().filter_map(publish).collect();
        if !left.is_empty() {
            self.callbacks.do_send(Dispatch { batch: left });
        }
    }
}

impl Handler<GetRecord> for ResultStore {
    type Result = Result<Record, Error>;

    fn handle(&mut self, msg: GetRecord, _: &mut Context<Self>) -> Self::Result {
        let pending = || self.waiting.get(msg.task).map(record_of);
        self.records.get(msg.task).or_else(pending).ok_or(Error::UnknownResult { task: msg.task })
    }
}

impl Handler<GetRecords> for ResultStore {
    type Result = MessageResult<GetRecords>;

    fn handle(&mut self, _: GetRecords, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.records.all())
    }
}

impl Handler<FetchKept> for ResultStore {
    type Result = Result<Kept, Error>;

    fn handle(&mut self, msg: FetchKept, _: &mut Context<Self>) -> Self::Result {
        if self.waiting.get(msg.task).is_some() {
            let (settled, told) = oneshot::channel();
            self.asking.entry(msg.task).or_default().push(settled);
            return Ok(Kept::Pending(told));
        }
        let kept = self.records.fetch(msg.task).ok_or(Error::UnknownResult { task: msg.task })?;
        Ok(Kept::Value(kept?))
    }
}

impl Handler<Purge> for ResultStore {
    type Result = ();

    fn handle(&mut self, _: Purge, _: &mut Context<Self>) {
        self.records.purge();
    }
}

/// Hands an outcome to who waits for it. Returns what is left to do.
fn publish(decided: Result<Won, Outcome>) -> Option<Aftermath> {
    match decided {
        Ok(Won { waiter: Some(waiter), run, outcome }) => waiter.settle(run, outcome).map(|aftermath| *aftermath),
        Ok(Won { waiter: None, outcome, .. }) | Err(outcome) => outcome.ok().and_then(unwanted),
    }
}

/// A value that nobody waits for is dropped where its `Drop` may do what it likes.
fn unwanted(value: Value) -> Option<Aftermath> {
    value.needs_drop().then(|| Aftermath { leftover: Some(Box::new(value)), ..Aftermath::default() })
}

fn error_of(outcome: &Outcome) -> TaskError {
    outcome.as_ref().err().cloned().unwrap_or(TaskError::ResultEvicted)
}

fn record_of(watched: &Watched) -> Record {
    Record::new(watched.id, watched.kind, watched.extras.as_deref(), watched.submitted, None)
}
