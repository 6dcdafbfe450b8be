//! The ResultStore: the one place that decides that a task is settled. The first outcome wins; later ones
//! are counted. It resolves who waits, keeps the record, and tells the Scheduler.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::Callbacks;
use super::barrier::Barrier;
use super::lane::{Lane, LaneStream};
use super::records::Records;
use super::waiting::Waiting;
use crate::admission::{Admission, Released};
use crate::error::{Error, TaskError};
use crate::limits::Limits;
use crate::messages::{
    Aftermath, AwaitSettled, Completion, Dispatch, Expect, FetchKept, Finished, GetRecord, GetRecords, Kept, LoseAll,
    Purge, PurgeClient, Settled, TakeIn, Watch, Watched,
};
use crate::task::{Moment, Record, Span, TaskId};
use decide::{Decided, publish};

/// The actor that publishes outcomes.
pub struct ResultStore {
    waiting: Waiting,
    records: Records,
    scheduler: Recipient<Settled>,
    callbacks: Addr<Callbacks>,
    admission: Arc<Admission>,
    /// Who asked for the kept value of a task that is not settled.
    asking: HashMap<TaskId, Vec<oneshot::Sender<()>>>,
    /// Who waits for tasks that were pending.
    barriers: Vec<Barrier>,
    /// What engines push.
    finished: Arc<Lane<Completion>>,
    /// How long the arbiter looks for more of it before it sleeps.
    patience: Duration,
}

/// What a ResultStore is made of.
pub(crate) struct ResultStoreParts {
    pub(crate) limits: Limits,
    pub(crate) scheduler: Recipient<Settled>,
    pub(crate) callbacks: Addr<Callbacks>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) finished: Arc<Lane<Completion>>,
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
            barriers: Vec::new(),
            finished: parts.finished,
            patience: parts.limits.spin(),
        }
    }
}

impl Actor for ResultStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(LaneStream::new(self.finished.clone(), self.patience));
    }
}

impl Drop for ResultStore {
    fn drop(&mut self) {
        // Whoever waits for room must not wait for ever. Those who wait for outcomes learn it from their waiters.
        self.admission.close();
    }
}

impl StreamHandler<Vec<Completion>> for ResultStore {
    fn handle(&mut self, batch: Vec<Completion>, _: &mut Context<Self>) {
        self.settle(batch);
    }
}

impl Handler<Watch> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: Watch, _: &mut Context<Self>) {
        for watched in msg.batch {
            let (count, weight) = (watched.count, watched.weight);
            if let Some(second) = self.waiting.insert(watched) {
                // Before anybody is woken, as always.
                let mut released = Released::default();
                released.add(count, weight);
                self.admission.release(released);
                // The second waiter of one id settles as it is dropped.
                drop(second);
            }
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
        self.settle(msg.batch);
    }
}

impl ResultStore {
    /// Settles what an outcome is the first of, and tells who waits.
    fn settle(&mut self, batch: Vec<Completion>) {
        let now = Moment::now();
        let mut decided = Decided::with_capacity(batch.len());
        for completion in batch {
            self.decide(now, completion, &mut decided);
        }
        let Decided { released, settled, outcomes } = decided;
        // Before anybody is woken: whoever then asks or submits finds these tasks gone.
        self.admission.release(released);
        self.scheduler.do_send(Settled { batch: settled });
        let left: Vec<Aftermath> = outcomes.into_iter().filter_map(publish).collect();
        if !left.is_empty() {
            self.callbacks.do_send(Dispatch { batch: left });
        }
        // After the results: whoever hears of it finds them settled.
        self.barriers.retain(|barrier| !barrier.is_open());
    }
}

impl Handler<AwaitSettled> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: AwaitSettled, _: &mut Context<Self>) {
        // Those that nobody waits for any more make room.
        self.barriers.retain(|barrier| !barrier.is_abandoned());
        self.barriers.extend(Barrier::new(self.waiting.before(msg.before), msg.tell));
    }
}

impl Handler<TakeIn> for ResultStore {
    type Result = ();

    fn handle(&mut self, _: TakeIn, _: &mut Context<Self>) {
        // What comes meanwhile holds nobody up.
        let mut before = self.finished.len();
        while before > 0
            && let Some(batch) = self.finished.take()
        {
            before = before.saturating_sub(batch.len());
            self.settle(batch);
        }
    }
}

impl Handler<GetRecord> for ResultStore {
    type Result = Result<Record, Error>;

    fn handle(&mut self, msg: GetRecord, _: &mut Context<Self>) -> Self::Result {
        let pending = || self.waiting.get(msg.task).map(|watched| record_of(msg.task, watched));
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
            let asking = self.asking.entry(msg.task).or_default();
            // Those that nobody waits for any more make room.
            asking.retain(|other| !other.is_closed());
            asking.push(settled);
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

impl Handler<PurgeClient> for ResultStore {
    type Result = ();

    fn handle(&mut self, msg: PurgeClient, _: &mut Context<Self>) {
        self.records.purge_client(msg.client);
    }
}

impl Handler<LoseAll> for ResultStore {
    type Result = ();

    fn handle(&mut self, _: LoseAll, _: &mut Context<Self>) {
        let lost = |span: Span| Completion::without_value(span.first, span.count, TaskError::Disconnected);
        let lost = self.waiting.spans().map(lost).collect();
        self.settle(lost);
    }
}

fn record_of(task: TaskId, watched: &Watched) -> Record {
    Record::new(task, watched.kind, watched.extras.as_deref(), watched.submitted, None)
}
