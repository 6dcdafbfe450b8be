//! One task, from `apply` to its result: values, order, options, and every way to end.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use callboard::prelude::*;
use callboard::{Attempt, EngineId, Error, Limits, Status};

mod support;
use support::Cluster;

#[task]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task]
fn whoami(cx: &TaskContext) -> (u32, u32, Option<String>) {
    (cx.engine().unwrap().0, cx.attempt().0, cx.label().map(str::to_string))
}

#[task]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Returns early once nobody wants it.
#[task]
fn patient(cx: &TaskContext) -> bool {
    for _ in 0..5_000 {
        if cx.is_cancelled() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[task]
fn parse(text: String) -> Result<i32, std::num::ParseIntError> {
    text.parse()
}

#[task]
fn boom(message: String) -> u8 {
    panic!("{message}")
}

#[task]
async fn async_nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// Opens a gate, then waits for longer than any test.
#[task]
async fn async_wait(gate: String) {
    support::CommonGate::named(gate).open();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = support::engines(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn a_task_on_one_engine_returns_its_value() {
    let (_cluster, rc) = cluster(2);
    let ar = rc.engine(1).unwrap().apply(add(40, 2));
    assert_eq!(ar.get(), Ok(42));
    assert_eq!(ar.result(), Ok(42), "a second time, under its other name");
    assert_eq!(ar.successful(), Some(true));
    assert_eq!(format!("{ar:?}"), "<AsyncResult add: done>");
}

#[test]
fn engines_are_found_by_id_and_from_the_end() {
    let (_cluster, rc) = cluster(3);
    assert_eq!(rc.ids(), [EngineId(0), EngineId(1), EngineId(2)]);
    assert_eq!(rc.engine(-1).unwrap().id(), EngineId(2));
    assert_eq!(rc.engine(-3).unwrap().id(), EngineId(0));
    assert_eq!(rc.engine(2).unwrap().apply(whoami()).get().unwrap().0, 2);
    for asked in [3, -4, i64::MAX, i64::MIN] {
        let error = rc.engine(asked).unwrap_err();
        assert!(matches!(&error, Error::NoSuchEngine { asked: a, have } if *a == asked && have.len() == 3));
        assert_eq!(error.to_string(), format!("no engine {asked} here; engines are [0, 1, 2]"));
    }
}

#[test]
fn all_engines_return_one_value_each_in_order() {
    let (_cluster, rc) = cluster(4);
    let dv = rc.all();
    assert_eq!(format!("{dv:?}"), "<DirectView [0, 1, 2, 3]>");
    let ar = dv.apply(whoami());
    let engines: Vec<u32> = ar.get().unwrap().into_iter().map(|(engine, ..)| engine).collect();
    assert_eq!(engines, [0, 1, 2, 3]);
    assert_eq!((ar.len(), ar.progress(), ar.successful()), (4, 4, Some(true)));
    assert!(ar.metadata().iter().all(|record| record.status == Status::Done && record.completed >= record.started));
}

#[test]
fn a_load_balanced_view_keeps_to_its_engines_and_spreads_long_tasks() {
    let (_cluster, rc) = cluster(4);
    let even = rc.load_balanced_view(rc.ids().into_iter().step_by(2));
    assert_eq!(format!("{even:?}"), "<LoadBalancedView [0, 2]>");
    let results: Vec<_> = (0..8).map(|_| even.apply(nap(10))).collect();
    let mut by_engine = [0; 4];
    for ar in &results {
        ar.get().unwrap();
        by_engine[ar.metadata().engine.unwrap().0 as usize] += 1;
    }
    assert_eq!((by_engine[1], by_engine[3]), (0, 0));
    assert!(by_engine[0] >= 3 && by_engine[2] >= 3, "{by_engine:?}");
}

#[test]
fn long_tasks_start_on_every_engine_at_once() {
    let (_cluster, rc) = cluster(4);
    let lb = rc.load_balanced();
    let results: Vec<_> = (0..4).map(|_| lb.apply(nap(50))).collect();
    let mut engines: Vec<u32> = results
        .iter()
        .map(|ar| {
            ar.get().unwrap();
            ar.metadata().engine.unwrap().0
        })
        .collect();
    engines.sort_unstable();
    assert_eq!(engines, [0, 1, 2, 3]);
}

#[test]
fn tasks_of_one_view_start_in_the_order_of_submission() {
    static STARTED: support::CommonCount = support::CommonCount::new("order.STARTED");
    /// Says as how many-th it started.
    #[task]
    fn turn() -> u32 {
        STARTED.add()
    }
    let (_cluster, rc) = cluster(1);
    let view = rc.engine(0).unwrap();
    let count = 20_000;
    let turns: Vec<_> = (0..count).map(|_| view.apply(turn())).collect();
    assert!((0..count).zip(turns).all(|(i, mut ar)| ar.take() == Ok(i)));
}

#[test]
fn an_error_keeps_its_text_and_says_where() {
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().apply(parse("seven".into()));
    let Err(TaskError::Failed { place, text }) = ar.get() else { panic!("{ar:?}") };
    assert_eq!(&*text, "invalid digit found in string");
    assert_eq!((place.engine, place.attempt, place.name), (Some(EngineId(0)), Attempt(1), "parse"));
    assert_eq!(ar.successful(), Some(false));
    assert_eq!(ar.metadata().status, Status::Failed);
}

#[test]
fn many_results_name_each_failure_and_keep_the_others() {
    let (_cluster, rc) = cluster(3);
    let mut ar = rc.all().apply(boom("no".into()));
    let Err(Error::Composite(error)) = ar.take() else { panic!("{ar:?}") };
    assert_eq!(error.total, 3);
    assert_eq!(error.errors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(error.to_string().starts_with("3 of 3 tasks failed; [0] boom (task "), "{error}");
}

#[test]
fn a_task_is_retried_as_often_as_allowed_and_no_more() {
    let (_cluster, rc) = cluster(2);
    static STARTS: support::CommonCount =
        support::CommonCount::new("a_task_is_retried_as_often_as_allowed_and_no_more.STARTS");
    #[task]
    fn stubborn(cx: &TaskContext, good: u32) -> Result<u32, String> {
        STARTS.add();
        if cx.attempt().0 < good { Err(format!("attempt {}", cx.attempt())) } else { Ok(cx.attempt().0) }
    }
    let lb = rc.load_balanced();
    let ar = lb.with().retries(3).apply(stubborn(3));
    assert_eq!(ar.get(), Ok(3));
    assert_eq!(ar.metadata().attempt, Attempt(3));
    assert_eq!(STARTS.reset(), 3);

    let ar = lb.with().retries(2).apply(stubborn(9));
    let Err(TaskError::Failed { place, text }) = ar.get() else { panic!("{ar:?}") };
    assert_eq!((place.attempt, &*text), (Attempt(3), "attempt 3"));
    assert_eq!(STARTS.reset(), 3);

    let ar = lb.with().retries_on_loss(5).apply(stubborn(9));
    assert!(matches!(ar.get(), Err(TaskError::Failed { .. })));
    assert_eq!(STARTS.get(), 1, "an error does not use the budget for lost engines");
}

#[test]
fn options_are_set_on_a_copy() {
    let (_cluster, rc) = cluster(1);
    let lb = rc.load_balanced();
    let labelled = lb.with().label("x");
    assert_eq!(labelled.apply(whoami()).get().unwrap().2.as_deref(), Some("x"));
    assert_eq!(lb.apply(whoami()).get().unwrap().2, None);
}

#[test]
fn a_task_is_cancelled_wherever_it_is() {
    let (_cluster, rc) = cluster(1);
    let view = rc.engine(0).unwrap();
    let running = view.apply(patient());
    let behind = view.apply(add(1, 1));
    let far_behind: Vec<_> = (0..10_000).map(|_| view.apply(add(1, 1))).collect();

    assert!(behind.cancel("not needed"));
    assert_eq!(behind.get(), Err(TaskError::Cancelled { reason: "not needed".into() }));
    assert!(!behind.cancel("again"), "a settled task stays as it is");
    for ar in &far_behind {
        ar.cancel("nor these");
    }
    for ar in &far_behind {
        assert_eq!(ar.get(), Err(TaskError::Cancelled { reason: "nor these".into() }));
        assert_eq!(ar.metadata().attempt, Attempt(0), "it never started");
    }
    // The running one settles at once, is asked to stop, and frees its slot when it returns.
    assert!(running.cancel("enough"));
    assert_eq!(running.get_timeout(Duration::from_secs(2)), Err(TaskError::Cancelled { reason: "enough".into() }));
    assert_eq!(view.apply(add(2, 2)).get(), Ok(4));
    let status = rc.queue_status().get().unwrap();
    assert_eq!((status.pending, status.queued, status.engines[0].outstanding), (0, 0, 0));
    assert_eq!(status.late_outcomes, 1, "the outcome of the cancelled task that ran");
    assert!(!running.cancel("late"));
}

#[test]
fn an_async_task_is_dropped_at_its_next_await_when_cancelled() {
    let (_cluster, rc) = cluster(1);
    let view = rc.engine(0).unwrap();
    assert_eq!(view.apply(async_nap(5)).get(), Ok(5));
    let long = view.apply(async_wait("it waits".into()));
    support::CommonGate::new("it waits").pass();
    long.cancel("too long");
    assert!(matches!(long.get(), Err(TaskError::Cancelled { .. })));
    assert_eq!(view.apply(add(1, 2)).get_timeout(Duration::from_secs(5)), Ok(3), "the slot is free again");
}

#[test]
fn dropping_detaches_and_cancel_on_drop_cancels() {
    static GATE: support::CommonGate = support::CommonGate::new("dropping.GATE");
    static DETACHED: support::CommonCount = support::CommonCount::new("dropping.DETACHED");
    static CANCELLED: support::CommonCount = support::CommonCount::new("dropping.CANCELLED");
    #[task]
    fn held() {
        GATE.pass();
    }
    #[task]
    fn note(is_detached: bool) {
        if is_detached {
            DETACHED.add()
        } else {
            CANCELLED.add()
        };
    }
    let (_cluster, rc) = cluster(1);
    let view = rc.engine(0).unwrap();
    let first = view.apply(held());
    drop(view.apply(note(true)));
    drop(view.apply(note(false)).cancel_on_drop());
    // Behind both: when it has run, they would have.
    let last = view.apply(add(1, 2));
    GATE.open();
    first.get().unwrap();
    assert_eq!(last.get(), Ok(3));
    assert_eq!((DETACHED.get(), CANCELLED.get()), (1, 0));
}

#[test]
fn an_overdue_task_times_out_queued_or_running() {
    let (_cluster, rc) = cluster(1);
    let view = rc.engine(0).unwrap();
    let soon = Duration::from_millis(30);
    let running = view.with().deadline(soon).apply(patient());
    let queued = view.with().deadline(soon).apply(add(1, 1));
    assert_eq!(running.get(), Err(TaskError::TimedOut { deadline: soon }));
    assert_eq!(queued.get(), Err(TaskError::TimedOut { deadline: soon }));
    assert_eq!(queued.metadata().attempt, Attempt(0));
    let in_time = view.with().deadline(Duration::from_secs(10)).apply(add(1, 1));
    assert_eq!(in_time.get(), Ok(2));
}

#[test]
fn metadata_tells_when_where_and_how() {
    let (_cluster, rc) = cluster(1);
    let ar = rc.load_balanced().with().label("night run").apply(nap(20));
    let early = ar.metadata();
    assert!(early.status == Status::Pending || early.status == Status::Done);
    ar.get().unwrap();
    let record = ar.metadata();
    assert_eq!((record.status, record.name(), record.label.as_deref()), (Status::Done, "nap", Some("night run")));
    assert_eq!((record.engine, record.attempt, record.id), (Some(EngineId(0)), Attempt(1), ar.id()));
    let (submitted, started, completed) = (record.submitted, record.started.unwrap(), record.completed.unwrap());
    assert!(submitted <= started && started <= completed, "{record:?}");
    assert!(record.run_time().unwrap() >= Duration::from_millis(20));
    assert_eq!(ar.elapsed(), completed.since(submitted));
    let stored = rc.record(ar.id()).get().unwrap();
    assert_eq!((stored.status, stored.name(), stored.completed), (Status::Done, "nap", record.completed));
}

#[test]
fn kept_values_are_fetched_by_id_and_forgotten_by_purge() {
    let (_cluster, rc) = cluster(1);
    let lb = rc.load_balanced();
    let id = lb.with().keep().apply(add(20, 22)).id();
    assert_eq!(rc.fetch::<i64>(id).get().unwrap(), 42, "waits for the task, and outlives its result");
    let failed = lb.with().keep().apply(parse("x".into())).id();
    assert!(matches!(rc.fetch::<i32>(failed).get(), Err(Error::Task(TaskError::Failed { .. }))));
    let not_kept = lb.apply(add(1, 1));
    not_kept.get().unwrap();
    assert!(matches!(rc.fetch::<i64>(not_kept.id()).get(), Err(Error::UnknownResult { .. })));
    assert_eq!(rc.records().get().unwrap().len(), 3);
    rc.purge().get().unwrap();
    assert_eq!(rc.records().get().unwrap().len(), 0);
    assert!(matches!(rc.fetch::<i64>(id).get(), Err(Error::UnknownResult { task }) if task == id));
}

#[test]
fn kept_values_beyond_the_limit_are_evicted_and_say_so() {
    let mut limits = Limits::default();
    limits.kept_bytes_max = 1_000;
    let cluster = support::engines(1).limits(limits).start().unwrap();
    let rc = cluster.client();
    #[task]
    fn zeros(n: usize) -> Vec<u8> {
        vec![0; n]
    }
    let lb = rc.load_balanced();
    let first = lb.with().keep().apply(zeros(600));
    first.get().unwrap();
    let second = lb.with().keep().apply(zeros(600));
    second.get().unwrap();
    assert!(matches!(rc.fetch::<Vec<u8>>(first.id()).get(), Err(Error::Task(TaskError::ResultEvicted))));
    assert_eq!(rc.fetch::<Vec<u8>>(second.id()).get().unwrap().len(), 600);
}

#[test]
fn zero_engines_and_zero_limits_are_refused_by_name() {
    let error = callboard::Cluster::threads(0).start().unwrap_err();
    assert_eq!(error.to_string(), "the number of engines is zero; it must be at least 1");
    let mut limits = Limits::default();
    limits.pending_tasks_max = 0;
    let error = support::engines(1).limits(limits).start().unwrap_err();
    assert!(matches!(error, Error::Zero { what: "limits.pending_tasks_max" }), "{error}");
}

#[test]
fn a_view_of_no_engines_refuses() {
    let (_cluster, rc) = cluster(1);
    let none = rc.load_balanced_view([]);
    assert!(matches!(none.apply(add(1, 1)).get(), Err(TaskError::NoEngines)));
    let gone = rc.load_balanced_view([EngineId(77)]);
    assert!(matches!(gone.apply(add(1, 1)).get(), Err(TaskError::EngineLost { engine: EngineId(77), .. })));
}

#[test]
fn after_the_end_every_call_says_so() {
    let (cluster, rc) = cluster(2);
    let (view, all, one) = (rc.load_balanced(), rc.all(), rc.engine(0).unwrap());
    let before = view.apply(add(1, 1));
    before.get().unwrap();
    drop(cluster);
    assert_eq!(view.apply(add(1, 1)).get(), Err(TaskError::Disconnected));
    assert_eq!(one.apply(add(1, 1)).get(), Err(TaskError::Disconnected));
    assert!(matches!(all.apply(add(1, 1)).get(), Err(Error::Composite(_))));
    assert!(matches!(rc.queue_status().get(), Err(Error::ClusterStopped)));
    assert!(matches!(rc.purge().get(), Err(Error::ClusterStopped)));
    assert_eq!(before.get(), Ok(2), "what was there stays there");
}

#[test]
fn shutdown_finishes_or_cancels_what_is_pending() {
    let (cluster, rc) = cluster(1);
    let lb = rc.load_balanced();
    let results: Vec<_> = (0..20).map(|_| lb.apply(nap(2))).collect();
    cluster.shutdown(Pending::Finish).get().unwrap();
    assert!(results.iter().all(|ar| ar.get() == Ok(2)));

    let (cluster, rc) = self::cluster(1);
    let lb = rc.load_balanced();
    let running = lb.apply(patient());
    let waiting = lb.apply(nap(1));
    cluster.shutdown(Pending::Cancel).get().unwrap();
    let cancelled = TaskError::Cancelled { reason: "the cluster was shut down".into() };
    assert_eq!((running.get(), waiting.get()), (Err(cancelled.clone()), Err(cancelled)));
}
