//! `map` and its result: values in their places, whatever becomes of the others.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{Attempt, CompositeError, EngineId, Error, Limits, LoadBalancedView, Status};

mod support;
use support::{Cluster, Gate, eventually};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Fails on multiples of 10, panics on multiples of 11 that are odd.
#[task]
fn picky(x: u32) -> Result<u32, String> {
    assert!(x % 22 != 11, "{x} is odd and eleven");
    if x.is_multiple_of(10) { Err(format!("{x} is ten")) } else { Ok(x) }
}

#[task]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[task]
fn where_am_i(cx: &TaskContext, x: u32) -> (u32, u64, u32) {
    (cx.engine().unwrap().0, cx.task_id().seq, x)
}

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = support::engines(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

/// A view whose engines know how long each of the tasks here takes: so items travel together.
fn warm(rc: &Client) -> LoadBalancedView {
    let view = rc.load_balanced();
    view.map(square, 0..1_000).wait().unwrap();
    view.map(picky, 0..1_000).wait().unwrap();
    view.map(where_am_i, 0..1_000).wait().unwrap();
    view
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn a_map_gives_the_values_in_the_order_of_the_items() {
    let (_cluster, rc) = cluster(4);
    for n in [0, 1, 2, 3, 7, 1_000, 100_000] {
        let expected: Vec<u64> = (0..n).map(|x| x * x).collect();
        let ar = rc.load_balanced().map(square, 0..n);
        assert_eq!(ar.get().unwrap(), expected, "{n} items");
        assert_eq!((ar.len(), ar.progress(), ar.successful()), (n as usize, n as usize, Some(true)));
        assert_eq!(rc.all().map(square, 0..n).take().unwrap(), expected, "{n} items, parted");
    }
}

#[test]
fn an_empty_map_is_a_result_like_any_other_and_done_at_once() {
    let (_cluster, rc) = cluster(2);
    for ar in [rc.load_balanced().map(square, []), rc.all().map(square, [])] {
        assert!(ar.ready() && ar.is_empty());
        assert_eq!((ar.successful(), ar.progress(), ar.cancel("no need")), (Some(true), 0, 0));
        assert_eq!((ar.wall_time(), ar.serial_time()), (Some(Duration::ZERO), Some(Duration::ZERO)));
        assert_eq!(ar.get().unwrap(), Vec::<u64>::new());
        assert_eq!(ar.iter().count(), 0);
        assert_eq!(ar.by_engine().unwrap().len(), 0);
        assert_eq!(format!("{ar:?}"), "<AsyncMapResult square: done>");
        let (tell, told) = mpsc::channel();
        ar.add_done_callback(move |ar| tell.send(ar.len()).unwrap()).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(0));
        assert_eq!(ar.as_completed().count(), 0);
    }
}

#[test]
fn the_first_parts_of_a_direct_map_get_one_item_more() {
    let (_cluster, rc) = cluster(4);
    for n in 0..14_u32 {
        let got = rc.all().map(where_am_i, 0..n).get().unwrap();
        assert_eq!(got.iter().map(|(.., x)| *x).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        let expected: Vec<u32> =
            (0..4).flat_map(|part| vec![part; ((n / 4) + u32::from(part < n % 4)) as usize]).collect();
        assert_eq!(got.iter().map(|(engine, ..)| *engine).collect::<Vec<_>>(), expected, "{n} items");
    }
}

#[test]
fn items_that_fail_or_panic_leave_the_others_their_values_and_places() {
    let (_cluster, rc) = cluster(3);
    let view = warm(&rc);
    let ar = view.map(picky, 0..20_000);
    let results = ar.results().unwrap();
    assert_eq!(results.len(), 20_000);
    for (x, result) in (0..).zip(&results) {
        match result {
            Ok(value) => assert!(*value == x && x % 10 != 0 && x % 22 != 11),
            Err(TaskError::Failed { place, text }) => {
                assert_eq!((text.to_string(), place.name, place.attempt), (format!("{x} is ten"), "picky", Attempt(1)));
                assert_eq!(place.task, ar.ids().nth(x as usize).unwrap());
            }
            Err(TaskError::Panicked { message, .. }) => {
                assert_eq!(message.to_string(), format!("{x} is odd and eleven"))
            }
            Err(error) => panic!("{x}: {error}"),
        }
    }
    let failed = results.iter().filter(|result| result.is_err()).count();
    let Err(Error::Composite(CompositeError { errors, total })) = ar.get() else { panic!("some failed") };
    assert_eq!((errors.len(), total, ar.successful()), (failed, 20_000, Some(false)));
    assert!(errors.iter().all(|(position, error)| results[*position].as_ref() == Err(error)));
    let records = ar.metadata();
    assert_eq!(records[0].status, Status::Failed);
    assert_eq!(records[11].status, Status::Panicked);
    assert_eq!(records[1].status, Status::Done);
    assert_eq!(format!("{ar:?}"), "<AsyncMapResult picky: failed>");
}

#[test]
fn each_item_is_a_task_with_an_id_a_record_and_an_engine() {
    let (_cluster, rc) = cluster(2);
    let view = warm(&rc);
    let ar = view.with().label("one of many").map(where_am_i, 0..5_000);
    let values = ar.get().unwrap();
    let (ids, records) = (ar.ids().collect::<Vec<_>>(), ar.metadata());
    for (at, (engine, seq, x)) in (0..).zip(values) {
        assert_eq!((x, seq), (at, ids[at as usize].seq));
        let record = &records[at as usize];
        assert_eq!((record.id, record.engine, record.attempt), (ids[at as usize], Some(EngineId(engine)), Attempt(1)));
        assert_eq!(record.label.as_deref(), Some("one of many"));
    }
    // The cluster remembers each of them, too.
    for at in [0, 1, 2_499, 4_999] {
        let record = rc.record(ids[at]).get().unwrap();
        assert_eq!((record.id, record.status, record.engine), (ids[at], Status::Done, records[at].engine));
    }
    assert!(rc.records().get().unwrap().len() >= 5_000);
}

#[test]
fn tiny_items_travel_together_and_long_ones_alone() {
    let (_cluster, rc) = cluster(4);
    let view = warm(&rc);
    let pieces = |records: Vec<callboard::Record>| {
        let mut ends: Vec<_> = records.iter().map(|record| (record.engine, record.completed)).collect();
        ends.dedup();
        ends.len()
    };
    let tiny = view.map(square, 0..100_000);
    tiny.wait().unwrap();
    assert!(pieces(tiny.metadata()) < 2_000, "{} pieces", pieces(tiny.metadata()));

    // Each of the long ones takes whichever engine is free.
    let long = view.map(nap, vec![20; 8]);
    long.wait().unwrap();
    let by_engine = long.by_engine().unwrap();
    assert!(by_engine.len() == 4 && by_engine.values().all(|values| values.len() <= 3), "{by_engine:?}");
}

#[test]
fn items_behind_one_that_takes_long_move_to_idle_engines() {
    static GATE: support::CommonGate =
        support::CommonGate::new("items_behind_one_that_takes_long_move_to_idle_engines.GATE");
    static DONE: support::CommonCount =
        support::CommonCount::new("items_behind_one_that_takes_long_move_to_idle_engines.DONE");
    const ITEMS: u32 = 10_000;

    /// The items 100 and 101 wait until all others are done.
    #[task]
    fn mostly_short(x: u32) -> u32 {
        if (100..102).contains(&x) {
            GATE.pass();
        } else if DONE.add() + 1 == 2 * ITEMS - 2 {
            GATE.open();
        }
        x
    }
    let (_cluster, rc) = cluster(4);
    let view = rc.load_balanced();
    view.map(mostly_short, ITEMS..2 * ITEMS).wait().unwrap();
    let ar = view.map(mostly_short, 0..ITEMS);
    assert_eq!(ar.get_timeout(Duration::from_secs(15)).unwrap(), (0..ITEMS).collect::<Vec<_>>());
    assert!(ar.metadata().iter().all(|record| record.attempt == Attempt(1)), "moving uses no attempt");
    assert_eq!(DONE.get(), 2 * ITEMS - 2, "each ran once");
    assert_eq!(rc.queue_status().get().unwrap().pending, 0);
}

#[test]
fn single_tasks_behind_one_that_takes_long_move_to_idle_engines_too() {
    static GATE: support::CommonGate =
        support::CommonGate::new("single_tasks_behind_one_that_takes_long_move_to_idle_engines_too.GATE");
    #[task]
    fn short_but_one(is_long: bool) {
        if is_long {
            GATE.pass();
        }
    }
    let (_cluster, rc) = cluster(2);
    let view = rc.load_balanced();
    for _ in 0..100 {
        view.apply(short_but_one(false)).wait().unwrap();
    }
    let results: Vec<_> = (0..1_000).map(|x| view.apply(short_but_one(x == 0))).collect();
    for ar in &results[1..] {
        ar.wait_timeout(Duration::from_secs(15)).unwrap();
    }
    assert!(!results[0].ready());
    GATE.open();
    assert_eq!(results[0].get(), Ok(()));
    assert!(results.iter().all(|ar| ar.metadata().attempt == Attempt(1)));
}

#[test]
fn an_item_that_fails_is_retried_alone() {
    static STARTS: support::CommonCount = support::CommonCount::new("an_item_that_fails_is_retried_alone.STARTS");
    #[task]
    fn third_time(cx: &TaskContext, x: u32) -> Result<u32, String> {
        STARTS.add();
        if x % 100 == 7 && cx.attempt() < Attempt(3) { Err("not yet".into()) } else { Ok(x) }
    }
    let (_cluster, rc) = cluster(2);
    let ar = rc.load_balanced().with().retries(2).map(third_time, 0..1_000);
    assert_eq!(ar.get().unwrap(), (0..1_000).collect::<Vec<_>>());
    assert_eq!(STARTS.get(), 1_000 + 10 * 2);
    let attempts: Vec<u32> = ar.metadata().iter().map(|record| record.attempt.0).collect();
    assert!((0..1_000).all(|x| attempts[x] == if x % 100 == 7 { 3 } else { 1 }));
}

#[test]
fn kept_items_are_fetched_by_their_ids() {
    let (_cluster, rc) = cluster(2);
    let ar = rc.load_balanced().with().keep().map(square, 0..50);
    let ids: Vec<_> = ar.ids().collect();
    drop(ar);
    for (x, id) in (0..).zip(ids) {
        assert_eq!(rc.fetch::<u64>(id).get().unwrap(), x * x);
    }
}

#[test]
fn cancelling_settles_the_rest_and_keeps_what_is_done() {
    static GATE: support::CommonGate =
        support::CommonGate::new("cancelling_settles_the_rest_and_keeps_what_is_done.GATE");
    static RAN: support::CommonCount =
        support::CommonCount::new("cancelling_settles_the_rest_and_keeps_what_is_done.RAN");
    #[task]
    fn waits_at_ten(x: u32) -> u32 {
        RAN.add();
        if x == 10 {
            GATE.pass();
        }
        x
    }
    let (_cluster, rc) = cluster(1);
    let view = rc.load_balanced().with().chunksize(1);
    let ar = view.map(waits_at_ten, 0..10_000);
    eventually("ten are done, and the next runs", || ar.progress() == 10 && RAN.get() == 11);
    assert_eq!(ar.cancel("enough"), 9_990);
    // At once, although one still runs.
    let results = ar.results().unwrap();
    let cancelled = TaskError::Cancelled { reason: "enough".into() };
    assert!((0..10).all(|x| results[x] == Ok(x as u32)));
    assert!(results[10..].iter().all(|result| *result == Err(cancelled.clone())));
    assert_eq!(ar.metadata()[10].status, Status::Cancelled);
    assert_eq!(ar.cancel("again"), 0);
    // Results settle before the engine has heard of it.
    eventually("what was sent ahead is taken back", || rc.queue_status().get().unwrap().engines[0].outstanding == 1);
    GATE.open();
    eventually("the engine is free", || rc.queue_status().get().unwrap().engines[0].outstanding == 0);
    assert_eq!(RAN.get(), 11, "what had not started does not run");
    let status = rc.queue_status().get().unwrap();
    assert_eq!((status.pending, status.queued, status.late_outcomes), (0, 0, 1));
    assert_eq!(view.apply(waits_at_ten(3)).get(), Ok(3));
}

#[test]
fn a_piece_that_runs_is_cancelled_between_two_items() {
    static GATE: support::CommonGate =
        support::CommonGate::new("a_piece_that_runs_is_cancelled_between_two_items.GATE");
    static RAN: support::CommonCount =
        support::CommonCount::new("a_piece_that_runs_is_cancelled_between_two_items.RAN");
    #[task]
    fn waits(_x: u32) {
        if RAN.add() == 3 {
            GATE.pass();
        }
    }
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().with().chunksize(100).map(waits, 0..250);
    eventually("the fourth runs", || RAN.get() == 4);
    assert_eq!(ar.progress(), 0, "what ran is reported with its piece");
    assert_eq!(ar.cancel("enough"), 250);
    assert!(ar.results().unwrap().iter().all(|result| matches!(result, Err(TaskError::Cancelled { .. }))));
    eventually("the rest is taken back", || rc.queue_status().get().unwrap().engines[0].outstanding == 4);
    GATE.open();
    eventually("the engine is free", || rc.queue_status().get().unwrap().engines[0].outstanding == 0);
    assert_eq!(RAN.get(), 4);
    assert_eq!(rc.queue_status().get().unwrap().pending, 0);
}

#[test]
fn a_deadline_settles_the_items_that_are_not_done() {
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().with().deadline(Duration::from_millis(100)).map(nap, [1, 2, 300, 1, 1]);
    let results = ar.results().unwrap();
    assert_eq!(results[..2], [Ok(1), Ok(2)]);
    assert!(results[2..].iter().all(|result| matches!(result, Err(TaskError::TimedOut { .. }))), "{results:?}");
}

#[test]
fn iterating_gives_each_value_as_soon_as_it_is_there() {
    static GATE: support::CommonGate =
        support::CommonGate::new("iterating_gives_each_value_as_soon_as_it_is_there.GATE");
    #[task]
    fn the_fourth_waits(x: u32) -> u32 {
        if x == 3 {
            GATE.pass();
        }
        x
    }
    let (_cluster, rc) = cluster(3);
    let view = rc.load_balanced().with().chunksize(1);
    let ar = view.map(the_fourth_waits, 0..6);
    let mut iter = ar.iter();
    assert_eq!(iter.len(), 6);
    assert_eq!(iter.by_ref().take(3).collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(2)]);
    // Unordered, those behind the one that waits come first.
    let mut ar2 = view.map(the_fourth_waits, 0..6).as_completed();
    let mut first: Vec<_> = ar2.by_ref().take(4).collect();
    first.sort_by_key(|(position, _)| *position);
    GATE.open();
    assert_eq!(iter.collect::<Vec<_>>(), [Ok(3), Ok(4), Ok(5)]);
    let mut all: Vec<_> = first.into_iter().chain(ar2).collect();
    all.sort_by_key(|(position, _)| *position);
    assert_eq!(all, (0..6).map(|x| (x as usize, Ok(x as u32))).collect::<Vec<_>>());
    // Copies were given: the values are still there, and then moved out, once.
    assert_eq!(ar.get().unwrap(), [0, 1, 2, 3, 4, 5]);
    let mut moved = ar.into_iter();
    assert_eq!(moved.next(), Some(Ok(0)));
    assert_eq!(moved.collect::<Result<Vec<_>, _>>(), Ok(vec![1, 2, 3, 4, 5]));
}

#[test]
fn in_async_code_it_is_a_future_and_two_streams_and_blocks_nothing() {
    use futures_util::StreamExt;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = support::engines(2).start().unwrap();
        let view = cluster.client().load_balanced();
        assert_eq!(view.map(square, 0..5).await, Ok(vec![0, 1, 4, 9, 16]));
        let streamed: Vec<_> = view.map(square, 0..1_000).stream().collect().await;
        assert_eq!(streamed, (0..1_000).map(|x| Ok(x * x)).collect::<Vec<_>>());
        let mut completed: Vec<_> = view.map(square, 0..1_000).as_completed().into_stream().collect().await;
        completed.sort_by_key(|(position, _)| *position);
        assert_eq!(completed, (0..1_000).map(|x| (x as usize, Ok(x * x))).collect::<Vec<_>>());

        let ar = view.map(nap, [30, 30]);
        assert!(matches!(ar.get(), Err(Error::WouldBlock)));
        assert_eq!(ar.iter().collect::<Vec<_>>(), [Err(TaskError::WouldBlock)]);
        assert_eq!(Iterator::collect::<Vec<_>>(ar.as_completed()), [(0, Err(TaskError::WouldBlock))]);
        let mut ar = view.map(nap, [1, 2]);
        assert_eq!((&mut ar).await, Ok(vec![1, 2]));
        let again = (&mut ar).await.unwrap_err();
        assert_eq!(again.errors, [(0, TaskError::AlreadyTaken), (1, TaskError::AlreadyTaken)]);
        cluster.shutdown(Pending::Finish).await.unwrap();
    });
}

#[test]
fn dropping_detaches_and_cancel_on_drop_cancels_the_rest_also_as_a_stream() {
    static RAN: support::CommonCount =
        support::CommonCount::new("dropping_detaches_and_cancel_on_drop_cancels_the_rest_also_as_a_stream.RAN");
    #[task]
    fn counted(ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
        RAN.add();
    }
    let (_cluster, rc) = cluster(1);
    let view = rc.load_balanced().with().chunksize(1);
    drop(view.map(counted, [1; 5]));
    eventually("all ran", || RAN.get() == 5);

    let idle = || rc.queue_status().get().unwrap().engines[0].outstanding == 0;
    drop(view.map(counted, [20; 100]).cancel_on_drop());
    eventually("the engine is free", idle);
    let mut iter = view.map(counted, [20; 100]).cancel_on_drop().into_iter();
    assert_eq!(iter.next(), Some(Ok(())));
    drop(iter);
    eventually("the engine is free", idle);
    assert!(RAN.get() <= 5 + 2 + 3, "{RAN:?} ran");
    assert_eq!(rc.queue_status().get().unwrap().pending, 0);
}

#[test]
fn a_map_is_split_into_its_results_before_and_after_they_are_there() {
    let (_cluster, rc) = cluster(2);
    let view = warm(&rc);
    let done = view.map(picky, 0..100);
    done.wait().unwrap();
    let ids: Vec<_> = done.ids().collect();
    for (results, from) in [(done.split(), 0), (view.map(picky, 100..200).split(), 100)] {
        assert_eq!(results.len(), 100);
        for (x, ar) in (from..).zip(&results) {
            let is_good = x % 10 != 0 && x % 22 != 11;
            assert_eq!(ar.get().ok(), is_good.then_some(x));
            assert_eq!(ar.metadata().status == Status::Done, is_good);
        }
        if from == 0 {
            assert_eq!(results.iter().map(|ar| ar.id()).collect::<Vec<_>>(), ids);
        }
    }
    // Each has callbacks of its own.
    let (tell, told) = mpsc::channel();
    for ar in view.map(nap, [5, 6]).split() {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send(ar.get().unwrap()).unwrap()).unwrap();
    }
    let mut got =
        [told.recv_timeout(Duration::from_secs(10)).unwrap(), told.recv_timeout(Duration::from_secs(10)).unwrap()];
    got.sort_unstable();
    assert_eq!(got, [5, 6]);
}

#[test]
fn one_result_of_a_split_map_is_cancelled_and_does_not_run() {
    static GATE: support::CommonGate =
        support::CommonGate::new("one_result_of_a_split_map_is_cancelled_and_does_not_run.GATE");
    static RAN: support::CommonCount =
        support::CommonCount::new("one_result_of_a_split_map_is_cancelled_and_does_not_run.RAN");
    #[task]
    fn behind_the_gate(x: u32) -> u32 {
        GATE.pass();
        RAN.add();
        x
    }
    let (_cluster, rc) = cluster(1);
    let results = rc.load_balanced().map(behind_the_gate, 0..10).split();
    for cancelled in [3, 5, 6, 9] {
        assert!(results[cancelled].cancel("not this one"));
        assert!(matches!(results[cancelled].get(), Err(TaskError::Cancelled { .. })));
    }
    assert_eq!(rc.queue_status().get().unwrap().pending, 6);
    GATE.open();
    for x in [0, 1, 2, 4, 7, 8] {
        assert_eq!(results[x].get(), Ok(x as u32));
    }
    eventually("all is settled", || rc.queue_status().get().unwrap().pending == 0);
    assert_eq!(RAN.get(), 6);
    assert_eq!(rc.load_balanced().apply(square(2)).get(), Ok(4));
}

#[test]
fn times_and_engines_are_told() {
    let (_cluster, rc) = cluster(4);
    let ar = rc.all().apply(nap(50));
    assert_eq!((ar.wall_time(), ar.serial_time()), (None, None));
    let before = ar.elapsed();
    ar.wait().unwrap();
    let (wall, serial) = (ar.wall_time().unwrap(), ar.serial_time().unwrap());
    assert!(before < wall && ar.elapsed() == wall);
    assert!(
        wall >= Duration::from_millis(50) && serial >= Duration::from_millis(200) && serial > wall,
        "{wall:?} {serial:?}"
    );
    let dict = ar.get_dict().unwrap();
    assert_eq!(dict.into_iter().collect::<Vec<_>>(), (0..4).map(|id| (EngineId(id), 50)).collect::<Vec<_>>());
    let ar = rc.engine(1).map(|_| rc.load_balanced_view([EngineId(1)]).map(nap, [1, 2])).unwrap();
    assert!(matches!(ar.get_dict(), Err(Error::SeveralOnOneEngine { engine: EngineId(1), tasks: 2 })));
    assert_eq!(ar.by_engine().unwrap().into_iter().collect::<Vec<_>>(), [(EngineId(1), vec![1, 2])]);
}

#[test]
fn beyond_the_limits_a_map_is_refused_as_a_whole_and_the_async_form_waits() {
    let mut limits = Limits::default();
    limits.pending_tasks_max = 5_000;
    let cluster = support::engines(2).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    let results = view.map(square, 0..5_001).results().unwrap();
    assert!(results.iter().all(|result| *result == Err(TaskError::Overloaded { what: "tasks", limit: 5_000 })));
    assert_eq!(view.map(square, 0..5_000).get().unwrap().len(), 5_000, "what was refused holds no room");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let values = runtime.block_on(async { view.map_when_admitted(square, 0..20_000).await.await });
    assert_eq!(values, Ok((0..20_000).map(|x| x * x).collect()));
    assert_eq!(view.map(square, 0..5_000).get().unwrap().len(), 5_000, "all room was given back");

    // However little may be pending.
    let mut limits = Limits::default();
    limits.pending_tasks_max = 3;
    let cluster = support::engines(2).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    let values = runtime.block_on(async { view.map_when_admitted(square, 0..100).await.await });
    assert_eq!(values, Ok((0..100).map(|x| x * x).collect()));
}

#[test]
fn a_view_of_no_engines_refuses_every_item() {
    let (_cluster, rc) = cluster(1);
    let none = rc.load_balanced_view([]);
    assert_eq!(none.map(square, 0..3).results().unwrap(), vec![Err(TaskError::NoEngines); 3]);
}

#[derive(Message)]
#[rtype(result = "()")]
struct Squares(Result<Vec<u64>, CompositeError>);

impl From<Result<Vec<u64>, CompositeError>> for Squares {
    fn from(outcome: Result<Vec<u64>, CompositeError>) -> Self {
        Self(outcome)
    }
}

struct Collector(Option<tokio::sync::oneshot::Sender<Vec<u64>>>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Squares> for Collector {
    type Result = ();
    fn handle(&mut self, msg: Squares, _: &mut Context<Self>) {
        self.0.take().unwrap().send(msg.0.unwrap()).unwrap();
    }
}

#[test]
fn all_values_are_piped_into_an_actors_mailbox_as_one_message() {
    System::new().block_on(async {
        let cluster = support::engines(2).start().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let collector = Collector(Some(tell)).start();
        cluster.client().load_balanced().map(square, 0..4).pipe_to(collector.clone().recipient::<Squares>()).unwrap();
        assert_eq!(told.await.unwrap(), [0, 1, 4, 9]);
        cluster.shutdown(Pending::Finish).await.unwrap();
    });
}

#[test]
fn values_that_nobody_wants_are_dropped_once_and_a_panicking_drop_harms_nobody() {
    static DROPPED: support::CommonCount = support::CommonCount::new(
        "values_that_nobody_wants_are_dropped_once_and_a_panicking_drop_harms_nobody.DROPPED",
    );
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Heavy(u8);
    impl Drop for Heavy {
        fn drop(&mut self) {
            DROPPED.add();
            panic!("dropped");
        }
    }
    #[task]
    fn make(_x: u32) -> Heavy {
        Heavy(1)
    }
    let (_cluster, rc) = cluster(2);
    let view = rc.load_balanced().with().chunksize(10);
    drop(view.map(make, 0..100));
    eventually("all are dropped", || DROPPED.get() == 100);
    assert_eq!(view.map(square, 0..5).get().unwrap(), [0, 1, 4, 9, 16]);
}

#[test]
fn a_cluster_that_ends_settles_what_is_left_of_a_map() {
    static GATE: Gate = Gate::new();
    #[task]
    fn gated(x: u32) -> u32 {
        if x == 5 {
            GATE.pass();
        }
        x
    }
    let (cluster, rc) = cluster(1);
    let ar = rc.load_balanced().with().chunksize(1).map(gated, 0..100);
    eventually("five are done", || ar.progress() == 5);
    let ended = cluster.shutdown(Pending::Cancel);
    let results = ar.results().unwrap();
    GATE.open();
    ended.get().unwrap();
    assert!((0..5).all(|x| results[x as usize] == Ok(x)));
    assert!(results[5..].iter().all(|result| matches!(result, Err(TaskError::Cancelled { .. }))));
    assert!(rc.load_balanced().map(gated, 0..3).results().unwrap().iter().all(|r| *r == Err(TaskError::Disconnected)));
}

#[test]
fn results_of_any_origin_are_joined_in_order_before_and_after_they_are_there() {
    use callboard::{AsyncMapResult, Promise};
    let (one, two) = (cluster(2), cluster(1));
    let (promise, promised) = Promise::new("promised");
    let done = one.1.load_balanced().apply(square(3));
    done.wait().unwrap();
    let ids = [done.id(), promised.id()];
    let joined = AsyncMapResult::join([done, promised, two.1.load_balanced().apply(square(5))]);
    assert_eq!(joined.ids().take(2).collect::<Vec<_>>(), ids);
    eventually("two are there", || joined.progress() == 2);
    assert_eq!((joined.successful(), joined.iter().next()), (None, Some(Ok(9))));
    promise.settle(Err(TaskError::NoEngines));
    assert_eq!(joined.results().unwrap(), [Ok(9), Err(TaskError::NoEngines), Ok(25)]);
    assert_eq!((joined.successful(), joined.metadata()[0].engine.is_some()), (Some(false), true));

    // Split and joined, a map is what it was; nothing joined is nothing.
    let map = warm(&one.1).map(square, 0..100);
    let joined = AsyncMapResult::join(map.split());
    assert_eq!(joined.get().unwrap(), (0..100).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(AsyncMapResult::<u64>::join([]).get().unwrap(), Vec::<u64>::new());
}

#[test]
fn cancelling_joined_results_cancels_each_where_it_is() {
    use callboard::{AsyncMapResult, Promise};
    static GATE: Gate = Gate::new();
    #[task]
    fn gated_one(x: u64) -> u64 {
        GATE.pass();
        x
    }
    let (one, two) = (cluster(1), cluster(1));
    let (promise, promised) = Promise::<u64>::new("promised");
    let views = [one.1.load_balanced(), two.1.load_balanced()];
    let of_views = views.iter().flat_map(|view| [view.apply(gated_one(1)), view.apply(gated_one(2))]);
    let joined = AsyncMapResult::join([promised].into_iter().chain(of_views));
    assert_eq!(joined.cancel("enough"), 5);
    let cancelled = TaskError::Cancelled { reason: "enough".into() };
    assert_eq!(joined.results().unwrap(), vec![Err(cancelled); 5]);
    assert!(promise.is_cancelled());
    GATE.open();
}

#[test]
fn callbacks_of_a_map_run_in_the_order_of_registration_also_those_registered_meanwhile() {
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().map(square, 0..10);
    let (tell, told) = mpsc::channel();
    for n in 0..3 {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| {
            if n == 0 {
                let late = tell.clone();
                ar.add_done_callback(move |_| late.send(3).unwrap()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            tell.send(n).unwrap();
        })
        .unwrap();
    }
    let order: Vec<i32> = (0..4).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn several_threads_read_one_result_while_it_comes() {
    /// The first takes its time to be copied, so that readers meet.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Slow(u32);
    impl Clone for Slow {
        fn clone(&self) -> Self {
            if self.0 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
            Self(self.0)
        }
    }
    #[task]
    fn make_slow(x: u32) -> Slow {
        std::thread::sleep(Duration::from_micros(700));
        Slow(x)
    }
    let (_cluster, rc) = cluster(2);
    let ar = rc.load_balanced().with().chunksize(1).map(make_slow, 0..100);
    std::thread::scope(|scope| {
        // One reads what is there again and again, the other what comes.
        scope.spawn(|| {
            while !ar.ready() {
                assert_eq!(ar.iter().next(), Some(Ok(Slow(0))));
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        for (x, outcome) in (0..).zip(&ar) {
            assert_eq!(outcome, Ok(Slow(x)));
        }
    });
}
