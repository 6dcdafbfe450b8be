//! Executors around executors: the same promises, and what each adds.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use callboard::executors::{Backoff, Call, InFlight, Job, RetryPolicy};
use callboard::prelude::*;
use callboard::{Limits, Reply, Status, ThreadPoolExecutor};

mod conformance;
mod support;
use conformance::{Maker, Subject};
use support::{Gate, eventually};

const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn threads(n: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(n).unwrap()
}

fn check(name: &'static str, make: fn() -> Subject) {
    conformance::run(&Maker { name, workers: 2, make });
}

#[test]
fn a_limited_executor_keeps_every_promise() {
    check("Limited", || Subject::of(threads(4).limit(2)));
}

#[test]
fn a_retrying_executor_keeps_every_promise() {
    // Whatever fails is tried three times, but for the one error of which the suite asks at which attempt it came.
    check("Retrying", || {
        let policy =
            RetryPolicy::new(3).only(|error| !matches!(error, TaskError::Failed { text, .. } if **text == *"no 7"));
        Subject::of(threads(2).retry(policy))
    });
}

#[test]
fn a_time_limited_executor_keeps_every_promise() {
    check("TimeLimited", || Subject::of(threads(2).timeout(LONG)));
}

#[test]
fn an_executor_with_a_fallback_keeps_every_promise() {
    check("WithFallback", || Subject::of(threads(2).fallback(threads(2))));
}

#[test]
fn all_of_them_around_each_other_keep_every_promise() {
    check("TimeLimited", || {
        let policy = RetryPolicy::new(2).only(|error| matches!(error, TaskError::EngineLost { .. }));
        Subject::of(threads(3).limit(2).fallback(threads(1)).retry(policy).timeout(LONG))
    });
}

#[test]
fn around_a_cluster_they_keep_every_promise() {
    check("Limited", || {
        let cluster = Cluster::threads(2).start().unwrap();
        let executor = cluster.client().executor().timeout(LONG).limit(2);
        Subject { executor: Box::new(executor), guard: Box::new(cluster) }
    });
}

// ---- tasks

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Counts how many are in it at once, and remembers the most.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[task]
fn crowd() {
    MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1));
    NOW.fetch_sub(1, Ordering::SeqCst);
}

/// Calls by key, and what they have come to.
static CALLS: Mutex<Vec<(u32, Instant)>> = Mutex::new(Vec::new());

fn calls(key: u32) -> Vec<Instant> {
    CALLS.lock().unwrap().iter().filter(|(theirs, _)| *theirs == key).map(|(_, at)| *at).collect()
}

/// Fails until it was called so often.
#[task]
fn works_at(key: u32, call: usize) -> Result<usize, String> {
    CALLS.lock().unwrap().push((key, Instant::now()));
    let count = calls(key).len();
    if count < call { Err(format!("call {count}")) } else { Ok(count) }
}

#[task]
fn dream(cx: &TaskContext) {
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    TOLD.fetch_add(1, Ordering::SeqCst);
}

static TOLD: AtomicU32 = AtomicU32::new(0);

#[task]
fn pass_gate() {
    GATE.pass();
}

static GATE: Gate = Gate::new();

/// An executor that settles everything within `execute`: as it is told, or by running it.
#[derive(Debug, Default)]
struct AtOnce {
    in_flight: InFlight,
    refuses: Option<TaskError>,
    asked: Arc<AtomicUsize>,
}

impl Executor for AtOnce {
    fn name(&self) -> &'static str {
        "AtOnce"
    }

    fn max_workers(&self) -> usize {
        1
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        for call in calls {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match &self.refuses {
                Some(error) => call.refuse(error.clone()),
                None => drop(self.in_flight.admit(call).map(Job::run)),
            }
        }
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.in_flight.shutdown(pending)
    }
}

// ---- limit

#[test]
fn no_more_than_the_limit_are_in_it_at_once() {
    let ex = threads(8).limit(3);
    assert_eq!(ex.max_workers(), 3);
    let done: Vec<_> = (0..100).map(|_| ex.submit(crowd())).collect();
    assert!(done.iter().all(|ar| ar.get_timeout(PATIENCE) == Ok(())));
    assert_eq!((MOST.load(Ordering::SeqCst), NOW.load(Ordering::SeqCst)), (3, 0));
    assert_eq!(format!("{ex:?}"), "<Limited 3 <ThreadPoolExecutor 8>>");
}

#[test]
fn an_executor_that_settles_at_once_is_not_called_within_itself() {
    let ex = AtOnce::default().limit(1);
    // Deep enough to overflow a stack, if each were within the one before.
    let squares: Vec<_> = ex.map(square, 0..20_000).map(Result::unwrap).collect();
    assert_eq!(squares.last(), Some(&(19_999 * 19_999)));
    let refused = AtOnce { refuses: Some(TaskError::NoEngines), ..AtOnce::default() }.limit(1);
    assert!(refused.map(square, 0..20_000).all(|outcome| outcome == Err(TaskError::NoEngines)));
}

#[test]
fn no_more_wait_for_the_limit_than_the_executor_would_take() {
    let mut limits = Limits::default();
    limits.pending_tasks_max = 3;
    let ex = ThreadPoolExecutor::builder(2).limits(limits).start().unwrap().limit(1);
    let accepted = [ex.submit(pass_gate()), ex.submit(pass_gate()), ex.submit(pass_gate())];
    assert_eq!(ex.submit(pass_gate()).get(), Err(TaskError::Overloaded { what: "tasks", limit: 3 }));
    GATE.open();
    assert!(accepted.iter().all(|ar| ar.get_timeout(PATIENCE) == Ok(())));
    assert_eq!(ex.submit(square(2)).get(), Ok(4));
}

// ---- retry

fn at_once(attempts: u32) -> RetryPolicy {
    RetryPolicy::new(attempts).backoff(Backoff::NONE)
}

#[test]
fn what_failed_is_tried_again_as_often_as_it_may_be() {
    let ex = threads(2).retry(at_once(4));
    let ar = ex.submit(works_at(1, 3));
    assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().attempt.0, calls(1).len()), (Ok(3), 3, 3));
    let ar = ex.submit(works_at(2, 9));
    let TaskError::Failed { place, text } = ar.get_timeout(PATIENCE).unwrap_err() else { panic!("{ar:?}") };
    assert_eq!((&*text, place.attempt.0, place.task, calls(2).len()), ("call 4", 4, ar.id(), 4));
    assert_eq!((ar.metadata().status, ar.metadata().attempt.0), (Status::Failed, 4));
    let mapped: Vec<_> = ex.map(|key| works_at(key, 2), 100..150).collect();
    assert_eq!(mapped, vec![Ok(2); 50]);
}

#[test]
fn only_errors_that_may_pass_are_tried_again() {
    let (asked, refuses) = (Arc::new(AtomicUsize::new(0)), Some(TaskError::NotPortable));
    let ex = AtOnce { asked: asked.clone(), refuses, ..AtOnce::default() }.retry(at_once(5));
    assert_eq!(ex.submit(square(1)).get_timeout(PATIENCE), Err(TaskError::NotPortable));
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    let refuses = Some(TaskError::NoEngines);
    let ex = AtOnce { asked: asked.clone(), refuses, ..AtOnce::default() }.retry(at_once(5));
    assert_eq!(ex.submit(square(1)).get_timeout(PATIENCE), Err(TaskError::NoEngines));
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let ex = threads(1).retry(at_once(5).only(|error| error.to_string().ends_with("call 1")));
    assert!(ex.submit(works_at(3, 9)).get_timeout(PATIENCE).is_err());
    assert_eq!(calls(3).len(), 2);
    let ex = threads(1).retry(at_once(5).only(|_| panic!("cannot say")));
    assert!(matches!(ex.submit(works_at(4, 9)).get_timeout(PATIENCE), Err(TaskError::Failed { .. })));
    assert_eq!(calls(4).len(), 1);
}

#[test]
fn attempts_wait_and_a_cancel_ends_the_wait() {
    let backoff = Backoff::new(Duration::from_millis(40), Duration::from_millis(60)).jitter(0.0);
    let ex = threads(1).retry(RetryPolicy::new(3).backoff(backoff));
    assert_eq!(ex.submit(works_at(5, 3)).get_timeout(PATIENCE), Ok(3));
    let at = calls(5);
    let waits = [at[1] - at[0], at[2] - at[1]];
    assert!(waits[0] >= Duration::from_millis(40) && waits[1] >= Duration::from_millis(60), "{waits:?}");

    let ex = threads(1).retry(RetryPolicy::new(3).backoff(Backoff::new(LONG, LONG)));
    let ar = ex.submit(works_at(6, 3));
    eventually("it has failed once", || calls(6).len() == 1);
    assert!(!ar.ready() && ar.cancel("enough"));
    assert_eq!(ar.get(), Err(TaskError::Cancelled { reason: "enough".into() }));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(calls(6).len(), 1);
}

#[test]
fn a_shutdown_finishes_also_what_waits_for_another_attempt() {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(50));
    let ex = threads(1).retry(RetryPolicy::new(3).backoff(backoff));
    let ar = ex.submit(works_at(7, 3));
    // Nobody waits for the answer.
    drop(ex.shutdown(Pending::Finish));
    assert_eq!(ar.get_timeout(PATIENCE), Ok(3));
    assert_eq!(ex.submit(square(1)).get(), Err(TaskError::ShutDown));
    let ex = threads(1).retry(RetryPolicy::new(3).backoff(backoff));
    let ar = ex.submit(works_at(8, 3));
    drop(ex);
    assert_eq!(ar.get_timeout(PATIENCE), Ok(3), "also where it was dropped");
}

// ---- timeout

#[test]
fn what_is_not_done_in_time_settles_and_is_told() {
    let limit = Duration::from_millis(30);
    let ex = threads(1).timeout(limit);
    let (late, queued) = (ex.submit(dream()), ex.submit(square(2)));
    assert_eq!(late.get_timeout(PATIENCE), Err(TaskError::TimedOut { deadline: limit }));
    assert_eq!(late.metadata().status, Status::TimedOut);
    eventually("the task is told", || TOLD.load(Ordering::SeqCst) == 1);
    let queued = queued.get_timeout(PATIENCE);
    assert!(queued == Ok(4) || queued == Err(TaskError::TimedOut { deadline: limit }), "{queued:?}");
    assert_eq!(ex.submit(square(3)).get_timeout(PATIENCE), Ok(9));
    // Each attempt has its own time where the limit is inside.
    let ex = threads(1).timeout(limit).retry(at_once(2));
    let began = Instant::now();
    assert!(matches!(ex.submit(dream()).get_timeout(PATIENCE), Err(TaskError::TimedOut { .. })));
    assert!(began.elapsed() >= limit * 2);
}

// ---- fallback

#[test]
fn what_is_refused_or_lost_goes_to_the_other() {
    let lost = TaskError::ExecutorLost { cause: "it was killed".into() };
    for error in [TaskError::NoEngines, TaskError::ShutDown, TaskError::Overloaded { what: "tasks", limit: 1 }, lost] {
        let first = AtOnce { refuses: Some(error), ..AtOnce::default() };
        let ex = first.fallback(threads(1));
        assert_eq!(ex.submit(square(6)).get_timeout(PATIENCE), Ok(36));
    }
    let cluster = Cluster::threads(1).start().unwrap();
    let (ex, gate) = (cluster.client().executor().fallback(threads(1)), mpsc::channel::<()>());
    assert_eq!(ex.submit(square(2)).get_timeout(PATIENCE), Ok(4));
    drop((cluster, gate));
    let ar = ex.submit(square(5));
    assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().status), (Ok(25), Status::Done));
}

#[test]
fn what_failed_does_not_go_to_the_other() {
    let asked = Arc::new(AtomicUsize::new(0));
    let other = AtOnce { asked: asked.clone(), ..AtOnce::default() };
    let ex = threads(1).fallback(other);
    assert!(matches!(ex.submit(works_at(9, 2)).get_timeout(PATIENCE), Err(TaskError::Failed { .. })));
    assert_eq!((calls(9).len(), asked.load(Ordering::SeqCst)), (1, 0));
}

// ---- what is left

#[test]
fn the_executor_inside_ends_with_the_one_around_it() {
    let named = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.map(|entry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default());
        names.filter(|name| name.starts_with("pool-c")).count()
    };
    let pool = || ThreadPoolExecutor::builder(2).thread_name("pool-c").start().unwrap();
    let ex = pool().limit(1).timeout(LONG).fallback(pool());
    assert_eq!(ex.submit(square(3)).get(), Ok(9));
    eventually("all four are there", || named() == 4);
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    eventually("both are gone", || named() == 0);
    let ex = pool().retry(at_once(2)).limit(1);
    let held: Vec<_> = (0..50).map(|x| ex.submit(square(x))).collect();
    drop(ex);
    assert!((0..).zip(&held).all(|(x, ar)| ar.get_timeout(PATIENCE) == Ok(x * x)), "what was submitted still comes");
    eventually("it is gone", || named() == 0);
}
