//! A host program is not harmed by what it does with the public API: nothing hangs, stops a runtime, or ends
//! the process.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{AsyncResult, Error};
use serde::{Deserialize, Serialize};

mod support;
use support::{Gate, eventually};

const PATIENCE: Duration = Duration::from_secs(10);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Runs until it is cancelled.
#[task]
fn until_cancelled(cx: &TaskContext) {
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `body` on a thread of its own, which has to end.
#[track_caller]
fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        let _ = tell.send(body());
    });
    let answer: Result<R, _> = told.recv_timeout(PATIENCE);
    let answer = answer.expect("it ends within 10 s, without a panic");
    thread.join().expect("its thread-locals end without a panic");
    answer
}

#[test]
fn who_waits_for_engines_is_told_when_the_cluster_ends() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let (before, waiting) = (rc.wait_for_engines(2), rc.clone());
    let waiter = std::thread::spawn(move || waiting.wait_for_engines(2).get_timeout(PATIENCE));
    drop(cluster);
    assert!(matches!(before.get_timeout(PATIENCE), Err(Error::ClusterStopped)));
    assert!(matches!(waiter.join().unwrap(), Err(Error::ClusterStopped)));
    assert!(matches!(rc.wait_for_engines(1).get_timeout(PATIENCE), Err(Error::ClusterStopped)));
}

#[test]
fn a_cluster_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static MINE: RefCell<Option<Cluster>> = const { RefCell::new(None) };
    }
    let rc = in_time(|| {
        let cluster = Cluster::threads(1).start().unwrap();
        let rc = cluster.client();
        // Registered before the thread-locals that waiting uses, so it is dropped after them.
        MINE.with(|mine| *mine.borrow_mut() = Some(cluster));
        assert_eq!(rc.load_balanced().apply(square(3)).get(), Ok(9));
        rc
    });
    assert_eq!(rc.load_balanced().apply(square(3)).get(), Err(TaskError::Disconnected));
}

#[test]
fn a_result_in_a_thread_local_cancels_its_task_when_the_thread_ends() {
    thread_local! {
        static MINE: RefCell<Option<callboard::CancelOnDrop<()>>> = const { RefCell::new(None) };
    }
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let cancelled = |is_made_here: bool| {
        let made = (!is_made_here).then(|| view.apply(until_cancelled()).cancel_on_drop());
        let own = view.clone();
        in_time(move || {
            MINE.with(|mine| *mine.borrow_mut() = None);
            // What waking an actor needs is made after the place, so it is gone before what is in it.
            drop(tokio::task::LocalSet::new().enter());
            let running = made.unwrap_or_else(|| own.apply(until_cancelled()).cancel_on_drop());
            MINE.with(|mine| *mine.borrow_mut() = Some(running));
        });
        assert_eq!(view.apply(square(3)).get_timeout(PATIENCE), Ok(9), "the engine is free");
    };
    cancelled(true);
    cancelled(false);
}

#[test]
fn a_callback_or_a_task_may_shut_its_own_cluster_down_and_wait_for_it() {
    let cluster = Cluster::threads(2).start().unwrap();
    let (tell, told) = channel();
    let ar = cluster.client().load_balanced().apply(square(2));
    let started = Instant::now();
    ar.add_done_callback(move |_| tell.send(cluster.shutdown(Pending::Finish).get().is_ok()).unwrap()).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert!(started.elapsed() < Duration::from_secs(4), "it does not wait for itself");

    let cluster = Cluster::threads(2).start().unwrap();
    let view = cluster.client().load_balanced();
    let (tell, told) = channel();
    let started = Instant::now();
    drop(view.apply_fn(move || tell.send(cluster.shutdown(Pending::Cancel).get().is_ok()).unwrap()));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert!(started.elapsed() < Duration::from_secs(4), "it does not wait for itself");
}

#[test]
fn a_cluster_starts_on_a_thread_whose_system_has_ended() {
    in_time(|| {
        let system = System::new();
        system.block_on(async { System::current().stop() });
        system.run().unwrap();
        let cluster = Cluster::threads(1).start().unwrap();
        assert_eq!(cluster.client().load_balanced().apply(square(3)).get(), Ok(9));
        cluster.shutdown(Pending::Finish).get().unwrap();
    });
}

#[test]
fn a_queued_call_that_holds_its_own_cluster_does_not_hang_the_system_that_ends() {
    in_time(|| {
        let system = System::new();
        let (tell, dropped) = channel::<()>();
        let queued = system.block_on(async {
            let cluster = Cluster::threads(1).start().unwrap();
            let view = cluster.client().load_balanced();
            drop(view.apply(until_cancelled()));
            // Behind it, and so never run.
            [view.apply_fn(move || drop((cluster, tell)))]
        });
        system.block_on(async { System::current().stop() });
        system.run().unwrap();
        assert_eq!(queued[0].get_timeout(PATIENCE), Err(TaskError::Disconnected));
        drop(queued);
        assert!(dropped.recv_timeout(PATIENCE).is_err(), "the call is dropped");
    });
}

#[test]
fn callbacks_left_by_an_arbiter_that_ends_are_called_by_few_threads() {
    static MOST: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        let system = System::new();
        let called = Arc::new(AtomicUsize::new(0));
        const RESULTS: usize = 2_000;
        let held = system.block_on(async {
            let cluster = Cluster::threads(1).start().unwrap();
            let view = cluster.client().load_balanced();
            let running = view.apply(until_cancelled());
            let results: Vec<AsyncResult<u64>> = (0..RESULTS as u64).map(|x| view.apply(square(x))).collect();
            for ar in &results {
                let called = called.clone();
                ar.add_done_callback(move |ar| {
                    assert_eq!(ar.get(), Err(TaskError::Disconnected));
                    let threads = support::our_threads().iter().filter(|name| *name == "cb-apart").count();
                    MOST.fetch_max(threads, Ordering::SeqCst);
                    called.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
            }
            (cluster, running, results)
        });
        system.block_on(async { System::current().stop() });
        system.run().unwrap();
        eventually("each is called", || called.load(Ordering::SeqCst) == RESULTS);
        drop(held);
    });
    let most = MOST.load(Ordering::SeqCst);
    assert!((1..=16).contains(&most), "{most} threads");
}

#[test]
fn a_callback_registered_after_the_end_is_called() {
    let cluster = Cluster::threads(1).start().unwrap();
    let ar = cluster.client().load_balanced().apply(square(5));
    ar.wait().unwrap();
    drop(cluster);
    let (tell, told) = channel();
    ar.add_done_callback(move |ar| tell.send(ar.get()).unwrap()).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(25)));
}

/// Panics when it is dropped, also while another panic unwinds: two in one place would end the process.
#[derive(Clone, Serialize, Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("bomb dropped");
    }
}

#[task]
fn takes_a_bomb(bomb: Bomb) -> u8 {
    std::mem::forget(bomb);
    1
}

#[test]
fn calls_whose_drop_panics_are_dropped_one_by_one() {
    let cluster = Cluster::threads(3).start().unwrap();
    let rc = cluster.client();
    let (all, view) = (rc.all(), rc.load_balanced());
    // Known to be short, so that the next ones are sent ahead and wait at an engine.
    for _ in 0..50 {
        assert_eq!(view.apply(takes_a_bomb(Bomb)).get(), Ok(1));
    }
    let running = all.apply(until_cancelled());
    let sent_ahead: Vec<_> = (0..30).map(|_| all.apply(takes_a_bomb(Bomb))).collect();
    let queued: Vec<_> = (0..300).map(|_| view.apply(takes_a_bomb(Bomb))).collect();
    drop(cluster);
    assert!(running.get().is_err());
    assert!(sent_ahead.iter().all(|ar| ar.get().is_err()));
    assert!(queued.iter().all(|ar| matches!(ar.get(), Err(TaskError::Cancelled { .. }))));
    let refused = all.apply(takes_a_bomb(Bomb));
    assert!(matches!(refused.get(), Err(Error::Composite(error)) if error.errors.len() == 3));
}

#[test]
fn a_long_look_at_a_value_does_not_stop_the_runtime_that_awaits_it() {
    let cluster = Cluster::threads(1).start().unwrap();
    let ar = cluster.client().load_balanced().apply(square(7));
    let (gate, (tell, looks)) = (Arc::new(Gate::new()), channel());
    let held = gate.clone();
    ar.add_done_callback(move |ar| {
        ar.peek(|_| {
            tell.send(()).unwrap();
            held.pass();
        });
    })
    .unwrap();
    looks.recv_timeout(PATIENCE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ar = ar;
        let waited = tokio::time::timeout(Duration::from_millis(20), &mut ar).await;
        assert!(waited.is_err(), "the timer rings although the value is being looked at");
        assert_eq!(ar.get(), Err(TaskError::WouldBlock));
        let opens = tokio::task::spawn(async move { gate.open() });
        assert_eq!(tokio::time::timeout(PATIENCE, &mut ar).await, Ok(Ok(49)), "woken when it is put back");
        opens.await.unwrap();
    });
}

/// Runs this very test in a process of its own.
fn in_a_process_of_its_own(test: &str) -> (std::process::ExitStatus, Duration) {
    let started = Instant::now();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("CALLBOARD_CHILD", "1")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    (status.unwrap(), started.elapsed())
}

#[test]
fn a_process_ends_while_results_are_held_in_a_static() {
    static HELD: OnceLock<(Cluster, Vec<AsyncResult<()>>, AsyncResult<u64>)> = OnceLock::new();
    if std::env::var_os("CALLBOARD_CHILD").is_none() {
        let (status, _) = in_a_process_of_its_own("a_process_ends_while_results_are_held_in_a_static");
        assert!(status.success(), "{status}");
        return;
    }
    let cluster = Cluster::threads(2).start().unwrap();
    let view = cluster.client().load_balanced();
    let running: Vec<_> = (0..5).map(|_| view.apply(until_cancelled())).collect();
    let waiting = view.apply(square(2));
    let _ = HELD.set((cluster, running, waiting));
}

/// A waker that panics, as one of an executor that has ended.
struct PanicsWhenWoken;

impl std::task::Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the program's own panics");
    }
}

#[test]
fn a_waker_that_panics_stops_nobody_else() {
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let gate = Arc::new(Gate::new());
    let held = gate.clone();
    let mut ar = view.apply_fn(move || held.pass());
    let waker = Arc::new(PanicsWhenWoken).into();
    let mut waking = std::task::Context::from_waker(&waker);
    assert!(std::pin::Pin::new(&mut ar).poll(&mut waking).is_pending());
    let mut many = cluster.client().all().apply(square(2));
    assert!(std::pin::Pin::new(&mut many).poll(&mut waking).is_pending());
    let (tell, told) = channel();
    ar.add_done_callback(move |ar| tell.send(ar.ready()).unwrap()).unwrap();
    gate.open();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert_eq!(many.get_timeout(PATIENCE).unwrap(), [4]);
    assert_eq!(view.apply(square(3)).get_timeout(PATIENCE), Ok(9));
}

#[test]
fn the_longest_times_and_largest_limits_are_taken_as_they_are() {
    let mut limits = callboard::Limits::default();
    limits.engine_backlog_us = u64::MAX;
    limits.engine_outstanding_max = u32::MAX;
    limits.pending_tasks_max = usize::MAX;
    limits.pending_bytes_max = usize::MAX;
    limits.callbacks_pending_max = usize::MAX;
    limits.records_max = usize::MAX;
    limits.kept_bytes_max = usize::MAX;
    limits.record_age_s_max = u64::MAX;
    limits.stop_wait_ms_max = u64::MAX;
    limits.spin_us = 1_000_000;
    let cluster = Cluster::threads(1).limits(limits).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced().with().deadline(Duration::MAX).retries(u16::MAX);
    for x in 0..20 {
        assert_eq!(view.apply(square(x)).get_timeout(Duration::MAX), Ok(x * x));
    }
    assert_eq!(rc.all().with().keep().apply(square(2)).get_timeout(Duration::MAX).unwrap(), [4]);
    let soon = Duration::from_millis(5);
    let overdue = view.with().deadline(soon).apply(until_cancelled());
    assert_eq!(
        overdue.get_timeout(PATIENCE),
        Err(TaskError::TimedOut { deadline: soon }),
        "beside one that is far off"
    );
    in_time(move || cluster.shutdown(Pending::Finish).get_timeout(Duration::MAX).unwrap());
}

#[test]
fn a_system_that_does_not_run_yet_is_no_hindrance() {
    in_time(|| {
        let system = System::new();
        let cluster = Cluster::threads(1).start().unwrap();
        let view = cluster.client().load_balanced();
        assert_eq!(view.apply(square(3)).get(), Ok(9));
        system.block_on(async { assert_eq!(view.apply(square(4)).await, Ok(16)) });
        assert_eq!(view.apply(square(5)).get(), Ok(25));
        cluster.shutdown(Pending::Finish).get().unwrap();
    });
}
