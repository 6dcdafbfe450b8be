//! Engines that are child processes. With a `main` of its own: each child is this very program.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Attempt, Blob, EngineEvent, EngineEvents, EngineId, Limits, Status};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

mod support;
use support::own_main::{run, tests};
use support::{CommonCount, is_there};

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
        assert!(!is_there(pid), "child {pid} is gone");
    }
}

/// Fails with a text of so many bytes.
#[task]
fn complain(bytes: usize) -> Result<(), String> {
    Err("x".repeat(bytes))
}

fn texts_of_any_length_come_back_shortened_and_labels_go_there() {
    let cluster = Cluster::processes(1).start().unwrap();
    let view = cluster.client().load_balanced();
    for (bytes, told) in [(10, 10), (20 << 20, 64 << 10)] {
        match view.apply(complain(bytes)).get_timeout(PATIENCE) {
            Err(TaskError::Failed { text, .. }) => assert!(text.len() <= told + 10 && text.starts_with("xxx")),
            other => panic!("{other:?}"),
        }
    }
    let map = view.map(complain, [100_000; 3_000]);
    map.wait_timeout(PATIENCE).unwrap();
    assert!(map.results().unwrap().iter().all(|result| matches!(result, Err(TaskError::Failed { .. }))));
    let label = "l".repeat(1 << 20);
    let labelled: Vec<_> = (0..50).map(|x| view.with().label(label.as_str()).apply(square(x))).collect();
    for (x, ar) in (0..).zip(&labelled) {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
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

/// Cannot be encoded where it is odd.
#[derive(Clone, Deserialize)]
struct Shy(u64);

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 { Err(serde::ser::Error::custom("shy")) } else { serializer.serialize_u64(self.0) }
    }
}

#[task]
fn of_shy(shy: Shy) -> u64 {
    shy.0
}

#[task]
fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

/// Nothing is pending, and no engine has anything.
fn check_idle(rc: &Client) {
    rc.wait().get_timeout(PATIENCE).unwrap();
    let is_idle = || {
        let status = rc.queue_status().get_timeout(PATIENCE).unwrap();
        status.pending == 0 && status.engines.iter().all(|engine| engine.outstanding == 0)
    };
    support::eventually("no engine has anything", is_idle);
}

fn items_that_do_not_travel_leave_their_places_empty_and_nothing_behind() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    for chunksize in [1, 7, 100] {
        let map = view.with().chunksize(chunksize).map(|x| of_shy(Shy(x)), 0..100);
        for (x, result) in (0..).zip(map.results().unwrap()) {
            match result {
                Ok(value) => assert_eq!((value, x % 2), (x, 0)),
                Err(TaskError::Undecodable { .. }) => assert_eq!(x % 2, 1),
                Err(other) => panic!("{x}: {other}"),
            }
        }
        check_idle(&rc);
        // Some are cancelled while they wait, so that the others travel with holes between them.
        let busy = [view.apply(sleep_ms(100)), view.apply(sleep_ms(100))];
        let items = view.with().chunksize(chunksize).map(square, 0..100).split();
        let cancelled = |x: usize| x.is_multiple_of(3);
        items.iter().enumerate().filter(|(x, _)| cancelled(*x)).for_each(|(_, item)| assert!(item.cancel("not this")));
        for (x, item) in items.iter().enumerate() {
            match item.get_timeout(PATIENCE) {
                Ok(value) => assert_eq!((value, cancelled(x)), ((x * x) as u64, false)),
                Err(error) => assert!(cancelled(x) && matches!(error, TaskError::Cancelled { .. }), "{x}: {error}"),
            }
        }
        assert!(busy.iter().all(|ar| ar.get_timeout(PATIENCE) == Ok(100)));
        check_idle(&rc);
    }
}

fn as_many_items_travel_together_as_there_is_room_for() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let (view, size) = (rc.load_balanced(), 4 << 20);
    let lengths = view.with().chunksize(9).map(length, (0..9).map(|_| vec![1; size]));
    assert_eq!(lengths.get_timeout(PATIENCE).unwrap(), [size; 9]);
    let values = view.with().chunksize(9).map(zeros, [size; 9]).get_timeout(PATIENCE).unwrap();
    assert!(values.len() == 9 && values.iter().all(|value| value.len() == size));
    let blobs = view.with().chunksize(30).map(echo, (0..30).map(|_| Blob::from(vec![2; 2 * size])));
    assert!(blobs.get_timeout(PATIENCE).unwrap().iter().all(|blob| blob.len() == 2 * size && blob[size] == 2));
    // One of them is too large.
    let lengths = view.with().chunksize(3).map(length, [5, 3 * size, 7].map(|size| vec![1; size])).results().unwrap();
    assert!(matches!(&lengths[..], [Ok(5), Err(TaskError::Undecodable { .. }), Ok(7)]), "{lengths:?}");
    check_idle(&rc);
}

#[task]
fn echo(blob: Blob) -> Blob {
    blob
}

static STARTS: CommonCount = CommonCount::new("cancelled_on_its_way.STARTS");

#[task]
fn takes(blob: Blob) -> usize {
    STARTS.add();
    blob.len()
}

fn what_is_cancelled_on_its_way_does_not_start() {
    let cluster = Cluster::processes(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let large = Blob::from(vec![1; 32 << 20]);
    for _ in 0..10 {
        // The word that it is not wanted overtakes so many bytes.
        assert!(view.apply(takes(large.clone())).cancel("not needed"));
        assert_eq!(view.apply(square(2)).get_timeout(PATIENCE), Ok(4));
    }
    // On a busy machine it may come late; but not each time.
    assert!(STARTS.get() < 10);
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
        assert!(!is_there(pid), "child {pid} is gone");
    }
}

#[task]
fn print(words: String, ms: u64) -> usize {
    print!("{words}");
    eprintln!("{words}!");
    std::thread::sleep(Duration::from_millis(ms));
    words.len()
}

#[task]
fn print_and_die(words: String) {
    eprintln!("{words}");
    std::process::abort();
}

/// Prints so many bytes, and so many more while another thread prints too. None ends a line.
#[task]
fn print_bytes(count: usize, more: usize) {
    print!("{}", "x".repeat(count));
    let other = std::thread::spawn(|| (0..200).for_each(|_| print!("{}", "z".repeat(100))));
    other.join().unwrap();
    print!("{}", "y".repeat(more));
}

#[task]
fn print_much(lines: u32) {
    for n in 0..lines {
        println!("line {n} of many, to be kept in part");
    }
}

fn what_tasks_print_is_kept_with_their_records() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    // One by one, sent ahead in a row, and as items of a map that travel together.
    for round in 0..3 {
        let singles: Vec<_> = (0..40).map(|n| view.apply(print(format!("single {round} {n}"), 0))).collect();
        let map = view.map(|n| print(format!("item {round} {n}"), 0), 0..200);
        let silent = view.map(square, 0..200);
        for (n, ar) in singles.iter().enumerate() {
            ar.get_timeout(PATIENCE).unwrap();
            let words = format!("single {round} {n}");
            assert_eq!((&*ar.metadata().stdout, &*ar.metadata().stderr), (&*words, &*format!("{words}!\n")));
        }
        map.wait_timeout(PATIENCE).unwrap();
        for (n, record) in map.metadata().iter().enumerate() {
            let words = format!("item {round} {n}");
            assert_eq!((&*record.stdout, &*record.stderr), (&*words, &*format!("{words}!\n")));
            let stored = rc.record(record.id).get_timeout(PATIENCE).unwrap();
            assert_eq!(stored.stdout, record.stdout);
        }
        silent.wait_timeout(PATIENCE).unwrap();
        assert!(silent.metadata().iter().all(|record| record.stdout.is_empty() && record.stderr.is_empty()));
    }
    // As much as a pipe holds, and a little that is still in `print!` when the task ends.
    let full: Vec<_> = (0..60).map(|n| view.apply(print_bytes(65_000 + 20 * n, 300))).collect();
    for ar in full {
        ar.get_timeout(PATIENCE).unwrap();
        assert!(ar.metadata().stdout.ends_with("yyy"));
    }
    // More than is kept: the end is, and it is said that there was more.
    let much = view.apply(print_much(20_000));
    much.get_timeout(PATIENCE).unwrap();
    let stdout = much.metadata().stdout;
    assert!(stdout.starts_with('[') && stdout.contains("bytes left out"), "{}", &stdout[..100]);
    assert!(stdout.ends_with("line 19999 of many, to be kept in part\n"));
    assert!(stdout.len() <= 2 * Limits::default().printed_bytes_max + 100);
    // What is left of one that ends its process.
    let killed = view.apply(print_and_die("last words".into()));
    assert!(matches!(killed.get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
    assert_eq!(&*killed.metadata().stderr, "last words\n");
    // A panic is printed by the default hook.
    let panicked = view.apply(fall(0));
    panicked.get_timeout(PATIENCE).unwrap_err();
    assert!(panicked.metadata().stderr.contains("over"), "{}", panicked.metadata().stderr);
}

fn a_task_that_does_not_end_is_ended_by_force_with_its_engine_only() {
    let mut limits = Limits::default();
    limits.engine_restarts_max = 0;
    let cluster = Cluster::processes(2).limits(limits).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    assert_eq!(view.map(square, 0..1_000).get_timeout(PATIENCE).unwrap().len(), 1_000);
    let mut events = rc.engine_events();
    let first = rc.engine(0).unwrap();
    let hang_in_all = |count| support::eventually("they hang", || HANGING.get() == count);
    let (hanging, waiting) = (first.apply(hang()), view.apply(sleep_ms(300)));
    let pids = [pid_of(&rc, 1)];
    // One that waits behind it on the same engine, and is not to be harmed where it may run elsewhere.
    hang_in_all(1);
    assert!(hanging.cancel_by_force("it hangs"));
    match hanging.get_timeout(PATIENCE) {
        Err(TaskError::Cancelled { reason }) => assert_eq!(&*reason, "it hangs"),
        other => panic!("{other:?}"),
    }
    let cause = replaced(&mut events, EngineId(0), EngineId(2));
    assert_eq!(cause, format!("its process was killed because task {} was cancelled by force", hanging.id()));
    assert_eq!(waiting.get_timeout(PATIENCE), Ok(300));
    assert_eq!(pids, [pid_of(&rc, 1)], "the other is as it was");

    // Asked first, in vain; then by force, though it is settled.
    let second = rc.engine(1).unwrap();
    let hanging = second.apply(hang());
    hang_in_all(2);
    hanging.cancel("not needed");
    assert!(hanging.get_timeout(PATIENCE).is_err());
    assert!(!hanging.cancel_by_force("it hangs all the same"), "it is settled");
    replaced(&mut events, EngineId(1), EngineId(3));
    // Items of a map, of which one runs and others have not begun.
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    let map = view.map(|_| hang(), 0..20);
    hang_in_all(4);
    assert_eq!(map.cancel_by_force("all of it"), 20);
    map.wait_timeout(PATIENCE).unwrap();
    assert_eq!(view.apply(square(5)).get_timeout(PATIENCE), Ok(25));
    let seen: Vec<EngineEvent> = (0..4).map(|_| events.recv_timeout(PATIENCE).unwrap().unwrap()).collect();
    let left = seen.iter().filter(|event| matches!(event, EngineEvent::Left { .. })).count();
    assert_eq!(left, 2, "each ran one: {seen:?}");
    // One that has not begun costs no engine.
    let engines = rc.ids();
    let first = rc.engine(0 - 1).unwrap();
    let (running, queued) = (first.apply(sleep_ms(200)), first.apply(sleep_ms(100_000)));
    assert!(queued.cancel_by_force("not begun"));
    assert!(matches!(queued.get_timeout(PATIENCE), Err(TaskError::Cancelled { .. })));
    assert_eq!(running.get_timeout(PATIENCE), Ok(200));
    assert_eq!(rc.ids(), engines);
}

/// How many began to hang.
static HANGING: support::CommonCount = support::CommonCount::new("hanging");

#[task]
fn hang() {
    HANGING.add();
    std::thread::sleep(Duration::from_secs(100));
}

/// Waits until one engine has left and another has joined, in either order; returns why it left.
fn replaced(events: &mut EngineEvents, gone: EngineId, fresh: EngineId) -> String {
    let mut next = || events.recv_timeout(PATIENCE).unwrap().unwrap();
    match (next(), next()) {
        (EngineEvent::Left { engine, cause }, EngineEvent::Joined { engine: joined })
        | (EngineEvent::Joined { engine: joined }, EngineEvent::Left { engine, cause }) => {
            assert_eq!((engine, joined), (gone, fresh));
            cause.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn pid_of(rc: &Client, engine: i64) -> u32 {
    rc.engine(engine).unwrap().apply(pid()).get_timeout(PATIENCE).unwrap()
}

fn an_engine_is_replaced_when_it_has_run_as_many_tasks_as_it_may() {
    let cluster = Cluster::processes(2).max_tasks_per_engine(10).start().unwrap();
    let view = cluster.client().load_balanced();
    let pids: Vec<_> = (0..100).map(|_| view.apply(pid())).collect();
    let mut runs = std::collections::BTreeMap::<u32, usize>::new();
    for ar in &pids {
        *runs.entry(ar.get_timeout(PATIENCE).unwrap()).or_default() += 1;
        assert_eq!(ar.metadata().attempt, Attempt(1));
    }
    assert!(runs.len() >= 10 && runs.values().all(|runs| *runs <= 10), "{runs:?}");
    let pids = view.map(|_| pid(), 0..1_000).get_timeout(PATIENCE).unwrap();
    let mut runs = std::collections::BTreeMap::<u32, usize>::new();
    pids.into_iter().for_each(|pid| *runs.entry(pid).or_default() += 1);
    assert!(runs.values().all(|runs| *runs <= 10), "{runs:?}");
    assert!(matches!(Cluster::processes(1).max_tasks_per_engine(0).start(), Err(callboard::Error::Zero { .. })));
}

/// It has been sent all that it may run, so another would take its place, but for whoever removes or restarts it.
fn a_worn_out_engine_that_is_removed_is_not_replaced() {
    let cluster = Cluster::processes(1).max_tasks_per_engine(1).start().unwrap();
    let rc = cluster.client();
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let mut events = rc.engine_events();
    let running = rc.engine(0).unwrap().apply(sleep_ms(300));
    support::eventually("it runs", || running.running().get_timeout(PATIENCE).unwrap());
    let fresh = cluster.restart_engines([EngineId(0)]).get_timeout(PATIENCE).unwrap();
    assert_eq!((running.get_timeout(PATIENCE), fresh, rc.ids()), (Ok(300), vec![EngineId(1)], vec![EngineId(1)]));
    let running = rc.engine(1).unwrap().apply(sleep_ms(300));
    support::eventually("it runs", || running.running().get_timeout(PATIENCE).unwrap());
    cluster.remove_engines([EngineId(1)]).get_timeout(PATIENCE).unwrap();
    assert_eq!((running.get_timeout(PATIENCE), rc.ids()), (Ok(300), vec![]));
    let all: Vec<_> = std::iter::from_fn(|| events.recv_timeout(Duration::from_millis(400)).ok().flatten()).collect();
    let joined = all.iter().filter(|event| matches!(event, EngineEvent::Joined { .. })).count();
    assert_eq!((joined, rc.len()), (1, 0), "{all:?}");
}

/// Its process dies before it has left: killed by somebody, and to end what it runs.
fn an_engine_that_is_to_go_and_dies_is_not_launched_again() {
    let cluster = Cluster::processes(3).start().unwrap();
    let rc = cluster.client();
    let (mut events, killed) = (rc.engine_events(), pid_of(&rc, 0));
    let running = [0, 1].map(|engine| rc.engine(engine).unwrap().apply(sleep_ms(60_000)));
    support::eventually("both run", || running.iter().all(|ar| ar.running().get_timeout(PATIENCE).unwrap()));
    let leaving = cluster.remove_engines([EngineId(0), EngineId(1)]);
    // Asked behind it.
    rc.queue_status().get_timeout(PATIENCE).unwrap();
    kill_process(Pid::from_raw(killed as i32).unwrap(), Signal::KILL).unwrap();
    assert!(running[1].cancel_by_force("it takes too long"));
    leaving.get_timeout(PATIENCE).unwrap();
    assert!(matches!(running[0].get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
    let all: Vec<_> = std::iter::from_fn(|| events.recv_timeout(Duration::from_millis(400)).ok().flatten()).collect();
    let joined = all.iter().filter(|event| matches!(event, EngineEvent::Joined { .. })).count();
    assert_eq!((joined, rc.ids()), (0, vec![EngineId(2)]), "{all:?}");
}

fn engines_are_added_and_restarted_on_request() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    assert_eq!(cluster.add_processes(2).get_timeout(PATIENCE).unwrap(), [EngineId(1), EngineId(2)]);
    let before: Vec<u32> = (0..3).map(|n| pid_of(&rc, n)).collect();
    assert_eq!((before[0], before[1] == before[2]), (std::process::id(), false));
    let running = rc.engine(1).unwrap().apply(sleep_ms(300));
    let is_sent = || {
        let status = rc.queue_status().get_timeout(PATIENCE).unwrap();
        (status.pending, status.engines[1].queued, status.engines[1].outstanding) == (1, 0, 1)
    };
    support::eventually("it is sent", is_sent);
    let fresh = cluster.restart_engines([EngineId(0), EngineId(1)]).get_timeout(PATIENCE).unwrap();
    assert_eq!(fresh, [EngineId(3), EngineId(4)]);
    assert_eq!(running.get_timeout(PATIENCE), Ok(300), "in good order");
    assert_eq!(rc.ids(), [EngineId(2), EngineId(3), EngineId(4)]);
    assert_eq!((pid_of(&rc, 2), pid_of(&rc, 3)), (before[2], std::process::id()));
    assert!(!before.contains(&pid_of(&rc, 4)));
    // One that was to go is not launched again.
    let mut events = rc.engine_events();
    cluster.remove_engines([EngineId(2)]).get_timeout(PATIENCE).unwrap();
    let left = events.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(matches!(left, EngineEvent::Left { engine: EngineId(2), .. }), "{left:?}");
    let more = events.recv_timeout(Duration::from_millis(400));
    assert!(more.is_err(), "{more:?}");
    let unknown = cluster.restart_engines([EngineId(3), EngineId(0)]).get_timeout(PATIENCE);
    assert!(matches!(unknown, Err(callboard::Error::NoSuchEngine { asked: 0, .. })), "{unknown:?}");
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
}

fn a_program_without_the_task_is_named_before_anything_is_sent() {
    let other = env!("CARGO_BIN_EXE_callboard");
    let cluster = Cluster::processes(1).engine_program(other).start().unwrap();
    let rc = cluster.client();
    for ar in [rc.load_balanced().apply(square(1)), rc.engine(0).unwrap().apply(square(1))] {
        let error = ar.get_timeout(PATIENCE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "engine 0 has no task processes::square; build its program with the crate that defines it \
             (use my_tasks as _;) or register it"
        );
    }
    drop(cluster);
    // Where another engine has it, that one runs it.
    let cluster = Cluster::threads(1).processes(2).engine_program(other).start().unwrap();
    let rc = cluster.client();
    let squares = rc.load_balanced().map(square, 0..1_000);
    assert_eq!(squares.get_timeout(PATIENCE).unwrap().len(), 1_000);
    assert!(squares.metadata().iter().all(|record| record.engine == Some(EngineId(0))));
    assert!(rc.all().apply(square(1)).get_timeout(PATIENCE).unwrap_err().to_string().contains("has no task"));

    match Cluster::processes(1).engine_program("/bin/echo").start() {
        Err(callboard::Error::EngineFailed { cause }) => {
            assert!(cause.contains("exit status: 0") && cause.contains("callboard::init()"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    match Cluster::processes(1).engine_program("/nowhere/engine").start() {
        Err(error) => assert!(error.to_string().contains("/nowhere/engine"), "{error}"),
        other => panic!("{other:?}"),
    }
}

fn main() {
    callboard::init();
    run(tests![
        tasks_run_in_children_and_their_values_come_back,
        what_goes_wrong_in_a_child_is_told_as_in_a_thread,
        texts_of_any_length_come_back_shortened_and_labels_go_there,
        items_of_a_map_travel_together_and_each_has_its_own_outcome,
        items_that_do_not_travel_leave_their_places_empty_and_nothing_behind,
        as_many_items_travel_together_as_there_is_room_for,
        values_are_kept_on_children_and_fetched_from_them,
        an_engine_that_dies_is_seen_at_once_and_what_had_not_started_moves_on,
        an_engine_that_dies_again_and_again_is_given_up,
        a_task_that_does_not_end_is_ended_by_force_with_its_engine_only,
        an_engine_is_replaced_when_it_has_run_as_many_tasks_as_it_may,
        a_worn_out_engine_that_is_removed_is_not_replaced,
        an_engine_that_is_to_go_and_dies_is_not_launched_again,
        engines_are_added_and_restarted_on_request,
        a_program_without_the_task_is_named_before_anything_is_sent,
        what_tasks_print_is_kept_with_their_records,
        threads_and_processes_work_side_by_side,
        what_is_cancelled_on_its_way_does_not_start,
        a_cluster_that_is_dropped_while_children_work_leaves_none,
    ]);
}
