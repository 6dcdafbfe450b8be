//! A million tasks, of which some panic and some have callbacks. One test, because it counts what the whole
//! process has: threads, and bytes on the heap.
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};

use callboard::prelude::*;
use cap::Cap;

mod support;
use support::{eventually, our_threads};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Panics in one of five ways, or returns.
#[task]
fn panics(kind: u8) -> u8 {
    match kind {
        0 => panic!("a literal"),
        1 => panic!("formatted {kind}"),
        2 => panic_any(42_i32),
        3 => panic_any(vec![1_u8; 10]),
        4 => panic_any("é".repeat(10_000)),
        _ => kind,
    }
}

/// Ten thousand panic messages would hide everything else.
fn quiet() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !std::thread::current().name().is_some_and(|name| name.starts_with("cb-")) {
            default(info);
        }
    }));
}

fn engine_threads() -> usize {
    our_threads().iter().filter(|name| name.starts_with("cb-engine")).count()
}

#[test]
fn a_million_tasks_with_panics_and_callbacks_settle_once_each_and_leave_nothing() {
    quiet();
    const ROUNDS: usize = 4;
    const TASKS: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    let cluster = Cluster::threads(4).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();

    // The first round warms tables and thread-locals up; the later ones must not need more.
    let mut allocated = [0; ROUNDS];
    for (round, allocated) in allocated.iter_mut().enumerate() {
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
        assert_eq!(engine_threads(), 4);
        *allocated = HEAP.allocated();
    }
    // Bytes in use, not pages: what the system's allocator keeps for later varies by chance.
    // Lanes and trays keep room for a few batches.
    let allowed = allocated[0] + (128 << 10);
    assert!(allocated[ROUNDS - 1] <= allowed, "bytes on the heap after each round: {allocated:?}");
}
