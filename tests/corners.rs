//! Corners of views and results that somebody once fell into: each test is one of them.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Attempt, EngineId, Error, Limits, Policy, Promise, Status, every_nth};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

mod support;
use support::{Cluster, CommonGate, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn sleep_ms(ms: u64) -> u64 {
    thread::sleep(Duration::from_millis(ms));
    ms
}

#[task]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[task]
fn even(x: u64) -> Result<u64, String> {
    if x.is_multiple_of(2) { Ok(x) } else { Err("odd".into()) }
}

fn cluster(engines: usize, set: impl FnOnce(&mut Limits)) -> (Cluster, Client) {
    let mut limits = Limits::default();
    set(&mut limits);
    let cluster = support::engines(engines).limits(limits).policy(Policy::LeastLoad).start().unwrap();
    let rc = cluster.client();
    (cluster, rc)
}

fn on_one_thread<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn what_is_asked_is_done_also_where_nobody_waits_for_the_answer() {
    let (cluster, rc) = cluster(2, |_| ());
    rc.load_balanced().apply(square(1)).wait().unwrap();
    drop(rc.purge());
    assert_eq!(rc.records().get_timeout(PATIENCE).unwrap().len(), 0);
    drop(cluster.remove_engines([EngineId(0)]));
    eventually("the engine has gone", || rc.ids() == [EngineId(1)]);
    drop(rc.shutdown(Pending::Finish));
    eventually("it is shut down", || rc.load_balanced().apply(square(1)).get() == Err(TaskError::Disconnected));
}

#[test]
fn what_is_refused_after_the_end_gives_its_room_back() {
    let (cluster, rc) = cluster(1, |limits| limits.pending_tasks_max = 2);
    rc.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    for _ in 0..10 {
        assert_eq!(rc.load_balanced().apply(square(1)).get_timeout(PATIENCE), Err(TaskError::Disconnected));
    }
    let waiting = async {
        let map = rc.load_balanced().map_when_admitted(square, 0..100).await;
        (rc.load_balanced().apply_when_admitted(square(1)).await.await, map.await.unwrap_err().errors.len())
    };
    let (one, many) = on_one_thread(async { tokio::time::timeout(PATIENCE, waiting).await.unwrap() });
    assert_eq!((one, many), (Err(TaskError::Disconnected), 100));
    assert!(matches!(cluster.add_threads(1).get_timeout(PATIENCE), Err(Error::ClusterStopped)));
    assert_eq!(rc.len(), 1, "its thread ends with the cluster");
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.ids(), []);
    assert!(matches!(rc.engine(0), Err(Error::NoSuchEngine { asked: 0, .. })));
}

#[test]
fn a_map_that_waits_for_room_takes_what_there_is_and_is_not_starved() {
    let (_cluster, rc) = cluster(2, |limits| limits.pending_tasks_max = 100);
    let view = rc.load_balanced();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Somebody always has a few places.
        for ms in [3, 5, 7] {
            let (view, is_over) = (&view, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // Refused where the map has taken all places.
                    let _ = view.apply(sleep_ms(ms)).get_timeout(PATIENCE);
                }
            });
        }
        let squares = on_one_thread(async {
            let squares = async { view.map_when_admitted(square, 0..500).await.await };
            tokio::time::timeout(PATIENCE, squares).await
        });
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(squares.expect("it is not starved").unwrap().len(), 500);
    });
}

#[test]
fn a_map_is_bounded_in_bytes_and_the_map_of_an_executor_waits_for_room() {
    let (_cluster, rc) = cluster(2, |limits| limits.pending_bytes_max = 10_000);
    let inputs = || (0..100).map(|_| vec![0; 1_000]);
    let refused = rc.load_balanced().map(length, inputs()).results().unwrap();
    assert!(refused.iter().all(|outcome| matches!(outcome, Err(TaskError::Overloaded { what: "bytes", .. }))));
    let lengths: Result<Vec<_>, _> = rc.executor().map(length, inputs()).collect();
    assert_eq!(lengths, Ok(vec![1_000; 100]));
    let lengths: Result<Vec<_>, _> = rc.executor().map_unordered(length, inputs()).map(|(_, length)| length).collect();
    assert_eq!(lengths.map(|all| all.len()), Ok(100));
    let admitted = on_one_thread(async { rc.load_balanced().map_when_admitted(length, inputs()).await.await });
    assert_eq!(admitted.unwrap(), vec![1_000; 100]);
    // One that is larger than all there is goes alone.
    let sizes = [20_000, 10, 30_000, 10];
    let lengths: Result<Vec<_>, _> = rc.executor().map(length, sizes.map(|size| vec![0; size])).collect();
    assert_eq!(lengths, Ok(sizes.to_vec()));
}

#[derive(Serialize, Deserialize)]
struct Slow(u8);

/// A copy is being made.
static IS_COPYING: AtomicBool = AtomicBool::new(false);

impl Clone for Slow {
    fn clone(&self) -> Self {
        IS_COPYING.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
        Self(self.0)
    }
}

#[task]
fn slow(x: u8) -> Slow {
    Slow(x)
}

#[test]
fn awaiting_a_map_that_a_callback_copies_holds_up_no_runtime() {
    let (_cluster, rc) = cluster(1, |_| ());
    on_one_thread(async {
        let ticked = Arc::new(Mutex::new((Instant::now(), Duration::ZERO)));
        let ticking = ticked.clone();
        let ticker = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let mut ticked = ticking.lock().unwrap();
                *ticked = (Instant::now(), ticked.1.max(ticked.0.elapsed()));
            }
        });
        let map = rc.load_balanced().map(slow, [1, 2]);
        map.add_done_callback(|map| drop(map.get())).unwrap();
        while !IS_COPYING.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let values = map.await.unwrap();
        assert_eq!(values.iter().map(|slow| slow.0).collect::<Vec<_>>(), [1, 2]);
        // The ticker may be behind by what the await took.
        let (last, longest) = *ticked.lock().unwrap();
        let longest = longest.max(last.elapsed());
        assert!(longest < Duration::from_millis(250), "the runtime stood still for {longest:?}");
        ticker.abort();
    });
}

#[test]
fn who_waited_in_vain_may_wait_again() {
    let gate = CommonGate::new("who_waited_in_vain_may_wait_again");
    let (_cluster, rc) = cluster(1, |_| ());
    let view = rc.load_balanced();
    let held = view.apply(gate.task());
    let results: Vec<_> = (0..2_000).map(|x| view.apply(square(x))).collect();
    for _ in 0..100 {
        assert!(matches!(rc.wait().get_timeout(Duration::from_millis(1)), Err(Error::NotReady { .. })));
    }
    gate.open();
    rc.wait().get_timeout(PATIENCE).unwrap();
    assert!(held.ready() && results.iter().all(|ar| ar.ready()));
}

#[test]
fn reading_as_completed_where_one_must_not_wait_names_the_first_that_is_missing() {
    let (_cluster, rc) = cluster(2, |_| ());
    let map = rc.load_balanced().with().chunksize(1).map(sleep_ms, [300, 1]);
    on_one_thread(async {
        while map.progress() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let read: Vec<_> = map.as_completed().collect();
        assert_eq!(read, [(1, Ok(1)), (0, Err(TaskError::WouldBlock))]);
        let mut stream = rc.load_balanced().map(square, 0..3).as_completed().into_stream();
        let mut seen = Vec::new();
        while let Some((position, value)) = stream.next().await {
            seen.push((position, value.unwrap()));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (1, 1), (2, 4)]);
    });
}

#[test]
fn items_keep_their_records_and_errors_when_their_values_are_taken() {
    let (_cluster, rc) = cluster(1, |_| ());
    for chunksize in [1, 4] {
        let mut map = rc.load_balanced().with().chunksize(chunksize).map(even, 0..4);
        assert!(map.take().is_err());
        let statuses: Vec<Status> = map.metadata().iter().map(|record| record.status).collect();
        assert_eq!(statuses, [Status::Done, Status::Failed, Status::Done, Status::Failed]);
        let again = map.results().unwrap();
        assert_eq!(again[0], Err(TaskError::AlreadyTaken));
        assert!(matches!(again[1], Err(TaskError::Failed { .. })), "an error can be had again");
    }
}

#[test]
fn a_callback_of_a_map_that_was_split_since_knows_how_its_items_ended() {
    let gate = CommonGate::new("a_callback_of_a_map_that_was_split_since_knows_how_its_items_ended");
    let (_cluster, rc) = cluster(1, |_| ());
    let held = rc.load_balanced().apply(gate.task());
    let map = rc.load_balanced().map(square, 0..3);
    let (tell, told) = mpsc::channel();
    map.add_done_callback(move |map| {
        let statuses: Vec<Status> = map.metadata().iter().map(|record| record.status).collect();
        tell.send((statuses, map.successful(), map.wall_time(), map.serial_time())).unwrap();
    })
    .unwrap();
    let parts = map.split();
    gate.open();
    let (statuses, successful, wall_time, serial_time) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((statuses, successful), (vec![Status::Done; 3], Some(true)));
    assert!(wall_time.unwrap() > serial_time.unwrap(), "it waited for the one before");
    assert_eq!(parts.iter().map(|part| part.get_timeout(PATIENCE)).collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(4)]);
    held.get_timeout(PATIENCE).unwrap();
}

#[test]
fn joined_results_keep_what_is_known_of_each() {
    let (_cluster, rc) = cluster(1, |_| ());
    let view = rc.load_balanced();
    let (first, second) = (view.with().label("A").apply(square(2)), view.with().label("B").apply(sleep_ms(50)));
    let submitted = first.metadata().submitted;
    second.wait().unwrap();
    let joined = AsyncMapResult::join([first, second]);
    joined.wait().unwrap();
    let records = joined.metadata();
    let known: Vec<_> = records.iter().map(|record| (record.name(), record.label.as_deref())).collect();
    assert_eq!(known, [("square", Some("A")), ("sleep_ms", Some("B"))]);
    assert!(records.iter().all(|record| record.submitted <= record.completed.unwrap()));
    let until_the_last = records.iter().map(|record| record.completed.unwrap().since(submitted)).max();
    assert_eq!(joined.wall_time(), until_the_last);
    assert_eq!(joined.by_engine().unwrap()[&EngineId(0)], [4, 50]);

    let (promise, promised) = Promise::new("p");
    promise.fulfil(1);
    let joined = AsyncMapResult::join([view.apply(square(2)), promised]);
    assert!(matches!(joined.by_engine(), Err(Error::OfNoEngine { .. })));
}

#[test]
fn a_promise_settled_with_an_error_about_asking_has_failed() {
    for error in [TaskError::WouldBlock, TaskError::AlreadyTaken, TaskError::ResultEvicted] {
        let (promise, result) = Promise::<u32>::new("p");
        promise.settle(Err(error.clone()));
        assert_eq!((result.ready(), result.successful()), (true, Some(false)));
        assert_eq!(result.metadata().status, Status::Failed);
        assert_eq!(result.get(), Err(error));
    }
}

#[test]
fn a_task_that_is_cancelled_while_it_runs_tells_where_it_ran() {
    let gate = CommonGate::new("a_task_that_is_cancelled_while_it_runs_tells_where_it_ran");
    let (_cluster, rc) = cluster(2, |_| ());
    let running = rc.engine(1).unwrap().apply(gate.task());
    eventually("it runs", || running.running().get_timeout(PATIENCE).unwrap());
    let queued = rc.engine(1).unwrap().apply(square(2));
    for ar in [&running as &dyn Cancels, &queued] {
        ar.cancel_it();
    }
    running.wait_timeout(PATIENCE).unwrap();
    queued.wait_timeout(PATIENCE).unwrap();
    let record = rc.record(running.id()).get_timeout(PATIENCE).unwrap();
    assert_eq!((record.status, record.engine, record.attempt), (Status::Cancelled, Some(EngineId(1)), Attempt(1)));
    assert_eq!(running.metadata().engine, Some(EngineId(1)));
    let record = queued.metadata();
    assert_eq!((record.engine, record.attempt), (None, Attempt(0)), "it never started");
    gate.open();
}

trait Cancels {
    fn cancel_it(&self);
}

impl<T: Send + 'static> Cancels for AsyncResult<T> {
    fn cancel_it(&self) {
        assert!(self.cancel("not needed"));
    }
}

#[test]
fn a_kept_value_is_not_read_as_another_type() {
    let (_cluster, rc) = cluster(1, |_| ());
    let ar = rc.load_balanced().with().keep().apply(square(300));
    ar.wait().unwrap();
    let wrong = rc.fetch::<u8>(ar.id()).get_timeout(PATIENCE);
    assert!(matches!(&wrong, Err(Error::Task(TaskError::Undecodable { .. }))), "{wrong:?}");
    assert_eq!(rc.fetch::<u64>(ar.id()).get_timeout(PATIENCE).unwrap(), 90_000);
}

#[test]
fn selections_of_selections_and_engines_named_twice() {
    let (_cluster, rc) = cluster(8, |_| ());
    let every_fourth = rc.engines(every_nth(every_nth(.., 2), 2)).unwrap();
    assert_eq!(*every_fourth.targets(), [EngineId(0), EngineId(4)]);
    assert!(matches!(rc.engines([0, 3, -8]), Err(Error::EngineTwice { engine: EngineId(0) })));
}

#[test]
fn a_deadline_is_kept_to_the_letter() {
    let (_cluster, rc) = cluster(1, |_| ());
    let view = rc.load_balanced();
    for _ in 0..20 {
        let at_once = view.with().deadline(Duration::ZERO).apply(square(1));
        assert_eq!(at_once.get_timeout(PATIENCE), Err(TaskError::TimedOut { deadline: Duration::ZERO }));
        let deadline = Duration::from_millis(1);
        let late = view.with().deadline(deadline).apply(sleep_ms(2));
        assert_eq!(late.get_timeout(PATIENCE), Err(TaskError::TimedOut { deadline }));
        assert_eq!(late.metadata().status, Status::TimedOut);
    }
}

#[test]
fn what_waits_for_one_engine_only_is_counted_there() {
    let gate = CommonGate::new("what_waits_for_one_engine_only_is_counted_there");
    let (_cluster, rc) = cluster(2, |_| ());
    let held = rc.engine(0).unwrap().apply(gate.task());
    eventually("it runs", || held.running().get_timeout(PATIENCE).unwrap());
    let only = rc.load_balanced_view([EngineId(0)]);
    let waiting: Vec<_> = (0..3).map(|ms| only.apply(sleep_ms(ms))).collect();
    eventually("all are counted at the one", || {
        let status = rc.queue_status().get().unwrap();
        (status.queued, status.engines[0].queued, status.engines[1].queued) == (3, 3, 0)
    });
    gate.open();
    held.get_timeout(PATIENCE).unwrap();
    assert!(waiting.iter().all(|ar| ar.get_timeout(PATIENCE).is_ok()));
}
