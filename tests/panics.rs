//! Panics of every kind, in every place where code of the user's runs: the task settles, the worker lives.

use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use callboard::prelude::*;
use serde::{Deserialize, Serialize};

mod support;
use support::{eventually, our_threads};

/// Panics when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic while one unwinds would end the process, whoever catches what.
        if !std::thread::panicking() {
            panic!("bomb dropped");
        }
    }
}

#[task]
fn panics(kind: u8) -> u8 {
    match kind {
        0 => panic!("a literal"),
        1 => panic!("formatted {kind}"),
        2 => panic_any(42_i32),
        3 => panic_any(Bomb),
        4 => panic_any("é".repeat(10_000)),
        _ => kind,
    }
}

#[task]
fn takes_a_bomb(bomb: Bomb) -> u8 {
    std::mem::forget(bomb);
    1
}

#[task]
fn drops_a_bomb(bomb: Bomb) -> u8 {
    let _ = bomb;
    1
}

#[task]
fn returns_a_bomb() -> Bomb {
    Bomb
}

/// A call whose copy panics.
#[derive(Serialize, Deserialize)]
struct NoCopy;

impl Clone for NoCopy {
    fn clone(&self) -> Self {
        panic!("no copies")
    }
}

#[task]
fn fails_without_copy(arg: NoCopy) -> Result<u8, String> {
    let _ = arg;
    Err("failed".into())
}

fn quiet() {
    // The tests below panic ten thousand times; the messages would hide everything else.
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with("cb-")) {
                default(info);
            }
        }));
    });
}

#[test]
fn every_kind_of_panic_is_an_outcome_with_its_message() {
    quiet();
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().engine(0).unwrap();
    let threads = our_threads().len();
    let long = "é".repeat(4_096);
    let expected =
        ["a literal", "formatted 1", "(a panic payload that is not text)", "(a panic payload that is not text)", &long];
    for (kind, expected) in expected.into_iter().enumerate() {
        let ar = view.apply(panics(kind as u8));
        let Err(TaskError::Panicked { place, message }) = ar.get() else { panic!("{ar:?}") };
        assert_eq!((&*message, place.name), (expected, "panics"));
    }
    assert_eq!(view.apply(panics(9)).get(), Ok(9));
    assert_eq!(our_threads().len(), threads);
}

#[test]
fn arguments_and_results_that_panic_when_dropped_take_nobody_with_them() {
    quiet();
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let view = rc.engine(0).unwrap();

    assert_eq!(view.apply(takes_a_bomb(Bomb)).get(), Ok(1));
    let ar = view.apply(drops_a_bomb(Bomb));
    assert!(matches!(ar.get(), Err(TaskError::Panicked { message, .. }) if &*message == "bomb dropped"));

    // Cancelled before it starts: the call is dropped unused.
    let (hold, held) = mpsc::channel::<()>();
    let busy = view.apply_fn(move || drop(held.recv()));
    let cancelled = view.apply(takes_a_bomb(Bomb));
    cancelled.cancel("unused");
    assert!(matches!(cancelled.get(), Err(TaskError::Cancelled { .. })));
    // Its result is dropped by nobody who waits for it.
    drop(view.apply(returns_a_bomb()));
    drop(hold);
    busy.get().unwrap();

    // A result that was got is the caller's to drop.
    let mut ar = view.apply(returns_a_bomb());
    std::mem::forget(ar.take().unwrap());
    assert_eq!(view.apply(panics(9)).get(), Ok(9));
    assert_eq!(rc.queue_status().get().unwrap().pending, 0);
}

#[test]
fn a_call_that_cannot_be_copied_is_not_retried() {
    quiet();
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let ar = view.with().retries(3).apply(fails_without_copy(NoCopy));
    let Err(TaskError::Failed { place, text }) = ar.get() else { panic!("{ar:?}") };
    assert_eq!((&*text, place.attempt.0), ("failed", 1));
}

#[test]
fn a_million_tasks_with_panics_and_callbacks_settle_once_each_and_leave_nothing() {
    quiet();
    const TASKS: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    let cluster = Cluster::threads(4).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();

    // One round warms allocator and tables up; the second must not need more.
    let mut baseline = 0;
    for round in 0..2 {
        CALLED.store(0, Ordering::SeqCst);
        let (mut done, mut panicked, mut with_callback) = (0, 0, 0);
        for chunk in 0..TASKS / 10_000 {
            let results: Vec<_> = (0..10_000)
                .map(|i| {
                    let ar = view.apply(panics(if i % 100 == 0 { (i / 100 % 5) as u8 } else { 9 }));
                    if i % 10 == 3 {
                        with_callback += 1;
                        ar.add_done_callback(move |_| {
                            CALLED.fetch_add(1, Ordering::SeqCst);
                            assert!(i % 100 != 3, "a tenth of the callbacks panics (chunk {chunk})");
                        })
                        .unwrap();
                    }
                    ar
                })
                .collect();
            for ar in results {
                match ar.get() {
                    Ok(9) => done += 1,
                    Err(TaskError::Panicked { .. }) => panicked += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((done, panicked), (TASKS / 100 * 99, TASKS / 100));
        eventually("every callback was called", || CALLED.load(Ordering::SeqCst) == with_callback);
        assert_eq!(with_callback, TASKS / 10);
        rc.purge().get().unwrap();
        let status = rc.queue_status().get().unwrap();
        assert_eq!((status.pending, status.late_outcomes), (0, 0));
        assert_eq!(status.settled, ((round + 1) * TASKS) as u64);
        assert_eq!(our_threads().iter().filter(|name| name.starts_with("cb-engine")).count() % 4, 0);
        let now = support::resident();
        if round == 0 {
            baseline = now;
        } else {
            let allowed = baseline + baseline / 20;
            assert!(now <= allowed, "{now} bytes resident after the second round, {baseline} after the first");
        }
    }
}
