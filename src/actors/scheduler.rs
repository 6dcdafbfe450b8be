//! The Scheduler: takes tasks in, asks the ledger which engine gets which, and carries out its orders.

mod orders;
mod cancel;
mod engines;
mod questions;
mod state;

#[cfg(all(unix, feature = "remote"))]
pub(crate) use engines::WhyItGoes;

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
use crate::ledger::{Assignment, Ledger, Order, Policy};
use crate::limits::{LOOKS_MAX, Limits};
use crate::messages::{
    Completion, Discard, EngineAddress, Flow, HandedBack, Settled, StopEngine, Submission, Submit, Watch,
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
            desk.address.stop.do_send(StopEngine { cause: "its cluster has ended".into() });
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
