//! Engines that die in every way, stand still, or are ended in the midst of work; and a controller that stands still. With
//! a `main` of its own: each child is this very program. `CALLBOARD_CASES` is how many of each there are.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Attempt, EngineEvent, EngineId, Limits, Status};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

mod support;
use support::is_there;
use support::own_main::{run, tests};

const PATIENCE: Duration = Duration::from_secs(30);

/// The ways in which a process ends that it does not come back from, and what is told of each.
const DEATHS: [&[&str]; 6] = [
    &["signal: 6", "it printed last: fatal runtime error: stack overflow"],
    &["signal: 11"],
    &["signal: 6", "it printed last: memory allocation of 67108864 bytes failed"],
    &["signal: 9"],
    &["exit status: 0"],
    &["signal: 6"],
];

#[task(idempotent)]
fn die(how: u32) {
    match how {
        0 => drop(overflow(0)),
        1 => touch_nothing(),
        2 => drop(eat()),
        3 => drop(kill_process(rustix::process::getpid(), Signal::KILL)),
        4 => std::process::exit(0),
        _ => std::process::abort(),
    }
}

fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + frame[7] }
}

/// What only a bug does.
#[expect(unsafe_code)]
fn touch_nothing() {
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(std::hint::black_box(8)).write_volatile(1) }
}

/// Takes more memory than this process may have.
fn eat() -> usize {
    let bytes = Some(512 << 20);
    setrlimit(Resource::As, Rlimit { current: bytes, maximum: bytes }).unwrap();
    let eaten: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 64 << 20]).collect();
    eaten.len()
}

#[task(idempotent)]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn pid() -> i32 {
    std::process::id() as i32
}

#[task(idempotent)]
fn nap_ms(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Written as many ones and a zero; read, it is as many levels deep.
#[derive(Clone)]
struct Deep(usize);

impl serde::Serialize for Deep {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut bytes = serializer.serialize_tuple(self.0 + 1)?;
        (0..self.0).try_for_each(|_| bytes.serialize_element(&1_u8))?;
        bytes.serialize_element(&0_u8)?;
        bytes.end()
    }
}

impl<'de> serde::Deserialize<'de> for Deep {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = Option::<Box<Self>>::deserialize(deserializer)?;
        Ok(Self(inner.map_or(0, |inner| inner.0 + 1)))
    }
}

#[task]
fn depth(deep: Deep) -> usize {
    deep.0
}

/// As many lists as it says, each written in one byte; or far more than are written.
#[derive(Clone)]
struct Lists {
    said: u64,
    written: usize,
}

impl serde::Serialize for Lists {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut bytes = serializer.serialize_tuple(self.written + 1)?;
        bytes.serialize_element(&self.said)?;
        (0..self.written).try_for_each(|_| bytes.serialize_element(&0_u8))?;
        bytes.end()
    }
}

impl<'de> serde::Deserialize<'de> for Lists {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // 24 bytes of memory for each byte that came.
        let written = Vec::<Vec<u64>>::deserialize(deserializer)?.len();
        Ok(Self { said: written as u64, written })
    }
}

#[task]
fn count(lists: Lists) -> usize {
    lists.written
}

fn resident_mib() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096 / (1 << 20)
}

fn arguments_that_grow_when_they_are_read_grow_in_the_engine_only() {
    let cluster = Cluster::processes(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let before = resident_mib();
    let many = 8_000_000;
    assert_eq!(
        view.apply(count(Lists { said: many, written: many as usize })).get_timeout(PATIENCE),
        Ok(many as usize)
    );
    let lie = view.apply(count(Lists { said: u64::MAX, written: 10 })).get_timeout(PATIENCE);
    assert!(matches!(lie, Err(TaskError::Undecodable { .. })), "{lie:?}");
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 20, "{grown} MiB, and the engine took {} MiB", many * 24 / (1 << 20));
}

fn cases() -> u32 {
    std::env::var("CALLBOARD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12)
}

/// Restarts without a bound, so that what is looked at is the death and not the limit.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.engine_restarts_max = u32::MAX;
    limits
}

fn process(pid: i32) -> Pid {
    Pid::from_raw(pid).unwrap()
}

/// The processes that this one has launched and that are there.
fn children() -> Vec<String> {
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let lists: Vec<String> = fs::read_dir("/proc/self/task").unwrap().flatten().map(of_thread).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(Into::into).collect()
}

fn every_way_to_die_is_seen_at_once_and_the_engine_is_back_soon() {
    let cluster = Cluster::processes(2).limits(limits()).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    // The first of each has the program's pages read in.
    let (mut seen, mut back) = (Vec::new(), Vec::new());
    let cases = cases().max(DEATHS.len() as u32);
    for case in 0..cases {
        // The limit of memory is what takes time: an allocation at a time.
        let how = case % DEATHS.len() as u32;
        let mut events = rc.engine_events();
        let start = Instant::now();
        let dying = view.with().retries(0).apply(die(how));
        let others: Vec<_> = (0..20).map(|x| view.with().retries_on_loss(9).apply(square(x))).collect();
        let error = dying.get_timeout(PATIENCE).unwrap_err();
        if how != 2 {
            seen.push(start.elapsed());
        }
        let TaskError::EngineLost { attempt: Attempt(1), cause, .. } = error else { panic!("{how}: {error}") };
        assert!(DEATHS[how as usize].iter().all(|words| cause.contains(words)), "{how}: {cause}");
        for (x, ar) in (0..).zip(&others) {
            assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
        }
        let mut changes = (0, 0);
        while changes != (1, 1) {
            match events.recv_timeout(PATIENCE).unwrap().unwrap() {
                EngineEvent::Left { .. } => changes.0 += 1,
                EngineEvent::Joined { .. } => changes.1 += 1,
                other => panic!("{other:?}"),
            }
        }
        back.push(start.elapsed());
    }
    let p99 = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[(times.len() - 1) * 99 / 100]
    };
    println!("{cases} of {cases} deaths: seen p99 {:?}, another joined p99 {:?}", p99(&mut seen), p99(&mut back));
}

fn a_task_that_kills_all_who_run_it_stops_after_its_attempts() {
    let cluster = Cluster::processes(2).limits(limits()).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    let poison = view.with().retries_on_loss(2).apply(die(2));
    let others: Vec<_> = (0..1_000).map(|x| view.with().retries_on_loss(9).apply(square(x))).collect();
    let error = poison.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::EngineLost { attempt: Attempt(3), .. }), "{error}");
    for (x, ar) in (0..).zip(&others) {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
    }
    // Arguments that kill whoever reads them count as well: the attempt begins before they are read.
    let poison = view.with().retries_on_loss(1).apply(depth(Deep(1 << 20)));
    let error = poison.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::EngineLost { attempt: Attempt(2), .. }), "{error}");
    assert!(error.to_string().contains("stack overflow"), "{error}");
    assert_eq!(view.apply(depth(Deep(20))).get_timeout(PATIENCE), Ok(20));
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.ids().last(), Some(&EngineId(6)), "exactly five have died");
}

fn an_engine_that_stands_still_is_lost_after_five_seconds() {
    // Ten clusters at a time: each stop takes five seconds.
    let stops = cases().div_ceil(6);
    let (clusters, rounds) = (stops.min(10), stops.div_ceil(10));
    let standing: Vec<_> = (0..clusters).map(|_| std::thread::spawn(move || stand_still(rounds))).collect();
    let lost: Vec<Duration> = standing.into_iter().flat_map(|cluster| cluster.join().unwrap()).collect();
    let (least, most) = (lost.iter().min().unwrap(), lost.iter().max().unwrap());
    println!("{} engines that stood still were lost after {least:?} to {most:?}", lost.len());
    assert!(*least > Duration::from_millis(3_500) && *most < Duration::from_millis(6_500));
}

/// Stops one engine after the other; returns after how long each was lost.
fn stand_still(rounds: u32) -> Vec<Duration> {
    let cluster = Cluster::processes(2).limits(limits()).start().unwrap();
    let rc = cluster.client();
    let stop = |_| {
        rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        let engine = rc.ids()[0];
        let first = rc.direct_view([engine]);
        let id = first.apply(pid()).get_timeout(PATIENCE).unwrap()[0];
        let name = format!("{id}.begun");
        let napping = first.apply(say_and_nap(name.clone(), 200));
        support::CommonGate::named(name).pass();
        let (start, mut events) = (Instant::now(), rc.engine_events());
        kill_process(process(id), Signal::STOP).unwrap();
        napping.wait_timeout(PATIENCE).unwrap();
        match napping.results().unwrap().remove(0) {
            Err(TaskError::EngineLost { attempt: Attempt(1), cause, .. }) => {
                assert_eq!(&*cause, "nothing was heard for 5s; its process ended with signal: 9 (SIGKILL)");
            }
            other => panic!("{other:?}"),
        }
        let lost = start.elapsed();
        // The next may join before the scheduler has let this one go.
        let seen: Vec<EngineEvent> = (0..2).map(|_| events.recv_timeout(PATIENCE).unwrap().unwrap()).collect();
        let has_left = |event: &EngineEvent| matches!(event, EngineEvent::Left { engine: left, .. } if *left == engine);
        assert!(seen.iter().any(has_left), "{seen:?}");
        assert!(!is_there(id), "it was killed");
        lost
    };
    (0..rounds).map(stop).collect()
}

/// Says that it runs, by opening a gate.
#[task]
fn say_and_nap(gate: String, ms: u64) {
    support::CommonGate::named(gate).open();
    std::thread::sleep(Duration::from_millis(ms));
}

/// Runs in a process of its own, which is stopped meanwhile.
fn controller_that_stands_still() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let before = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    println!("ready");
    let mut line = String::new();
    let napping = rc.all().apply(nap_ms(1_000));
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(napping.get_timeout(PATIENCE).unwrap(), [1_000, 1_000]);
    assert_eq!(rc.all().apply(pid()).get_timeout(PATIENCE).unwrap(), before, "the same engines");
    assert_eq!(rc.ids(), [EngineId(0), EngineId(1)]);
    println!("no engine was lost");
}

fn a_controller_that_stands_still_loses_no_engine() {
    let (stops, stands_s) = (cases().div_ceil(24), if cases() >= 1_200 { 30 } else { 7 });
    for batch in (0..stops).collect::<Vec<_>>().chunks(10) {
        let stopped: Vec<_> = batch.iter().map(|_| std::thread::spawn(move || stop_a_controller(stands_s))).collect();
        stopped.into_iter().for_each(|controller| controller.join().unwrap());
    }
    println!("{stops} controllers stood still for {stands_s} s each, and lost no engine");
}

fn stop_a_controller(stands_s: u64) {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let mut controller = Command::new(std::env::current_exe().unwrap());
    let controller = controller.arg(STANDS_STILL).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut controller = controller.spawn().unwrap();
    let mut lines = BufReader::new(controller.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let id = Pid::from_child(&controller);
    kill_process(id, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(stands_s));
    kill_process(id, Signal::CONT).unwrap();
    controller.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "no engine was lost");
    assert!(controller.wait().unwrap().success());
}

/// Starts a process that outlives its task, and says which it is.
#[task]
fn leave_behind() -> i32 {
    Command::new("sleep").arg("1000").spawn().unwrap().id() as i32
}

/// Runs in a process of its own, which is killed.
fn controller_that_is_killed() {
    let cluster = Cluster::processes(2).start().unwrap();
    let rc = cluster.client();
    let engines = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    let left_behind = rc.all().apply(leave_behind()).get_timeout(PATIENCE).unwrap();
    drop(rc.all().apply(nap_ms(100_000)));
    println!("{engines:?} {left_behind:?}");
    std::thread::sleep(PATIENCE);
}

fn a_controller_that_is_killed_leaves_no_child_and_no_grandchild() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let mut controller = Command::new(std::env::current_exe().unwrap());
    let mut controller = controller.arg(IS_KILLED).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(controller.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let processes: Vec<i32> = numbers.map(|number| number.parse().unwrap()).collect();
    assert!(processes.len() == 4 && processes.iter().all(|id| is_there(*id)), "{line}");
    controller.kill().unwrap();
    controller.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().any(|id| is_there(*id)) {
        assert!(Instant::now() < deadline, "some are left of {processes:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn nothing_secret_is_in_arguments_or_environment() {
    let cluster = Cluster::processes(1).start().unwrap();
    let id = cluster.client().engine(0).unwrap().apply(pid()).get_timeout(PATIENCE).unwrap();
    let read = |what| fs::read_to_string(format!("/proc/{id}/{what}")).unwrap();
    let environment = read("environ");
    let ours: Vec<&str> = environment.split('\0').filter(|word| word.contains("CALLBOARD_ENGINE")).collect();
    // A number that tells clusters apart, and opens nothing.
    assert!(ours.len() == 1 && ours[0].len() <= "CALLBOARD_ENGINE=".len() + 16, "{ours:?}");
    assert_eq!(read("cmdline").split('\0').filter(|word| !word.is_empty()).count(), 1);
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok()).map(|to| to.display().to_string());
    let listening = fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap();
    let inodes: Vec<String> =
        listening.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).map(Into::into).collect();
    let sockets: Vec<String> = targets.filter(|to| to.starts_with("socket:")).collect();
    assert!(
        sockets.iter().all(|socket| !inodes.iter().any(|inode| *socket == format!("socket:[{inode}]"))),
        "no TCP: {sockets:?}"
    );
}

fn a_cluster_that_is_ended_at_any_moment_settles_all_and_leaves_no_child() {
    let cases = cases().div_ceil(2);
    let mut longest = Duration::ZERO;
    for case in 0..cases {
        let cluster = Cluster::processes(2).limits(limits()).start().unwrap();
        let rc = cluster.client();
        let view = rc.load_balanced();
        let tasks: Vec<_> = (0..200).map(|n| view.with().retries_on_loss(3).apply(nap_ms(n % 5))).collect();
        let map = view.map(square, 0..5_000);
        std::thread::sleep(Duration::from_micros(u64::from(case) * 7_919 % 40_000));
        let start = Instant::now();
        match case % 3 {
            0 => drop(cluster),
            1 => cluster.shutdown(Pending::Cancel).get_timeout(PATIENCE).unwrap(),
            _ => {
                // Another thread submits meanwhile, and a child is killed.
                let submitting =
                    std::thread::spawn(move || (0..500).map(|x| view.apply(square(x))).collect::<Vec<_>>());
                drop(rc.engine(0).map(|engine| engine.apply(die(3))));
                drop(cluster);
                for ar in submitting.join().unwrap() {
                    let _ = ar.get_timeout(PATIENCE);
                    assert!(ar.metadata().status != Status::Pending);
                }
            }
        }
        longest = longest.max(start.elapsed());
        for ar in tasks {
            ar.wait_timeout(PATIENCE).unwrap();
        }
        map.wait_timeout(PATIENCE).unwrap();
        assert_eq!(children(), [""; 0], "after case {case}");
    }
    println!("{cases} of {cases} ends: the longest took {longest:?}");
    assert!(longest < Duration::from_secs(5));
}

/// What tells this program to be the controller that is stopped.
const STANDS_STILL: &str = "--stands-still";

/// What tells this program to be the controller that is killed.
const IS_KILLED: &str = "--is-killed";

fn main() {
    callboard::init();
    if std::env::args().any(|argument| argument == STANDS_STILL) {
        return controller_that_stands_still();
    }
    if std::env::args().any(|argument| argument == IS_KILLED) {
        return controller_that_is_killed();
    }
    run(tests![
        every_way_to_die_is_seen_at_once_and_the_engine_is_back_soon,
        a_task_that_kills_all_who_run_it_stops_after_its_attempts,
        arguments_that_grow_when_they_are_read_grow_in_the_engine_only,
        an_engine_that_stands_still_is_lost_after_five_seconds,
        a_controller_that_stands_still_loses_no_engine,
        a_controller_that_is_killed_leaves_no_child_and_no_grandchild,
        nothing_secret_is_in_arguments_or_environment,
        a_cluster_that_is_ended_at_any_moment_settles_all_and_leaves_no_child,
    ]);
}
