//! The Scheduler: takes tasks in, asks the ledger which engine gets which, and carries out its orders.

mod engines;
mod questions;
mod state;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use hashbrown::HashMap;
use tokio::sync::{Semaphore, oneshot};

use super::lane::{Lane, LaneStream};
use super::{CallbackCounts, Callbacks, ResultStore, Roster, Subscribers};
use crate::admission::{Admission, Released};
use crate::apart;
use crate::error::TaskError;
use crate::ledger::{Assignment, Ledger, Order, Policy};
use crate::limits::{LOOKS_MAX, Limits, RECALL_LOOK_MS};
use crate::messages::{
    Cancel, Completion, Discard, EngineAddress, Expect, Finished, Flow, HandedBack, Leave, Manner, Recall, Revoke, Run,
    Settled, StopEngine, Submission, Submit, Watch,
};
use crate::task::{EngineId, Moment};

/// The actor that decides which engine runs which task.
///
/// ```
/// use callboard::{messages::GetStatus, prelude::*};
///
/// # actix::System::new().block_on(async {
/// let cluster = Cluster::threads(2).start()?;
/// let status = cluster.addresses().scheduler.send(GetStatus).await.expect("it is there");
/// assert_eq!(status.engines.len(), 2);
/// # Ok::<(), callboard::Error>(())
/// # })?;
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct Scheduler {
    ledger: Ledger,
    engines: HashMap<EngineId, Desk>,
    store: Addr<ResultStore>,
    callbacks: Addr<Callbacks>,
    counts: Arc<CallbackCounts>,
    roster: Arc<Roster>,
    admission: Arc<Admission>,
    /// Where engines push what they made.
    finished: Arc<Lane<Completion>>,
    /// What callers push.
    submissions: Arc<Lane<Submission>>,
    /// How many of them were taken in since the start.
    taken_in: u64,
    /// How long the arbiter looks for more of it before it sleeps.
    patience: Duration,
    /// When the timer rings, and the timer.
    alarm: Option<(Moment, SpawnHandle)>,
    is_look_set: bool,
    stopping: Option<Vec<oneshot::Sender<()>>>,
    /// Who waits for engines that are to go.
    retiring: HashMap<EngineId, Vec<oneshot::Sender<()>>>,
    /// Who is told of engines that come and go.
    subscribers: Subscribers,
    /// Room for questions that engines have not answered.
    looks: Arc<Semaphore>,
}

/// How many batches are taken in before a cancel lets other messages through: some milliseconds.
const BATCHES_PER_CANCEL: usize = 16;

/// An engine's address, and what is about to be sent there.
struct Desk {
    address: EngineAddress,
    outgoing: Vec<Assignment>,
    joined: Moment,
}

/// What a Scheduler is made of.
pub(crate) struct SchedulerParts {
    pub(crate) limits: Limits,
    pub(crate) store: Addr<ResultStore>,
    pub(crate) callbacks: Addr<Callbacks>,
    pub(crate) counts: Arc<CallbackCounts>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) finished: Arc<Lane<Completion>>,
    pub(crate) submissions: Arc<Lane<Submission>>,
    pub(crate) policy: Policy,
}

impl Scheduler {
    pub(crate) fn new(parts: SchedulerParts) -> Self {
        Self {
            ledger: Ledger::with_policy(&parts.limits, parts.policy, RandomState::new().hash_one(0)),
            engines: HashMap::new(),
            store: parts.store,
            callbacks: parts.callbacks,
            counts: parts.counts,
            roster: parts.roster,
            admission: parts.admission,
            finished: parts.finished,
            submissions: parts.submissions,
            taken_in: 0,
            patience: parts.limits.spin(),
            alarm: None,
            is_look_set: false,
            stopping: None,
            retiring: HashMap::new(),
            subscribers: Subscribers::default(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(LaneStream::new(self.submissions.clone(), self.patience).abandoning(abandon));
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        // Engines of this process end with their arbiter; others have to be told.
        for desk in self.engines.values() {
            desk.address.stop.do_send(StopEngine);
        }
        Running::Stop
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.roster.clear();
        // An arbiter that ends without a word leaves calls behind, whose `Drop` is code of the user's.
        let orders = self.ledger.on_cancel_all("the cluster ended").into_iter();
        apart::discard(orders.filter_map(|order| match order {
            Order::Discard(payload) if payload.needs_drop() => Some(payload),
            _ => None,
        }));
        self.roster.close();
    }
}

/// What callers pushed is one `Submit`.
impl StreamHandler<Vec<Submission>> for Scheduler {
    fn handle(&mut self, batch: Vec<Submission>, ctx: &mut Context<Self>) {
        self.taken_in += batch.len() as u64;
        Handler::handle(self, Submit { batch }, ctx);
    }
}

impl Handler<Submit> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Submit, ctx: &mut Context<Self>) {
        let now = Moment::now();
        if self.stopping.is_some() {
            self.refuse(msg.batch);
            return;
        }
        let (watched, requests) = msg.batch.into_iter().map(|submission| submission.split(now)).unzip();
        // Before any engine gets a task, or an outcome might find nobody waiting for it.
        self.store.do_send(Watch { batch: watched });
        let orders = self.ledger.on_submit(now, requests);
        self.carry_out(orders, ctx);
    }
}

impl Handler<Settled> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Settled, ctx: &mut Context<Self>) {
        let orders = self.ledger.on_settled(&msg.batch);
        self.carry_out(orders, ctx);
        self.answer_stop();
    }
}

impl Handler<HandedBack> for Scheduler {
    type Result = ();

    fn handle(&mut self, mut msg: HandedBack, ctx: &mut Context<Self>) {
        let orders = self.ledger.on_handed_back(msg.engine, std::mem::take(&mut msg.batch));
        self.carry_out(orders, ctx);
        self.answer_stop();
    }
}

impl Handler<Flow> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Flow, ctx: &mut Context<Self>) {
        match msg {
            Flow::Held(client) => self.ledger.on_held(client),
            Flow::Released(client) => {
                let orders = self.ledger.on_released(client);
                self.carry_out(orders, ctx);
            }
        }
    }
}

impl Handler<Cancel> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: Cancel, ctx: &mut Context<Self>) {
        let after = self.taken_in + self.submissions.len() as u64;
        Handler::handle(self, CancelAfter { after, cancel: msg }, ctx);
    }
}

/// A cancel that waits until the tasks that were handed over before it are taken in.
#[derive(Message)]
#[rtype(result = "()")]
struct CancelAfter {
    /// How many tasks that is, counted from the start.
    after: u64,
    cancel: Cancel,
}

impl Handler<CancelAfter> for Scheduler {
    type Result = ();

    fn handle(&mut self, msg: CancelAfter, ctx: &mut Context<Self>) {
        for _ in 0..BATCHES_PER_CANCEL {
            if self.taken_in >= msg.after || !self.take_in_batch(ctx) {
                break;
            }
        }
        if self.taken_in < msg.after {
            // Other messages first: a cancel in a flood of tasks holds nobody up.
            ctx.notify(msg);
            return;
        }
        let Cancel { tasks, reason, manner } = msg.cancel;
        let forced = if manner == Manner::Force { self.ledger.sent_of(&tasks) } else { Vec::new() };
        let orders = self.ledger.on_cancel(&tasks, &reason);
        self.carry_out(orders, ctx);
        for (engine, tasks) in forced {
            if let Some(desk) = self.engines.get(&engine) {
                desk.address.revoke.do_send(Revoke { tasks, manner });
            }
        }
    }
}

impl Scheduler {
    /// Takes in what callers pushed before they sent the message at hand: messages do not overtake tasks.
    fn take_in(&mut self, ctx: &mut Context<Self>) {
        while self.take_in_batch(ctx) {}
    }

    fn take_in_batch(&mut self, ctx: &mut Context<Self>) -> bool {
        let Some(batch) = self.submissions.take() else { return false };
        StreamHandler::handle(self, batch, ctx);
        true
    }

    /// Does what the ledger ordered.
    fn carry_out(&mut self, orders: Vec<Order>, ctx: &mut Context<Self>) {
        let (mut expect, mut finished, mut lost, mut discard) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut running, mut revoked) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Run { engine, assignment } => {
                    if let Some(desk) = self.engines.get_mut(&engine) {
                        if desk.outgoing.is_empty() {
                            running.push(engine);
                        }
                        desk.outgoing.push(assignment);
                    }
                }
                Order::Revoke { engine, task } => revoked.push((engine, task)),
                Order::Recall { engine } => {
                    if let Some(desk) = self.engines.get(&engine) {
                        desk.address.recall.do_send(Recall);
                    }
                }
                Order::Dismiss { engine, cause } => {
                    if let Some(desk) = self.engines.get(&engine) {
                        desk.address.stop.do_send(StopEngine);
                    }
                    ctx.notify(Leave { engine, cause, had: Vec::new() });
                }
                Order::Settle { tasks, attempt, at, error, printed } => {
                    let is_lost = at.is_some() && matches!(error, TaskError::EngineLost { .. });
                    let (id, count, outcome) = (tasks.first, tasks.count, Err(error));
                    let word =
                        Completion { id, count, attempt, engine: None, at, ran: None, outcome, kept: None, printed };
                    if is_lost { &mut lost } else { &mut finished }.push(word);
                }
                Order::Expect { tasks, attempt } => expect.push((tasks, attempt)),
                Order::Discard(payload) => discard.push(payload),
            }
        }
        // Before the runs, or a stale outcome might pass for a new one.
        if !expect.is_empty() {
            self.store.do_send(Expect { batch: expect });
        }
        for engine in running {
            self.send_run(engine, ctx);
        }
        for (engine, task) in revoked {
            if let Some(desk) = self.engines.get(&engine) {
                desk.address.revoke.do_send(Revoke { tasks: vec![task], manner: Manner::Ask });
            }
        }
        if !finished.is_empty() {
            self.store.do_send(Finished { batch: finished });
        }
        if !lost.is_empty() {
            // Behind what the engine itself has made of them, which counts. An `Err` is a store that is gone.
            apart::discard(self.finished.push(lost).err().into_iter().flatten());
        }
        discard.retain(|payload| payload.needs_drop());
        if !discard.is_empty() {
            self.callbacks.do_send(Discard { batch: discard });
        }
        self.set_alarm(ctx);
        self.set_look(ctx);
    }

    fn send_run(&mut self, engine: EngineId, ctx: &mut Context<Self>) {
        let Some(desk) = self.engines.get_mut(&engine) else { return };
        let batch = std::mem::take(&mut desk.outgoing);
        if desk.address.run.connected() {
            desk.address.run.do_send(Run { batch });
        } else {
            apart::discard(batch);
            ctx.notify(Leave { engine, cause: "its actor stopped".into(), had: Vec::new() });
        }
    }

    /// Sets the timer to the next deadline.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.ledger.next_deadline() else { return };
        if self.alarm.is_some_and(|(set_to, _)| set_to <= due) {
            return;
        }
        if let Some((_, timer)) = self.alarm.take() {
            ctx.cancel_future(timer);
        }
        // A millisecond is the timer's own grain: a moment too early would only ring again.
        let wait = due.since(Moment::now()) + Duration::from_millis(1);
        let timer = ctx.run_later(wait, |scheduler, ctx| {
            scheduler.alarm = None;
            let orders = scheduler.ledger.on_tick(Moment::now());
            scheduler.carry_out(orders, ctx);
        });
        self.alarm = Some((due, timer));
    }

    /// Has the ledger look in a while whether an idle engine might run what others have.
    fn set_look(&mut self, ctx: &mut Context<Self>) {
        if self.is_look_set || !self.ledger.wants_look() {
            return;
        }
        self.is_look_set = true;
        ctx.run_later(Duration::from_millis(RECALL_LOOK_MS), |scheduler, ctx| {
            scheduler.is_look_set = false;
            let orders = scheduler.ledger.on_look();
            scheduler.carry_out(orders, ctx);
        });
    }

    /// Settles what comes after the end.
    fn refuse(&mut self, batch: Vec<Submission>) {
        let (mut released, mut waiters, mut discard) = (Released::default(), Vec::new(), Vec::new());
        for Submission { request, weight, waiter } in batch {
            released.add(request.payload.count(), weight);
            waiters.push(waiter);
            discard.push(request.payload);
        }
        // Before anybody is woken: whoever then submits finds the room.
        self.admission.release(released);
        // Dropping the waiters settles them.
        drop(waiters);
        self.callbacks.do_send(Discard { batch: discard });
    }

    /// Answers whoever waits for the end, once every task is settled.
    fn answer_stop(&mut self) {
        if self.ledger.pending() > 0 {
            return;
        }
        if let Some(waiting) = &mut self.stopping {
            for settled in waiting.drain(..) {
                // Who asked may have gone away.
                let _ = settled.send(());
            }
        }
    }
}

/// Settles what nobody takes in any more, before its calls are dropped: their `Drop` may take any time.
fn abandon(submissions: Vec<Submission>) {
    let (waiters, calls): (Vec<_>, Vec<_>) =
        submissions.into_iter().map(|submission| (submission.waiter, submission.request.payload)).unzip();
    drop(waiters);
    apart::discard(calls);
}
