//! Callbacks and messages: each once, in order, and none of them in anybody's way.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{EngineId, Error, Limits, Status};

mod support;
use support::{CommonGate, Gate, eventually};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn a_callback_gets_the_result_before_and_after_it_is_there() {
    let cluster = support::engines(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let gate = CommonGate::new("before_and_after");
    let held = view.apply(gate.task());
    let ar = view.apply(square(6));
    let (tell, told) = mpsc::channel();
    let early = tell.clone();
    ar.add_done_callback(move |ar| early.send(("early", ar.get())).unwrap()).unwrap();
    gate.open();
    held.get().unwrap();
    ar.get().unwrap();
    assert_eq!(told.recv().unwrap(), ("early", Ok(36)));
    ar.add_done_callback(move |ar| tell.send(("late", ar.get())).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), ("late", Ok(36)));
    assert!(told.recv().is_err(), "each is called once");
}

#[test]
fn callbacks_of_one_result_run_in_the_order_of_registration() {
    let cluster = support::engines(1).start().unwrap();
    let view = cluster.client().load_balanced();
    for round in 0..50 {
        let gate = CommonGate::named(format!("order of registration {round}"));
        drop(view.apply(gate.task()));
        let ar = view.apply(square(2));
        let order = Arc::new(Mutex::new(Vec::new()));
        for i in 0..20 {
            let order = order.clone();
            ar.add_done_callback(move |_| order.lock().unwrap().push(i)).unwrap();
        }
        gate.open();
        ar.get().unwrap();
        eventually("20 callbacks", || order.lock().unwrap().len() == 20);
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_callback_may_block_panic_submit_and_wait_and_delays_nothing_else() {
    let cluster = support::engines(2).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    let gate = Arc::new(Gate::new());
    let (tell, told) = mpsc::channel();

    let blocking = view.apply(square(1));
    let blocked_until = gate.clone();
    blocking.add_done_callback(move |_| blocked_until.pass()).unwrap();

    let panicking = view.apply(square(2));
    panicking.add_done_callback(|_| panic!("in a callback")).unwrap();
    let after_panic = tell.clone();
    panicking.add_done_callback(move |ar| after_panic.send(ar.get().unwrap()).unwrap()).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(4), "the next callback runs all the same");

    let again = view.clone();
    let nested = view.apply(square(3));
    nested
        .add_done_callback(move |ar| tell.send(again.apply(square(ar.get().unwrap())).get().unwrap()).unwrap())
        .unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(81));

    let started = Instant::now();
    for i in 0..1_000 {
        assert_eq!(view.apply(square(i)).get(), Ok(i * i));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "while a callback blocks");
    assert_eq!(rc.queue_status().get().unwrap().panicked_callbacks, 1);
    gate.open();
}

/// Collects what it is told.
struct Listener {
    tell: mpsc::Sender<TaskDone>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TaskDone> for Listener {
    type Result = ();
    fn handle(&mut self, msg: TaskDone, _: &mut Context<Self>) {
        self.tell.send(msg).unwrap();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Squared(Result<u64, TaskError>);

impl From<Result<u64, TaskError>> for Squared {
    fn from(outcome: Result<u64, TaskError>) -> Self {
        Self(outcome)
    }
}

struct Sink {
    tell: mpsc::Sender<Result<u64, TaskError>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Squared> for Sink {
    type Result = ();
    fn handle(&mut self, msg: Squared, _: &mut Context<Self>) {
        self.tell.send(msg.0).unwrap();
    }
}

#[test]
fn completion_arrives_as_an_actor_message_once_also_when_already_done() {
    System::new().block_on(async {
        let cluster = support::engines(1).start().unwrap();
        let view = cluster.client().load_balanced();
        let (tell, told) = mpsc::channel();
        let listener = Listener { tell }.start();
        let ar = view.with().label("seven").apply(square(7));
        ar.on_done(listener.clone().recipient()).unwrap();
        let id = ar.id();
        let mut ar = ar;
        assert_eq!((&mut ar).await, Ok(49));
        assert_eq!((&mut ar).await, Err(TaskError::AlreadyTaken));
        ar.on_done(listener.clone().recipient()).unwrap();
        for _ in 0..2 {
            while let Err(mpsc::TryRecvError::Empty) = told.try_recv().map(|done: TaskDone| {
                assert_eq!((done.record.id, done.record.status), (id, Status::Done));
                assert_eq!(done.record.label.as_deref(), Some("seven"));
            }) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(told.try_recv().is_err(), "twice registered, twice told");
    });
}

#[test]
fn a_subscriber_hears_how_a_task_ended_whose_result_was_dropped() {
    static GATE: CommonGate = CommonGate::new("subscriber");
    #[task]
    fn held(is_lucky: bool) -> u64 {
        GATE.pass();
        if is_lucky { 49 } else { panic!("no luck") }
    }
    System::new().block_on(async {
        let cluster = support::engines(1).start().unwrap();
        let view = cluster.client().load_balanced();
        let (tell, told) = mpsc::channel();
        let listener = Listener { tell }.start();
        for is_lucky in [true, false] {
            let ar = view.apply(held(is_lucky));
            ar.on_done(listener.clone().recipient()).unwrap();
        }
        GATE.open();
        for status in [Status::Done, Status::Panicked] {
            let record = loop {
                match told.try_recv() {
                    Ok(done) => break done.record,
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            };
            assert_eq!((record.status, record.engine), (status, Some(EngineId(0))));
            assert!(record.completed.is_some() && record.started.is_some());
        }
    });
}

#[test]
fn a_value_is_piped_into_an_actors_mailbox() {
    System::new().block_on(async {
        let cluster = support::engines(2).start().unwrap();
        let view = cluster.client().load_balanced();
        let (tell, told) = mpsc::channel();
        let sink = Sink { tell }.start();
        for i in 0..100 {
            view.apply(square(i)).pipe_to(sink.clone().recipient::<Squared>()).unwrap();
        }
        let mut values = Vec::new();
        while values.len() < 100 {
            match told.try_recv() {
                Ok(value) => values.push(value.unwrap()),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        values.sort_unstable();
        assert_eq!(values, (0..100).map(|i| i * i).collect::<Vec<u64>>());
    });
}

#[test]
fn a_recipient_that_is_gone_is_counted() {
    let cluster = support::engines(1).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    let (done, piped) = System::new().block_on(async {
        let listener = Listener { tell: mpsc::channel().0 }.start();
        let sink = Sink { tell: mpsc::channel().0 }.start();
        (listener.recipient::<TaskDone>(), sink.recipient::<Squared>())
    });
    // Their arbiter is gone.
    let ar = view.apply(square(3));
    ar.on_done(done).unwrap();
    view.apply(square(4)).pipe_to(piped).unwrap();
    eventually("both are counted", || rc.queue_status().get().unwrap().undeliverable_callbacks == 2);
    assert_eq!(ar.get(), Ok(9));
}

#[test]
fn too_many_callbacks_are_refused_by_name() {
    let mut limits = Limits::default();
    limits.callbacks_pending_max = 3;
    let cluster = support::engines(1).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    let gate = CommonGate::new("too_many");
    let ar = view.apply(gate.task());
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let ran = ran.clone();
        ar.add_done_callback(move |_| {
            ran.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    }
    let error = ar.add_done_callback(|_| {}).unwrap_err();
    assert!(matches!(error, Error::Overloaded { what: "callbacks", limit: 3 }), "{error}");
    gate.open();
    eventually("the three run", || ran.load(Ordering::SeqCst) == 3);
    eventually("there is room again", || ar.add_done_callback(|_| {}).is_ok());
}

#[test]
fn callbacks_of_what_a_stopping_cluster_settles_still_run() {
    let cluster = support::engines(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let (tell, told) = mpsc::channel();
    let slow = view.apply(sleep_ms(30));
    let waiting: Vec<_> = (0..50).map(|i| view.apply(square(i))).collect();
    for ar in &waiting {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send(ar.get().is_err()).unwrap()).unwrap();
    }
    drop(tell);
    drop(cluster);
    drop(slow);
    assert_eq!(told.iter().collect::<Vec<_>>(), vec![true; 50]);
}

#[test]
fn a_result_that_outlives_its_cluster_still_calls_back() {
    let cluster = support::engines(1).start().unwrap();
    let ar = cluster.client().load_balanced().apply(square(5));
    assert_eq!(ar.get(), Ok(25));
    drop(cluster);
    let (tell, told) = mpsc::channel();
    for i in 0..3 {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send((i, ar.get())).unwrap()).unwrap();
    }
    drop(tell);
    assert_eq!(told.iter().collect::<Vec<_>>(), [(0, Ok(25)), (1, Ok(25)), (2, Ok(25))]);
}
