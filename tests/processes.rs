//! Engines that are child processes. With a `main` of its own: each child is this very program.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Attempt, EngineEvent, EngineId, Limits, Status};

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

#[task]
fn fall(how: u32) -> u32 {
    match how {
        0 => panic!("over"),
        1 => std::process::exit(3),
        2 => std::process::abort(),
        _ => how,
    }
}

#[task]
fn sleep_ms(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[task]
fn fall_after_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
    std::process::exit(3);
}

#[task]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[task]
fn odd(x: u32) -> Result<u32, String> {
    if x % 2 == 1 { Ok(x) } else { Err(format!("{x} is even")) }
}

fn tasks_run_in_children_and_their_values_come_back() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    assert_eq!(rc.ids(), [EngineId(0), EngineId(1)]);
    let ar = rc.engine(0).unwrap().apply(square(7));
    assert_eq!(ar.get_timeout(PATIENCE), Ok(49));
    assert_eq!((ar.metadata().engine, ar.metadata().attempt), (Some(EngineId(0)), Attempt(1)));
    let pids: BTreeSet<u32> = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap().into_iter().collect();
    assert_eq!(pids.len(), 2);
    assert!(!pids.contains(&std::process::id()));
    let view = rc.load_balanced();
    let many: Vec<_> = (0..5_000).map(|x| view.apply(square(x))).collect();
    for (x, ar) in many.iter().enumerate() {
        assert_eq!(ar.get_timeout(PATIENCE), Ok((x * x) as u64));
    }
    let map = view.map(square, 0..10_000);
    assert_eq!(map.get_timeout(PATIENCE).unwrap(), (0..10_000).map(|x| x * x).collect::<Vec<u64>>());
    assert_eq!(view.apply(length(vec![1; 3_000_000])).get_timeout(PATIENCE), Ok(3_000_000));
    assert_eq!(view.apply_fn(|| 1).get_timeout(PATIENCE), Err(TaskError::NotPortable));
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "child {pid} is gone");
    }
}

fn what_goes_wrong_in_a_child_is_told_as_in_a_thread() {
    let cluster = Cluster::processes(1).start().unwrap();
    let view = cluster.client().load_balanced();
    match view.apply(odd(4)).get_timeout(PATIENCE) {
        Err(TaskError::Failed { place, text }) => {
            assert_eq!((place.name, place.engine, &*text), ("odd", Some(EngineId(0)), "4 is even"));
        }
        other => panic!("{other:?}"),
    }
    match view.apply(fall(0)).get_timeout(PATIENCE) {
        Err(TaskError::Panicked { message, .. }) => assert_eq!(&*message, "over"),
        other => panic!("{other:?}"),
    }
    assert_eq!(view.with().retries(2).apply(odd(3)).get_timeout(PATIENCE), Ok(3));
    let failing = view.with().retries(2).apply(odd(2));
    assert!(failing.get_timeout(PATIENCE).is_err());
    assert_eq!(failing.metadata().attempt, Attempt(3));
}

fn an_engine_that_dies_is_seen_at_once_and_what_had_not_started_moves_on() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    for (how, cause) in [(1, "exit status: 3"), (2, "signal: 6")] {
        let cluster = Cluster::processes(2).start().unwrap();
        let rc = cluster.client();
        let falling = rc.engine(0).unwrap().apply(fall(how));
        match falling.get_timeout(PATIENCE) {
            Err(TaskError::EngineLost { engine, attempt, cause: told }) => {
                assert_eq!((engine, attempt), (EngineId(0), Attempt(1)));
                assert!(told.contains(cause), "{told}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(falling.metadata().status, Status::Lost);
        assert_eq!(rc.load_balanced().apply(square(3)).get_timeout(PATIENCE), Ok(9));
        rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        assert_eq!(rc.ids(), [EngineId(1), EngineId(2)], "another is in its place");
        assert_eq!(rc.engine(2).unwrap().apply(square(4)).get_timeout(PATIENCE), Ok(16));
    }
    // Once it is known how short they are, they are sent ahead, behind what runs.
    let view = rc.load_balanced();
    assert_eq!(view.map(square, 0..100).get_timeout(PATIENCE).unwrap().len(), 100);
    let busy = rc.engine(1).unwrap().apply(sleep_ms(400));
    let falling = rc.engine(0).unwrap().apply(fall_after_ms(200));
    let behind: Vec<_> = (0..50).map(|x| view.apply(square(x))).collect();
    for (x, ar) in (0..).zip(&behind) {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
        assert_eq!(ar.metadata().attempt, Attempt(1), "none had started where it was first");
        assert_ne!(ar.metadata().engine, Some(EngineId(0)));
    }
    assert!(matches!(falling.get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
    assert_eq!(busy.get_timeout(PATIENCE), Ok(400));
}

fn an_engine_that_dies_again_and_again_is_given_up() {
    let mut limits = Limits::default();
    limits.engine_restarts_max = 2;
    let cluster = Cluster::processes(1).limits(limits).start().unwrap();
    let rc = cluster.client();
    let mut events = rc.engine_events();
    for engine in 0..3 {
        rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        rc.engine(engine).unwrap().apply(fall(1)).get_timeout(PATIENCE).unwrap_err();
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(events.recv_timeout(PATIENCE).unwrap().unwrap());
    }
    let EngineEvent::Left { engine: EngineId(2), cause } = &seen[4] else { panic!("{seen:?}") };
    assert!(cause.contains("exit status: 3, and too often to be launched again"), "{cause}");
    assert_eq!(rc.len(), 0);
    drop(cluster);
}

fn threads_and_processes_work_side_by_side() {
    let cluster = Cluster::threads(1).processes(1).start().unwrap();
    let rc = cluster.client();
    let pids = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    assert_eq!((pids[0], pids[1] == pids[0]), (std::process::id(), false));
    assert_eq!(rc.load_balanced().apply_fn(|| 7).get_timeout(PATIENCE), Ok(7));
}

fn a_cluster_that_is_dropped_while_children_work_leaves_none() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let pids = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    let long = rc.all().apply(sleep_ms(60_000));
    drop(cluster);
    assert!(long.results().unwrap().iter().all(Result::is_err));
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "child {pid} is gone");
    }
}

fn main() {
    callboard::init();
    let tests: [(&str, fn()); 6] = [
        ("tasks_run_in_children_and_their_values_come_back", tasks_run_in_children_and_their_values_come_back),
        ("what_goes_wrong_in_a_child_is_told_as_in_a_thread", what_goes_wrong_in_a_child_is_told_as_in_a_thread),
        (
            "an_engine_that_dies_is_seen_at_once_and_what_had_not_started_moves_on",
            an_engine_that_dies_is_seen_at_once_and_what_had_not_started_moves_on,
        ),
        ("an_engine_that_dies_again_and_again_is_given_up", an_engine_that_dies_again_and_again_is_given_up),
        ("threads_and_processes_work_side_by_side", threads_and_processes_work_side_by_side),
        (
            "a_cluster_that_is_dropped_while_children_work_leaves_none",
            a_cluster_that_is_dropped_while_children_work_leaves_none,
        ),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            let began = std::time::Instant::now();
            test();
            println!("test {name} ... ok ({:?})", began.elapsed());
        }
    }
}
