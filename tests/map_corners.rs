//! Corners of `map`: items given up one by one, deadlines, two who look at once, limits smaller than a portion.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{CompositeError, Limits, QueueStatus, Status};

mod support;
use support::{Cluster, CommonCount, CommonGate, eventually};

const PATIENCE: Duration = Duration::from_secs(10);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Waits until it is cancelled, at most 10 s.
#[task]
fn patient(cx: &TaskContext, x: u64) -> u64 {
    let started = Instant::now();
    while !cx.is_cancelled() && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    x
}

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = support::engines(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

fn waiting_and_pending(status: &QueueStatus) -> (usize, usize) {
    (status.queued, status.pending)
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn a_deadline_holds_for_the_items_that_start_at_once_too() {
    let (_cluster, rc) = cluster(2);
    let started = Instant::now();
    let ar = rc.load_balanced().with().deadline(Duration::from_millis(20)).map(patient, 0..6);
    let results = ar.results().unwrap();
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::TimedOut { .. }))), "{results:?}");
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[test]
fn items_given_up_one_by_one_are_not_counted_and_not_waited_for() {
    let gate = CommonGate::new("given_up");
    let (_cluster, rc) = cluster(1);
    let view = rc.load_balanced();
    let busy = view.apply(gate.task());
    let (half, whole) = (view.map(square, 0..100).split(), view.map(square, 0..100).split());
    half.iter().step_by(2).chain(&whole).for_each(|ar| assert!(ar.cancel("not this one")));
    eventually("the cancelled ones are settled", || whole.iter().all(|ar| ar.ready()));
    eventually("they are counted out", || waiting_and_pending(&rc.queue_status().get().unwrap()) == (50, 51));
    let waiting = rc.wait();
    gate.open();
    waiting.get_timeout(PATIENCE).unwrap();
    assert!(busy.ready());
    for (at, ar) in (0..).zip(&half) {
        let expected = if at % 2 == 0 { Status::Cancelled } else { Status::Done };
        assert_eq!(ar.metadata().status, expected, "item {at}");
    }
}

#[test]
fn items_given_up_one_by_one_while_they_run_are_not_waited_for() {
    let (_cluster, rc) = cluster(1);
    let items = rc.load_balanced().with().chunksize(4).map(patient, 0..4).split();
    eventually("they were sent", || rc.queue_status().get().unwrap().queued == 0);
    items.iter().for_each(|ar| assert!(ar.cancel("not this one")));
    eventually("they are settled", || items.iter().all(|ar| ar.ready()));
    rc.wait().get_timeout(PATIENCE / 10).unwrap();
}

#[test]
fn waiting_without_engines_for_what_was_given_up_ends_at_once() {
    let (cluster, rc) = cluster(1);
    cluster.remove_engines(rc.ids()).get_timeout(PATIENCE).unwrap();
    let view = rc.load_balanced();
    let items = view.with().deadline(Duration::from_millis(30)).map(square, 0..10).split();
    items.iter().for_each(|ar| assert!(ar.cancel("not this one")));
    rc.wait().get_timeout(PATIENCE / 10).unwrap();
    let status = rc.queue_status().get().unwrap();
    assert_eq!((status.pending, status.queued, status.settled), (0, 0, 10));
}

#[test]
fn whoever_iterates_gets_every_value_while_another_thread_looks() {
    #[task]
    fn slow(x: u64) -> u64 {
        std::thread::sleep(Duration::from_micros(300));
        x
    }
    let (_cluster, rc) = cluster(2);
    let ar = rc.load_balanced().map(slow, 0..1_000);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(ar.metadata().len(), 1_000);
            }
        });
        let got: Vec<_> = ar.iter().collect();
        is_over.store(true, Ordering::Relaxed);
        let wrong = got.iter().zip(0..).find(|(got, x)| **got != Ok(*x));
        assert!(wrong.is_none(), "{wrong:?}");
    });
}

#[test]
fn a_map_that_was_to_be_cancelled_with_its_result_is_not_when_it_is_split() {
    let (_cluster, rc) = cluster(1);
    let items = rc.load_balanced().map(square, 0..100).cancel_on_drop().split();
    let values: Vec<_> = items.into_iter().map(|ar| ar.get().unwrap()).collect();
    assert_eq!(values, (0..100).map(|x| x * x).collect::<Vec<_>>());
}

struct Sink(mpsc::Sender<Result<Vec<u64>, CompositeError>>);

impl Actor for Sink {
    type Context = actix::Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Values(Result<Vec<u64>, CompositeError>);

impl From<Result<Vec<u64>, CompositeError>> for Values {
    fn from(values: Result<Vec<u64>, CompositeError>) -> Self {
        Self(values)
    }
}

impl Handler<Values> for Sink {
    type Result = ();
    fn handle(&mut self, msg: Values, _: &mut Self::Context) {
        self.0.send(msg.0).unwrap();
    }
}

#[test]
fn a_map_that_was_to_be_cancelled_with_its_result_is_not_when_it_is_piped() {
    let (_cluster, rc) = cluster(1);
    System::new().block_on(async {
        let (tell, told) = mpsc::channel();
        let sink = Sink(tell).start();
        rc.load_balanced().map(square, 0..50).cancel_on_drop().pipe_to(sink.clone().recipient::<Values>()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let values = loop {
            match told.try_recv() {
                Ok(values) => break values,
                Err(_) => assert!(Instant::now() < deadline, "nothing was piped"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(values, Ok((0..50).map(|x| x * x).collect()));
    });
}

/// A task that is as heavy as it says.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Heavy(usize);

impl Task for Heavy {
    type Output = usize;
    const NAME: &'static str = "map_corners::Heavy";
    fn run(self, _: &TaskContext) -> Result<usize, callboard::TaskFailure> {
        GATE_OF_HEAVY.pass();
        Ok(self.0)
    }
    fn size_hint(&self) -> usize {
        self.0
    }
}

callboard::register_task!(Heavy);

static GATE_OF_HEAVY: CommonGate = CommonGate::new("heavy");

#[test]
fn waiting_for_room_in_bytes_does_not_hold_up_who_polls() {
    let mut limits = Limits::default();
    limits.pending_bytes_max = 100;
    let cluster = support::engines(1).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    let first = view.apply(Heavy(80));
    let (tell, told) = mpsc::channel();
    let polling = std::thread::spawn({
        let view = view.clone();
        move || {
            let mut second = pin!(view.apply_when_admitted(Heavy(60)));
            let mut cx = Context::from_waker(Waker::noop());
            tell.send(second.as_mut().poll(&mut cx).is_pending()).unwrap();
        }
    });
    let is_pending = told.recv_timeout(PATIENCE / 10);
    GATE_OF_HEAVY.open();
    assert_eq!(is_pending, Ok(true));
    assert_eq!(first.get().unwrap(), 80);
    polling.join().unwrap();
}

#[test]
fn a_map_larger_than_the_limit_is_let_in_bit_by_bit_if_it_may_wait() {
    let mut limits = Limits::default();
    limits.pending_tasks_max = 10;
    let cluster = support::engines(1).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let values = runtime.block_on(async {
        tokio::time::timeout(PATIENCE / 5, async { view.map_when_admitted(square, 0..35).await.await }).await
    });
    assert_eq!(values.expect("it is let in").unwrap(), (0..35).map(|x| x * x).collect::<Vec<_>>());
}

#[test]
fn each_task_of_a_piece_has_its_own_end_in_the_records() {
    static RAN: CommonCount = CommonCount::new("own_end.RAN");
    #[task]
    fn odd_ones_fail(x: u64) -> Result<u64, String> {
        RAN.add();
        if x % 2 == 1 { Err("odd".into()) } else { Ok(x) }
    }
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().with().chunksize(6).map(odd_ones_fail, 0..6);
    ar.wait().unwrap();
    let records = rc.records().get().unwrap();
    for (at, id) in ar.ids().enumerate() {
        let expected = if at % 2 == 1 { Status::Failed } else { Status::Done };
        assert_eq!(rc.record(id).get().unwrap().status, expected, "item {at}");
        assert_eq!(records[at].status, expected, "item {at}");
    }
    assert_eq!(RAN.get(), 6);
}

#[test]
fn a_long_piece_of_which_every_second_item_was_given_up_is_settled_at_once() {
    const ITEMS: u64 = 200_000;
    static BEGUN: CommonGate = CommonGate::new("long_piece.BEGUN");
    static GATE: CommonGate = CommonGate::new("long_piece.GATE");
    #[task]
    fn first_waits(x: u64) -> [u64; 8] {
        if x == 0 {
            BEGUN.open();
            GATE.pass();
        }
        [x; 8]
    }
    let (_cluster, rc) = cluster(1);
    let items = rc.load_balanced().with().chunksize(ITEMS as u32).map(first_waits, 0..ITEMS).split();
    BEGUN.pass();
    items.iter().skip(1).step_by(2).for_each(|ar| assert!(ar.cancel("not this one")));
    eventually("the last is settled", || items[ITEMS as usize - 1].ready());
    GATE.open();
    // Were each cut out of the rest, it would be minutes.
    eventually("all are settled", || items.iter().step_by(2).all(|ar| ar.ready()));
    assert!(Arc::new(items).iter().step_by(2).all(|ar| ar.successful() == Some(true)));
}

/// Fails with two kilobytes of text.
#[task]
fn complains(x: u64) -> Result<u64, String> {
    Err(format!("{x}: {}", "no".repeat(1_000)))
}

#[test]
fn a_large_piece_of_which_every_item_fails_costs_nobody_an_engine() {
    const ITEMS: u32 = 12_000;
    let (_cluster, rc) = cluster(1);
    let engines = rc.ids();
    let view = rc.load_balanced();
    let outcomes = view.with().chunksize(ITEMS).map(complains, 0..u64::from(ITEMS)).results().unwrap();
    for (x, outcome) in (0..ITEMS).zip(outcomes) {
        let Err(TaskError::Failed { text, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(text.starts_with(&format!("{x}: nono")), "{text}");
    }
    assert_eq!((view.apply(square(7)).get_timeout(PATIENCE), rc.ids()), (Ok(49), engines));
}

#[test]
fn a_label_and_a_reason_of_megabytes_cost_nobody_anything() {
    let (_cluster, rc) = cluster(1);
    let (engines, long) = (rc.ids(), "long".repeat(5 << 20));
    let view = rc.load_balanced();
    assert_eq!(view.with().label(long.as_str()).apply(square(7)).get_timeout(PATIENCE), Ok(49));
    let running = view.apply(patient(1));
    running.cancel(long.as_str());
    let error = running.get_timeout(PATIENCE).unwrap_err();
    assert!(
        matches!(&error, TaskError::Cancelled { reason } if reason.starts_with("longlong")),
        "{:.100}",
        error.to_string()
    );
    assert_eq!((view.apply(square(7)).get_timeout(PATIENCE), rc.ids()), (Ok(49), engines));
}
