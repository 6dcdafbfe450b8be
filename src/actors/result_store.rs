//! The ResultStore: the one place that decides that a task is settled. The first outcome wins; later ones
//! are counted. It resolves who waits, keeps the record, and tells the Scheduler.

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
use crate::ledger::SettledTask;
use crate::limits::Limits;
use crate::messages::{
    Aftermath, AwaitSettled, Completion, Dispatch, Expect, FetchKept, Finished, GetRecord, GetRecords, Kept, LoseAll,
    Purge, PurgeClient, Settled, TakeIn, Waiter, Watch, Watched,
};
use crate::task::{Moment, Outcome, Record, Run, Span, Status, TaskId, Value};

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

/// What a batch of outcomes comes to.
#[derive(Default)]
struct Decided {
    released: Released,
    settled: Vec<SettledTask>,
    /// What to tell who waits, and what to drop.
    outcomes: Vec<Result<Won, Outcome>>,
}

/// An outcome that counted, and who waits for it.
struct Won {
    waiter: Option<Waiter>,
    run: Run,
    outcome: Outcome,
}

impl Decided {
    fn with_capacity(count: usize) -> Self {
        Self { settled: Vec::with_capacity(count), outcomes: Vec::with_capacity(count), ..Self::default() }
    }
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

    /// Decides for which tasks an outcome counts, and remembers it for those.
    fn decide(&mut self, now: Moment, completion: Completion, decided: &mut Decided) {
        let Completion { id, count, attempt, engine, at, ran, mut outcome, mut kept, printed } = completion;
        let tasks = Span { first: id, count };
        let started = ran.map(|ran| now.before(ran));
        let (mut won, mut next) = (0, id);
        let Self { waiting, records, asking, barriers, .. } = self;
        // The scheduler's own word is not an attempt's, and is never stale.
        waiting.complete(tasks, engine.map(|_| attempt), |watched| {
            let span = watched.span();
            // What lies before this part counts for nobody, and so does what is left in the end.
            drop_front(&mut outcome, (span.first.seq - next.seq) as u32, decided);
            let mut outcome = take_front(&mut outcome, span.count);
            next = span.last().plus(1);
            won += span.count;
            barriers.iter_mut().for_each(|barrier| barrier.on_settled(span));
            let Watched { kind, extras, submitted, weight, waiter, .. } = watched;
            decided.released.add(span.count, weight);
            if let Some(deadline) = extras.as_ref().and_then(|extras| extras.deadline)
                && now.since(submitted) > deadline
                && outcome.is_ok()
            {
                // The timer has not rung yet, or the Scheduler has not come to it.
                let late = std::mem::replace(&mut outcome, Err(TaskError::TimedOut { deadline }));
                decided.outcomes.push(Err(late));
            }
            let started = started.map(|started| started.max(submitted));
            let (status, printed) = (status_of(&outcome), printed.clone());
            let run = Run { status, engine: engine.or(at), attempt, started, completed: now, printed };
            if extras.as_ref().is_some_and(|extras| extras.keep) {
                records.keep(span, kept.take().map(|bytes| *bytes).ok_or_else(|| error_of(&outcome)));
            }
            if !asking.is_empty() {
                // Dropping the senders tells those who asked too early.
                asking.retain(|&task, _| !span.contains(task));
            }
            let ends = outcome.as_ref().map_or_else(|_| Vec::new(), Value::ends);
            if ends.is_empty() {
                records.add(span, kind, extras, submitted, run.clone());
            } else {
                // Items that ran together, and did not all end alike.
                let mut first = span.first;
                for (status, count) in ends {
                    let run = Run { status, ..run.clone() };
                    records.add(Span { first, count }, kind, extras.clone(), submitted, run);
                    first = first.plus(count);
                }
            }
            decided.outcomes.push(Ok(Won { waiter, run, outcome }));
        });
        decided.settled.push(SettledTask { id, count, engine, attempt, ran, won });
        if next != tasks.last().plus(1) {
            decided.outcomes.push(Err(outcome));
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

/// Takes the outcome of the first `count` tasks: a part of the values, or the error again.
fn take_front(outcome: &mut Outcome, count: u32) -> Outcome {
    match outcome {
        Ok(value) => match value.split_front(count) {
            Some(front) => Ok(front),
            // All that is left; what stays behind is never looked at.
            None => std::mem::replace(outcome, Err(TaskError::Disconnected)),
        },
        Err(error) => Err(error.clone()),
    }
}

/// Puts the outcome of the first `count` tasks, for which nobody waits, with what is to be dropped.
fn drop_front(outcome: &mut Outcome, count: u32, decided: &mut Decided) {
    if count > 0 {
        let front = take_front(outcome, count);
        decided.outcomes.push(Err(front));
    }
}

fn status_of(outcome: &Outcome) -> Status {
    match outcome {
        Ok(value) => value.failed().unwrap_or(Status::Done),
        Err(error) => error.status(),
    }
}

fn error_of(outcome: &Outcome) -> TaskError {
    outcome.as_ref().err().cloned().unwrap_or(TaskError::ResultEvicted)
}

fn record_of(task: TaskId, watched: &Watched) -> Record {
    Record::new(task, watched.kind, watched.extras.as_deref(), watched.submitted, None)
}
