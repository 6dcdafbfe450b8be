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

/// Some items fail, some panic, some return much.
#[task]
fn many_kinds(x: u32) -> Result<Vec<u32>, String> {
    match x % 100 {
        13 => panic!("thirteen"),
        17 => Err(format!("{x} ends in 17")),
        50 => Ok(vec![x; 10_000]),
        _ => Ok(vec![x]),
    }
}

fn items_of_a_map_travel_together_and_each_has_its_own_outcome() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    for _ in 0..3 {
        let map = view.map(many_kinds, 0..2_000);
        map.wait_timeout(PATIENCE).unwrap();
        let (ids, results): (Vec<_>, _) = (map.ids().collect(), map.results().unwrap());
        assert_eq!(results.len(), 2_000);
        for (x, result) in (0..).zip(results) {
            match (x % 100, result) {
                (13, Err(TaskError::Panicked { place, message })) => {
                    assert_eq!((&*message, place.task), ("thirteen", ids[x as usize]));
                }
                (17, Err(TaskError::Failed { place, text })) => {
                    assert_eq!((&*text, place.task), (&*format!("{x} ends in 17"), ids[x as usize]));
                }
                (50, Ok(values)) => assert_eq!(values, vec![x; 10_000]),
                (_, other) => assert_eq!(other, Ok(vec![x])),
            }
        }
        let statuses: Vec<Status> = map.metadata().iter().map(|record| record.status).collect();
        assert_eq!((statuses[12], statuses[13], statuses[17]), (Status::Done, Status::Panicked, Status::Failed));
    }
    // Cancelled on the way: each item settles, and the engines are free again.
    let map = view.map(sleep_ms, (0..500).map(|_| 5));
    map.cancel("not wanted");
    map.wait_timeout(PATIENCE).unwrap();
    let settled = map.results().unwrap();
    assert!(settled.iter().all(|result| matches!(result, Ok(5) | Err(TaskError::Cancelled { .. }))));
    assert_eq!(rc.all().apply(square(3)).get_timeout(PATIENCE).unwrap(), [9, 9]);
}

fn values_are_kept_on_children_and_fetched_from_them() {
    let cluster = Cluster::processes(3).start().unwrap();
    let dv = cluster.client().all();
    dv.push("weights", vec![0.5_f64; 100_000]).get_timeout(PATIENCE).unwrap();
    for weights in dv.pull::<Vec<f64>>("weights").get_timeout(PATIENCE).unwrap() {
        assert_eq!(*weights, vec![0.5; 100_000]);
    }
    dv.scatter("x", (0..1_000_i64).collect()).get_timeout(PATIENCE).unwrap();
    assert_eq!(dv.apply(double_all()).get_timeout(PATIENCE).unwrap(), [334, 333, 333]);
    let doubled: Vec<i64> = dv.gather("x").get_timeout(PATIENCE).unwrap();
    assert_eq!(doubled, (0..1_000).map(|x| 2 * x).collect::<Vec<i64>>());
    dv.clear().get_timeout(PATIENCE).unwrap();
    let error = dv.pull::<Vec<i64>>("x").get_timeout(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("push it first"), "{error}");
}

#[task]
fn double_all(cx: &TaskContext) -> Result<usize, TaskFailure> {
    let mut part = cx.pushed::<Vec<i64>>("x")?.into_inner();
    part.iter_mut().for_each(|x| *x *= 2);
    let length = part.len();
    cx.push("x", part)?;
    Ok(length)
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
    let tests: [(&str, fn()); 8] = [
        ("tasks_run_in_children_and_their_values_come_back", tasks_run_in_children_and_their_values_come_back),
        ("what_goes_wrong_in_a_child_is_told_as_in_a_thread", what_goes_wrong_in_a_child_is_told_as_in_a_thread),
        (
            "items_of_a_map_travel_together_and_each_has_its_own_outcome",
            items_of_a_map_travel_together_and_each_has_its_own_outcome,
        ),
        ("values_are_kept_on_children_and_fetched_from_them", values_are_kept_on_children_and_fetched_from_them),
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
