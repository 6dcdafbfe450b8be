//! Ten traps of `concurrent.futures` and its relatives, each of which somebody fell into.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use callboard::executors::{Call, InFlight, Job};
use callboard::prelude::*;
use callboard::task::{Value, WireValue};
use callboard::{Error, MapOptions, Reply, ReturnWhen, ThreadPoolExecutor, wait};
use serde::{Deserialize, Serialize};

mod support;
use support::{CommonCount, CommonGate, eventually};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn panics() -> u64 {
    panic!("oh")
}

/// Waits at a gate until it opens, or nobody waits for the task any more.
#[task]
fn pass(cx: &TaskContext, gate: usize) -> usize {
    entered(gate).add();
    self::gate(gate).pass_unless(|| cx.is_cancelled());
    gate
}

fn gate(gate: usize) -> CommonGate {
    CommonGate::named(format!("gate {gate}"))
}

/// How many have come to the gate.
fn entered(gate: usize) -> CommonCount {
    CommonCount::named(format!("entered {gate}"))
}

/// An executor of one worker of each kind.
fn each_kind(mut check: impl FnMut(&dyn Executor)) {
    check(&ThreadPoolExecutor::new(1).unwrap());
    let cluster = support::engines(1).start().unwrap();
    check(&cluster.client().executor());
}

/// Its only worker waits at the gate.
fn occupy(ex: &dyn Executor, gate: usize) -> callboard::AsyncResult<usize> {
    let before = entered(gate).get();
    let running = ex.submit(pass(gate));
    eventually("it runs", || entered(gate).get() > before);
    running
}

// CPython #92001: `wait` hangs on a future that was cancelled before, until a worker comes across it.
/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn trap_1_waiting_for_what_was_cancelled_in_the_queue_does_not_hang() {
    each_kind(|ex| {
        let running = occupy(ex, 0);
        let queued = ex.submit(square(2));
        assert!(queued.cancel("not needed"));
        let waited = wait([&queued], ReturnWhen::AllCompleted).get_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(waited.done.len(), 1, "although the only worker is busy");
        assert!(!running.ready() && running.cancel("the next kind comes"));
    });
}

// In Python's process pools what is in the pipe counts as running, and cannot be cancelled.
#[test]
fn trap_2_everything_that_has_not_started_can_be_cancelled() {
    each_kind(|ex| {
        let running = occupy(ex, 1);
        let before = entered(1).get();
        let queued: Vec<_> = (0..7).map(|_| ex.submit(pass(1))).collect();
        assert!(queued.iter().all(|ar| ar.cancel("not needed")));
        for ar in &queued {
            assert_eq!(ar.get(), Err(TaskError::Cancelled { reason: "not needed".into() }));
        }
        running.cancel("the next kind comes");
        assert_eq!(entered(1).get(), before);
    });
}

// BrokenProcessPool: one dead worker takes every pending future with it. (A thread dies of
// nothing that a task does, and a panic is what comes nearest; `deaths.rs` kills processes.)
#[test]
fn trap_3_a_task_that_panics_touches_no_other_and_the_pool_goes_on() {
    each_kind(|ex| {
        let results: Vec<_> =
            (0..60).map(|i| if i % 10 == 5 { ex.submit(panics()) } else { ex.submit(square(i)) }).collect();
        for (i, ar) in (0..).zip(&results) {
            match ar.get() {
                Ok(value) => assert_eq!(value, i * i),
                Err(error) => assert!(i % 10 == 5 && matches!(error, TaskError::Panicked { .. }), "{i}: {error}"),
            }
        }
        assert_eq!(results.iter().filter(|ar| ar.successful() == Some(false)).count(), 6);
        assert_eq!(ex.submit(square(9)).get(), Ok(81));
    });
}

/// Keeps its jobs for the test to settle.
#[derive(Debug, Default)]
struct ByHand(InFlight, Mutex<Vec<Job>>);

impl Executor for ByHand {
    fn name(&self) -> &'static str {
        "ByHand"
    }
    fn max_workers(&self) -> usize {
        1
    }
    fn execute(&self, calls: Vec<Call<'_>>) {
        self.1.lock().unwrap().extend(calls.into_iter().filter_map(|call| self.0.admit(call)));
    }
    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.0.shutdown(pending)
    }
}

// chancy #94: an exception that cannot be unpickled breaks the pool.
#[test]
fn trap_4_a_result_that_cannot_be_decoded_fails_only_its_own_future() {
    /// Panics where it is decoded.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    struct Trap;
    impl<'de> Deserialize<'de> for Trap {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("in deserialize")
        }
    }
    #[task]
    fn trapped() -> Trap {
        Trap
    }

    let ex = ByHand::default();
    let (panicking, garbage, good) = (ex.submit(trapped()), ex.submit(square(2)), ex.submit(square(3)));
    let bytes = |bytes: &'static [u8]| Ok(Value::Wire(Box::new(WireValue { inline: bytes.into(), blobs: Vec::new() })));
    for (job, outcome) in ex.1.lock().unwrap().drain(..).zip([bytes(&[1]), bytes(&[0xff]), bytes(&[9])]) {
        job.settle(outcome);
    }
    let Err(TaskError::Undecodable { text, .. }) = panicking.get() else { panic!("{panicking:?}") };
    assert!(text.contains("in deserialize"), "{text}");
    assert!(matches!(garbage.get(), Err(TaskError::Undecodable { .. })));
    assert_eq!(good.get(), Ok(9));
}

// CPython #131466: with `buffersize=n` there are n + 1 while the next is waited for.
#[test]
fn trap_5_a_buffersize_is_never_exceeded() {
    each_kind(|ex| {
        let (taken, read, most) = (Cell::new(0_usize), Cell::new(0_usize), Cell::new(0_usize));
        let items = (0..200).inspect(|_| {
            taken.set(taken.get() + 1);
            most.set(most.get().max(taken.get() - read.get()));
        });
        for outcome in ex.map_with(MapOptions::new().buffersize(4), square, items).unwrap() {
            outcome.unwrap();
            read.set(read.get() + 1);
        }
        assert_eq!((read.get(), most.get()), (200, 4));
    });
}

// CPython #74508: `map` consumes its input before it returns.
#[test]
fn trap_6_an_endless_input_is_taken_as_it_is_needed() {
    each_kind(|ex| {
        let taken = Cell::new(0_usize);
        let mut map = ex.map(square, (0..).inspect(|_| taken.set(taken.get() + 1)));
        assert_eq!((map.next(), map.next()), (Some(Ok(0)), Some(Ok(1))));
        assert!(taken.get() <= 2_048, "{taken:?}");
    });
}

// CPython #72165: `shutdown(wait=True)` cannot be bounded.
#[test]
fn trap_7_waiting_for_a_shutdown_can_be_bounded() {
    each_kind(|ex| {
        let running = occupy(ex, 6);
        let wait = Duration::from_millis(10);
        let asked = Instant::now();
        assert!(matches!(ex.shutdown(Pending::Finish).get_timeout(wait), Err(Error::NotReady { .. })));
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert!(!running.ready(), "it goes on");
        running.cancel("the next kind comes");
    });
}

/// Says when it is dropped; travels within this process only.
#[derive(Clone)]
struct Tracked(Arc<()>);

impl Serialize for Tracked {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Tracked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self(Arc::default()))
    }
}

#[task]
fn takes(tracked: Tracked) -> usize {
    Arc::strong_count(&tracked.0)
}

// `_WorkItem`s pin the arguments as long as the future lives.
#[test]
fn trap_8_arguments_are_freed_while_the_result_is_held() {
    each_kind(|ex| {
        let argument = Arc::new(());
        let held: Vec<_> = (0..20).map(|_| ex.submit(takes(Tracked(argument.clone())))).collect();
        assert!(held.iter().all(|ar| ar.get().is_ok()));
        eventually("all are freed", || Arc::strong_count(&argument) == 1);
        let running = occupy(ex, 7);
        let cancelled = ex.submit(takes(Tracked(argument.clone())));
        cancelled.cancel("not needed");
        eventually("those of the cancelled are freed", || Arc::strong_count(&argument) == 1);
        running.cancel("the next kind comes");
    });
}

// A callback that comes back to its own result, or adds callbacks to it, must find no lock held.
#[test]
fn trap_9_a_callback_may_do_anything_with_its_own_result() {
    each_kind(|ex| {
        let ar = ex.submit(square(5));
        let (tell, told) = mpsc::channel();
        ar.add_done_callback(move |ar| {
            let again = tell.clone();
            ar.add_done_callback(move |ar| again.send(("second", ar.get())).unwrap()).unwrap();
            assert!(!ar.cancel("it is settled") && ar.ready() && ar.metadata().completed.is_some());
            tell.send(("first", ar.get())).unwrap();
        })
        .unwrap();
        let order: Vec<_> = told.iter().collect();
        assert_eq!(order, [("first", Ok(25)), ("second", Ok(25))]);
    });
}

// Dask's ClientExecutor: `shutdown(wait=False)` cancels what runs.
#[test]
fn trap_10_a_shutdown_that_is_not_waited_for_lets_work_finish() {
    let check = |ex: &dyn Executor, gate: usize| {
        let (running, queued) = (occupy(ex, gate), ex.submit(square(3)));
        drop(ex.shutdown(Pending::Finish));
        assert!(!running.ready() && !queued.ready());
        self::gate(gate).open();
        assert_eq!((running.get(), queued.get()), (Ok(gate), Ok(9)));
    };
    check(&ThreadPoolExecutor::new(1).unwrap(), 8);
    let cluster = support::engines(1).start().unwrap();
    check(&cluster.client().executor(), 9);
}
