//! The actors used as actors: their addresses are open, their messages are plain.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, mpsc};

use actix::prelude::*;
use bytes::Bytes;
use callboard::ledger::{EngineOffer, Request};
use callboard::messages::*;
use callboard::prelude::*;
use callboard::task::{Attempt, Moment, Outcome, Payload, Retries, Run as Ended, Target, TaskKind, Value, WireCall};
use callboard::{EngineId, Error, Status, TaskId};

mod support;
use support::eventually;

#[task]
fn double(x: u32) -> u32 {
    x * 2
}

fn request(seq: u64, payload: Payload, kind: &'static TaskKind) -> Request {
    let id = TaskId { client: 7, seq };
    Request { id, kind, payload, target: Target::Any, retries: Retries::default(), extras: None }
}

#[test]
fn a_submission_by_message_is_kept_for_whoever_asks() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let submission =
        Submission { request: request(1, Payload::of(double(21)), double::kind()), weight: 0, waiter: None };
    cluster.addresses().scheduler.do_send(Submit { batch: vec![submission] });
    let id = TaskId { client: 7, seq: 1 };
    eventually("the task is known", || rc.record(id).get().is_ok());
    assert_eq!(rc.fetch::<u32>(id).get().unwrap(), 42);
}

#[test]
fn a_call_in_bytes_is_decoded_by_the_engine_or_refused_there() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let wire = |key, inline: Vec<u8>| {
        Payload::Wire(Box::new(WireCall { key, count: 1, inline: Bytes::from(inline), blobs: vec![] }))
    };
    let encoded = postcard::to_stdvec(&double(4)).unwrap();
    let kind = double::kind();
    let cases = [
        (1, kind.key, encoded.clone(), "8"),
        (2, kind.key ^ 1, encoded.clone(), "has no task with key"),
        (3, kind.key, vec![], "cannot code the arguments"),
        (4, kind.key, [encoded, vec![0]].concat(), "cannot code the arguments"),
    ];
    for (seq, key, inline, expected) in cases {
        let submission = Submission { request: request(seq, wire(key, inline), kind), weight: 0, waiter: None };
        cluster.addresses().scheduler.do_send(Submit { batch: vec![submission] });
        let id = TaskId { client: 7, seq };
        eventually("the task is known", || rc.record(id).get().is_ok());
        let text = match rc.fetch::<u32>(id).get() {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(expected), "{text}");
    }
}

/// An engine of somebody else's making: the scheduler does not know the difference.
struct Foreign {
    store: Addr<callboard::actors::ResultStore>,
    scheduler: Addr<callboard::actors::Scheduler>,
    id: Option<EngineId>,
    tell: mpsc::Sender<usize>,
}

impl Actor for Foreign {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let address = EngineAddress::of(ctx.address());
        let join = Join { offer: EngineOffer { slots: 2, is_local: false, tasks: None }, address };
        let joining = self.scheduler.send(join).into_actor(self);
        ctx.wait(joining.map(|id, foreign, _| foreign.id = id.ok()));
    }
}

impl Handler<Run> for Foreign {
    type Result = ();
    fn handle(&mut self, msg: Run, _: &mut Context<Self>) {
        self.tell.send(msg.batch.len()).unwrap();
        let batch = msg.batch.into_iter().map(|task| Completion {
            id: task.id,
            count: 1,
            attempt: task.attempt,
            engine: self.id,
            at: None,
            ran: None,
            outcome: Ok(callboard::task::Value::of(99_u32)),
            kept: None,
            printed: None,
        });
        self.store.do_send(Finished { batch: batch.collect() });
    }
}

impl Handler<Revoke> for Foreign {
    type Result = ();
    fn handle(&mut self, _: Revoke, _: &mut Context<Self>) {}
}

impl Handler<Recall> for Foreign {
    type Result = ();
    fn handle(&mut self, _: Recall, _: &mut Context<Self>) {}
}

impl Handler<StopEngine> for Foreign {
    type Result = ();
    fn handle(&mut self, _: StopEngine, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[test]
fn an_engine_is_whoever_takes_run_and_joins() {
    System::new().block_on(async {
        let cluster = Cluster::threads(1).start().unwrap();
        let rc = cluster.client();
        let (tell, told) = mpsc::channel();
        let addresses = cluster.addresses();
        let (store, scheduler) = (addresses.result_store.clone(), addresses.scheduler.clone());
        let foreign = Foreign { store, scheduler, id: None, tell }.start();
        rc.wait_for_engines(2).await.unwrap();
        assert_eq!(rc.ids(), [EngineId(0), EngineId(1)]);
        assert_eq!(rc.engine(1).unwrap().apply(double(1)).await, Ok(99));
        assert_eq!(told.try_recv(), Ok(1));
        // It is not of this process, as far as it says: closures do not go there.
        let closure = rc.engine(1).unwrap().apply_fn(|| 1);
        assert_eq!(closure.await, Err(TaskError::NotPortable));
        // A value of another type fails its own result only.
        let wrong = rc.engine(1).unwrap().apply_type_mismatch();
        assert!(matches!(wrong.await, Err(TaskError::Undecodable { what: callboard::Coded::Result, .. })));

        // It leaves without a word: what is sent next settles, and the list is shorter.
        foreign.do_send(StopEngine { cause: "it has had enough".into() });
        let view = rc.engine(1).unwrap();
        while foreign.connected() {
            tokio::task::yield_now().await;
        }
        let lost = view.apply(double(1)).await;
        assert!(matches!(lost, Err(TaskError::EngineLost { engine: EngineId(1), .. })), "{lost:?}");
        assert_eq!(rc.ids(), [EngineId(0)]);
        assert!(matches!(rc.engine(1), Err(Error::NoSuchEngine { asked: 1, .. })));
    });
}

/// A task whose value is not what `Foreign` answers.
#[task]
fn text() -> String {
    "text".into()
}

trait Mismatch {
    fn apply_type_mismatch(&self) -> AsyncResult<String>;
}

impl Mismatch for callboard::EngineView {
    fn apply_type_mismatch(&self) -> AsyncResult<String> {
        self.apply(text())
    }
}

#[test]
fn a_second_outcome_and_a_second_submission_change_nothing() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let ar = rc.load_balanced().apply(double(3));
    assert_eq!(ar.get(), Ok(6));
    let again = Completion {
        id: ar.id(),
        count: 1,
        attempt: callboard::Attempt(1),
        engine: Some(EngineId(0)),
        at: None,
        ran: None,
        outcome: Ok(callboard::task::Value::of(7_u32)),
        kept: None,
        printed: None,
    };
    cluster.addresses().result_store.do_send(Finished { batch: vec![again] });
    eventually("it is counted", || rc.queue_status().get().unwrap().late_outcomes == 1);
    assert_eq!(ar.get(), Ok(6));
    assert_eq!(rc.record(ar.id()).get().unwrap().status, Status::Done);
}

/// Tells which attempt each settled with.
struct Attempts(std::sync::Mutex<mpsc::Sender<u32>>);

impl Settle for Attempts {
    fn settle(&self, _: u32, _: u32, run: Ended, _: Outcome) -> Option<Box<Aftermath>> {
        let _ = self.0.lock().unwrap().send(run.attempt.0);
        None
    }
}

#[test]
fn an_outcome_of_an_earlier_attempt_counts_for_nothing() {
    let cluster = Cluster::threads(1).start().unwrap();
    let store = &cluster.addresses().result_store;
    let id = TaskId { client: 7, seq: 1 };
    let (tell, told) = mpsc::channel();
    let waiter = Some(Waiter::new(Arc::new(Attempts(std::sync::Mutex::new(tell))), 0, 1));
    let (kind, submitted) = (double::kind(), Moment::now());
    let watched = Watched { id, count: 1, kind, extras: None, submitted, weight: 0, waiter };
    store.do_send(Watch { batch: vec![watched] });
    store.do_send(Expect { batch: vec![(id.into(), Attempt(2))] });
    for attempt in [Attempt(1), Attempt(2), Attempt(2)] {
        let outcome = Ok(Value::of(attempt.0));
        let (engine, ran) = (Some(EngineId(0)), None);
        let done = Completion { id, count: 1, attempt, engine, at: None, ran, outcome, kept: None, printed: None };
        store.do_send(Finished { batch: vec![done] });
    }
    assert_eq!(told.recv(), Ok(2));
    cluster.shutdown(Pending::Finish).get().unwrap();
    assert!(told.recv().is_err(), "settled once, and the place for it is gone");
}
