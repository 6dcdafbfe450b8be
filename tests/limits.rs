//! Beyond a limit there is an error, never memory.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use callboard::Limits;
use callboard::prelude::*;

mod support;
use support::{Cluster, CommonGate, resident};

#[task]
fn noop() {}

#[task]
fn size_of(bytes: Vec<u8>) -> usize {
    bytes.len()
}

fn limited(change: impl FnOnce(&mut Limits)) -> (Cluster, LoadBalanced) {
    let mut limits = Limits::default();
    change(&mut limits);
    let cluster = support::engines(1).limits(limits).start().unwrap();
    let view = cluster.client().load_balanced();
    (cluster, view)
}

type LoadBalanced = callboard::LoadBalancedView;

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn beyond_the_number_of_pending_tasks_a_task_is_refused_at_once() {
    let (_cluster, view) = limited(|limits| limits.pending_tasks_max = 3);
    let gate = CommonGate::new("beyond_the_number_of_pending_tasks_a_task_is_refused_at_once");
    let running = view.apply(gate.task());
    let accepted = [view.apply(noop()), view.apply(noop())];
    let refused = view.apply(noop());
    assert!(refused.ready());
    assert_eq!(refused.get(), Err(TaskError::Overloaded { what: "tasks", limit: 3 }));
    gate.open();
    running.get().unwrap();
    assert!(accepted.iter().all(|ar| ar.get() == Ok(())));
    support::eventually("there is room again", || view.apply(noop()).get() == Ok(()));
}

#[test]
fn beyond_the_number_of_pending_bytes_a_task_is_refused_at_once() {
    let (_cluster, view) = limited(|limits| limits.pending_bytes_max = 10_000);
    let gate = CommonGate::new("beyond_the_number_of_pending_bytes_a_task_is_refused_at_once");
    let running = view.apply(gate.task());
    let accepted = view.apply(size_of(vec![0; 8_000]));
    let refused = view.apply(size_of(vec![0; 8_000]));
    assert_eq!(refused.get(), Err(TaskError::Overloaded { what: "bytes", limit: 10_000 }));
    gate.open();
    running.get().unwrap();
    assert_eq!(accepted.get(), Ok(8_000));
    support::eventually("a large one is let in alone", || view.apply(size_of(vec![0; 50_000])).get() == Ok(50_000));
}

#[test]
fn the_async_form_waits_for_room() {
    let (_cluster, view) = limited(|limits| limits.pending_tasks_max = 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut results = Vec::new();
        for _ in 0..500 {
            results.push(view.apply_when_admitted(noop()).await);
        }
        for ar in results {
            assert_eq!(ar.await, Ok(()));
        }
        // A caller that gives up waiting leaves nothing behind.
        let gate = CommonGate::new("the_async_form_waits_for_room");
        let running = view.apply(gate.task());
        let queued = view.apply(noop());
        let waiting = tokio::time::timeout(Duration::from_millis(20), view.apply_when_admitted(noop()));
        assert!(waiting.await.is_err());
        gate.open();
        running.await.unwrap();
        queued.await.unwrap();
        assert_eq!(view.apply_when_admitted(noop()).await.await, Ok(()));
    });
}

#[test]
fn who_waits_for_room_is_told_when_the_cluster_ends() {
    let (cluster, view) = limited(|limits| limits.pending_tasks_max = 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gate = CommonGate::new("who_waits_for_room_is_told_when_the_cluster_ends");
    let running = view.apply(gate.task());
    let waiting = runtime.spawn(async move { view.apply_when_admitted(noop()).await.await });
    std::thread::sleep(Duration::from_millis(10));
    assert!(!waiting.is_finished());
    let ending = cluster.shutdown(Pending::Cancel);
    let told =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap() });
    assert!(matches!(told, Err(TaskError::Cancelled { .. } | TaskError::Disconnected)), "{told:?}");
    gate.open();
    ending.get().unwrap();
    assert!(running.get().is_err());
}

#[test]
fn ten_million_submissions_against_one_slow_engine_keep_memory_bounded_and_control_prompt() {
    const SUBMISSIONS: usize = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
    const PENDING: usize = 100_000;
    let (cluster, view) = limited(|limits| limits.pending_tasks_max = PENDING);
    let rc = cluster.client();
    let gate = CommonGate::new("ten_million");
    let running = view.apply(gate.task());
    let before = resident();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    let mut answers = Vec::new();
    for i in 0..SUBMISSIONS {
        let ar = view.apply(noop());
        if ar.ready() {
            assert!(matches!(ar.get(), Err(TaskError::Overloaded { .. })));
            refused += 1;
        } else {
            accepted.push(ar);
        }
        if i % (SUBMISSIONS / 50) == 0 {
            let asked = Instant::now();
            rc.queue_status().get().unwrap();
            answers.push(asked.elapsed());
        }
    }
    assert_eq!(accepted.len(), PENDING - 1, "the task that runs is the other one");
    assert_eq!(refused, SUBMISSIONS - accepted.len());
    let grown = resident().saturating_sub(before);
    assert!(grown < PENDING * 800, "{grown} bytes for {PENDING} pending tasks");
    // Half of them: on a busy machine the asking thread itself may not get its turn in 50 ms. Behind the tasks,
    // not one would come in time.
    answers.sort_unstable();
    println!(
        "control messages: half within {:?}, all within {:?}",
        answers[answers.len() / 2],
        answers[answers.len() - 1]
    );
    assert!(answers[answers.len() / 2] < Duration::from_millis(50), "control messages took {answers:?}");
    gate.open();
    running.get().unwrap();
    assert!(accepted.iter().all(|ar| ar.get() == Ok(())));
}
