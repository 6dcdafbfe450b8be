//! What a result promises to whoever holds it.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Error, Status};

mod support;
use support::{Cluster, CommonGate, eventually};

#[task]
fn double(x: u32) -> u32 {
    x * 2
}

#[task]
fn words(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("word {i}")).collect()
}

/// Keeps an engine busy until the gate of this name opens.
#[task]
fn hold(gate: String) {
    CommonGate::named(gate).pass();
}

/// A gate of its own each time, and its name.
fn new_gate() -> (CommonGate, String) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("busy.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    (CommonGate::named(name.clone()), name)
}

/// A view of one engine that is busy until the gate opens.
fn busy() -> (Cluster, callboard::EngineView, CommonGate) {
    let cluster = support::engines(1).start().unwrap();
    let view = cluster.client().engine(0).unwrap();
    let (gate, name) = new_gate();
    drop(view.apply(hold(name)));
    (cluster, view, gate)
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn get_copies_and_take_moves_once() {
    let cluster = support::engines(1).start().unwrap();
    let mut ar = cluster.client().load_balanced().apply(words(2));
    assert_eq!(ar.get().unwrap(), ["word 0", "word 1"]);
    assert_eq!(ar.take().unwrap(), ["word 0", "word 1"]);
    assert_eq!(ar.take(), Err(TaskError::AlreadyTaken));
    assert_eq!(ar.get(), Err(TaskError::AlreadyTaken));
    assert_eq!(ar.peek(|_| ()), None);
    assert!(ar.ready() && ar.successful() == Some(true), "it is settled all the same");
    assert_eq!(TaskError::AlreadyTaken.to_string(), "the value was already taken; use get() to read it more than once");

    let mut all = cluster.client().all().apply(double(4));
    assert_eq!((all.get().unwrap(), all.take().unwrap()), (vec![8], vec![8]));
    assert!(matches!(all.take(), Err(Error::Composite(error)) if error.errors == [(0, TaskError::AlreadyTaken)]));
}

#[test]
fn a_value_that_cannot_be_copied_is_taken_or_peeked_at() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct NoClone(u8);
    #[task]
    fn no_clone() -> NoClone {
        NoClone(7)
    }
    let cluster = support::engines(1).start().unwrap();
    let mut ar = cluster.client().load_balanced().apply(no_clone());
    ar.wait().unwrap();
    assert_eq!(ar.peek(|outcome| outcome.as_ref().unwrap().0), Some(7));
    assert_eq!(ar.take().unwrap().0, 7);
}

#[test]
fn timed_forms_give_up_and_the_task_goes_on() {
    let (_cluster, view, gate) = busy();
    let mut ar = view.apply(double(1));
    let short = Duration::from_millis(5);
    assert_eq!(ar.get_timeout(short), Err(TaskError::NotReady { waited: short }));
    assert_eq!(ar.wait_timeout(Duration::ZERO), Err(TaskError::NotReady { waited: Duration::ZERO }));
    assert_eq!(ar.take_timeout(short), Err(TaskError::NotReady { waited: short }));
    assert_eq!((ar.ready(), ar.successful(), ar.peek(|_| ())), (false, None, None));
    assert_eq!(ar.metadata().status, Status::Pending);
    assert_eq!(format!("{ar:?}"), "<AsyncResult double: pending>");
    gate.open();
    assert_eq!(ar.get_timeout(Duration::MAX), Ok(2), "a wait without end is no overflow");
}

#[test]
fn looking_holds_no_lock_and_a_panic_in_it_loses_nothing() {
    let cluster = support::engines(1).start().unwrap();
    let ar = cluster.client().load_balanced().apply(double(21));
    ar.wait().unwrap();
    let seen = ar.peek(|outcome| {
        assert_eq!(ar.peek(|_| ()), None, "it is lent out");
        assert_eq!(ar.get(), Err(TaskError::WouldBlock));
        assert!(format!("{ar:?}").ends_with("done>") && ar.metadata().status == Status::Done);
        ar.add_done_callback(|_| {}).unwrap();
        outcome.clone()
    });
    assert_eq!(seen, Some(Ok(42)));
    let panicked = catch_unwind(AssertUnwindSafe(|| ar.peek(|_| panic!("looking"))));
    assert!(panicked.is_err());
    assert_eq!(ar.get(), Ok(42), "it was put back");
}

#[test]
fn many_threads_wait_for_one_result() {
    let (_cluster, view, gate) = busy();
    let ar = view.apply(words(1));
    let got = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(ar.get().unwrap(), ["word 0"]);
                got.fetch_add(1, Ordering::SeqCst);
            });
        }
        gate.open();
    });
    assert_eq!(got.into_inner(), 8);
}

#[test]
fn a_result_that_cancels_on_drop_does_so_unless_detached() {
    let (cluster, view, gate) = busy();
    let rc = cluster.client();
    let kept = view.apply(double(1)).cancel_on_drop();
    let detached = view.apply(double(2)).cancel_on_drop().detach();
    let dropped = view.apply(double(3)).cancel_on_drop();
    let (id_dropped, id_detached) = (dropped.id(), detached.id());
    drop((dropped, detached));
    eventually("the dropped one is cancelled", || {
        rc.record(id_dropped).get().is_ok_and(|record| record.status == Status::Cancelled)
    });
    gate.open();
    assert_eq!(kept.get(), Ok(2), "its methods are those of the result");
    eventually("the detached one is done", || {
        rc.record(id_detached).get().is_ok_and(|record| record.status == Status::Done)
    });
}

#[test]
fn a_result_awaited_in_a_dropped_future_cancels_its_task() {
    let (cluster, view, gate) = busy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ar = view.apply(double(1));
    let id = ar.id();
    let gone = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(5), async move { ar.cancel_on_drop().await }).await
    });
    assert!(gone.is_err(), "the client went away");
    let rc = cluster.client();
    eventually("its task is cancelled", || rc.record(id).get().is_ok_and(|r| r.status == Status::Cancelled));
    gate.open();
}

#[test]
fn the_rest_of_many_is_cancelled() {
    let cluster = support::engines(3).start().unwrap();
    let rc = cluster.client();
    let (gate, name) = new_gate();
    drop(rc.engine(1).unwrap().apply(hold(name)));
    let all = rc.all().apply(double(5));
    eventually("two are done", || all.progress() == 2);
    assert_eq!((all.ready(), all.successful()), (false, None));
    assert_eq!(format!("{all:?}"), "<AsyncMapResult double: 2 of 3 done>");
    all.cancel("two are enough");
    let Err(Error::Composite(error)) = all.get() else { panic!("{all:?}") };
    assert_eq!(error.errors, [(1, TaskError::Cancelled { reason: "two are enough".into() })]);
    assert_eq!(all.metadata().iter().filter(|record| record.status == Status::Done).count(), 2);
    gate.open();
}

#[test]
fn a_reply_waits_no_longer_than_it_may() {
    let cluster = support::engines(1).start().unwrap();
    let rc = cluster.client();
    let wait = Duration::from_millis(10);
    let error = rc.wait_for_engines(2).get_timeout(wait).unwrap_err();
    assert!(matches!(error, Error::NotReady { waited } if waited == wait), "{error}");
    rc.wait_for_engines(1).get().unwrap();
}
