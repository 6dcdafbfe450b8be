//! Panics of every kind, in every place where code of the user's runs: the task settles, the worker lives.
#![allow(clippy::unwrap_used)]

use std::panic::panic_any;

use callboard::prelude::*;
use serde::{Deserialize, Serialize};

mod support;
use support::CommonGate;

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

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn every_kind_of_panic_is_an_outcome_with_its_message() {
    quiet();
    let cluster = support::engines(1).start().unwrap();
    let view = cluster.client().engine(0).unwrap();
    let long = "é".repeat(4_096);
    let expected =
        ["a literal", "formatted 1", "(a panic payload that is not text)", "(a panic payload that is not text)", &long];
    for (kind, expected) in expected.into_iter().enumerate() {
        let ar = view.apply(panics(kind as u8));
        let Err(TaskError::Panicked { place, message }) = ar.get() else { panic!("{ar:?}") };
        assert_eq!((&*message, place.name), (expected, "panics"));
    }
    assert_eq!(view.apply(panics(9)).get(), Ok(9));
}

#[test]
fn arguments_and_results_that_panic_when_dropped_take_nobody_with_them() {
    quiet();
    let cluster = support::engines(1).start().unwrap();
    let rc = cluster.client();
    let view = rc.engine(0).unwrap();

    assert_eq!(view.apply(takes_a_bomb(Bomb)).get(), Ok(1));
    let ar = view.apply(drops_a_bomb(Bomb));
    assert!(matches!(ar.get(), Err(TaskError::Panicked { message, .. }) if &*message == "bomb dropped"));

    // Cancelled before it starts: the call is dropped unused.
    let gate = CommonGate::new("unused");
    let busy = view.apply(gate.task());
    let cancelled = view.apply(takes_a_bomb(Bomb));
    cancelled.cancel("unused");
    assert!(matches!(cancelled.get(), Err(TaskError::Cancelled { .. })));
    // Its result is dropped by nobody who waits for it.
    drop(view.apply(returns_a_bomb()));
    gate.open();
    busy.get().unwrap();

    // A result that was got is the caller's to drop.
    let mut ar = view.apply(returns_a_bomb());
    std::mem::forget(ar.take().unwrap());
    assert_eq!(view.apply(panics(9)).get(), Ok(9));
    assert_eq!(rc.queue_status().get().unwrap().pending, 0);
}
