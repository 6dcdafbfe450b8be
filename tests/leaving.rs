//! Engines whose time is over: they are told by `SIGTERM`, as a batch system tells them, or by the end of their standard input. With
//! a `main` of its own: engines are this very program.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::task::Attempt;
use callboard::{Dial, EngineEvent, EngineId, Limits, Listen, Listening};
use rustix::process::Signal;

mod support;
use support::own_main::{run, tests};
use support::{CommonCount, CommonGate, Dialling, Forwarder, dialling, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// What an engine that is to leave has for what it runs, in milliseconds.
const WITHIN: &str = "CALLBOARD_TEST_WITHIN";

/// Counts that it starts, says so, and goes on for a while.
#[task]
fn work(name: String, ms: u64) -> u32 {
    let before = CommonCount::named(format!("starts {name}")).add();
    CommonGate::named(name).open();
    std::thread::sleep(Duration::from_millis(ms));
    before + 1
}

/// A cluster that listens.
struct Listens {
    cluster: Cluster,
    listening: Listening,
    _directory: tempfile::TempDir,
}

fn listens() -> Listens {
    let directory = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    // So that much is sent ahead.
    limits.engine_backlog_us = 50_000;
    let cluster = Cluster::without_engines().limits(limits).start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    Listens { cluster, listening, _directory: directory }
}

fn command(file: &Path, within: Duration) -> Command {
    let mut engine = dialling(file);
    engine.env(WITHIN, within.as_millis().to_string());
    engine
}

fn dial(file: &Path, within: Duration) -> Dialling {
    Dialling::start(&mut command(file, within))
}

/// Has the controller learn that this task takes no time, so that many are sent ahead.
fn learn(rc: &Client) {
    for n in 0..50 {
        rc.load_balanced().apply(work(format!("learn {n}"), 0)).get_timeout(PATIENCE).unwrap();
    }
}

fn left(events: &mut callboard::EngineEvents) -> (EngineId, String) {
    loop {
        if let EngineEvent::Left { engine, cause } = events.recv_timeout(PATIENCE).unwrap().unwrap() {
            return (engine, cause.to_string());
        }
    }
}

fn what_runs_is_finished_and_what_has_not_started_moves_on_without_an_attempt() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let first = dial(&listening.engine_file(), PATIENCE);
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    learn(&rc);
    let mut events = rc.engine_events();
    let view = rc.load_balanced();
    let running = view.apply(work("runs".into(), 700));
    let behind: Vec<_> = (0..40).map(|n| view.apply(work(format!("behind {n}"), 0))).collect();
    CommonGate::named("runs".into()).pass();
    assert!(rc.queue_status().get().unwrap().engines[0].outstanding > 1, "some are there already");
    first.signal(Signal::TERM);
    // It goes when that is done, and takes nothing with it.
    assert_eq!(left(&mut events), (EngineId(0), "its time was over, and it left".into()));
    assert_eq!(running.get_timeout(PATIENCE), Ok(1));
    assert!(behind.iter().all(|ar| !ar.ready()), "nobody is there to run them");
    let (status, said) = first.end();
    assert!(status.success(), "{status}: {said}");
    let _second = dial(&listening.engine_file(), PATIENCE);
    for ar in &behind {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(1), "it starts once");
        assert_eq!((ar.metadata().attempt, ar.metadata().engine), (Attempt(1), Some(EngineId(1))));
    }
}

fn what_runs_too_long_is_lost_and_starts_again_where_it_may() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let first = dial(&listening.engine_file(), Duration::from_millis(1_500));
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let lost = rc.load_balanced().with().retries_on_loss(1).apply(work("long".into(), 60_000));
    CommonGate::named("long".into()).pass();
    let bound = rc.engine(0).unwrap().apply(work("bound".into(), 0));
    let began = Instant::now();
    first.signal(Signal::TERM);
    // What waits for it and no other will not run: that is known at once.
    let error = bound.get_timeout(PATIENCE).unwrap_err();
    let TaskError::EngineLost { attempt: Attempt(0), cause, .. } = &error else { panic!("{error}") };
    assert_eq!(&**cause, "its time was over, and it left");
    assert!(began.elapsed() < Duration::from_millis(1_400), "{:?}", began.elapsed());
    let (status, said) = first.end();
    assert!(status.success(), "{status}: {said}");
    eventually("it has left", || rc.is_empty());
    let waited = began.elapsed();
    assert!((1_500..3_000).contains(&waited.as_millis()), "{waited:?}");
    // Another takes it up, which is told to leave as well; no further attempt is left.
    let second = dial(&listening.engine_file(), Duration::from_millis(1_500));
    eventually("it runs again", || CommonCount::named("starts long".into()).get() == 2);
    second.signal(Signal::TERM);
    let error = lost.get_timeout(PATIENCE).unwrap_err();
    let TaskError::EngineLost { attempt: Attempt(2), cause, engine: EngineId(1) } = &error else { panic!("{error}") };
    assert_eq!(&**cause, "its time was over, and what it ran was not finished in time");
}

fn a_map_on_engines_that_come_and_are_told_to_leave_runs_each_item_once() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let items = 0..3_000;
    let map = rc.load_balanced().map(|n| work(format!("item {n}"), 2), items.clone());
    let mut engines = std::collections::VecDeque::new();
    let mut gone = 0;
    while !map.ready() && gone < 12 {
        engines.push_back(dial(&listening.engine_file(), PATIENCE));
        if engines.len() > 2 {
            let joined = gone + 2;
            eventually("the next is there", || rc.ids().last().is_some_and(|id| id.0 >= joined));
            let oldest: Dialling = engines.pop_front().unwrap();
            oldest.signal(Signal::TERM);
            let (status, said) = oldest.end();
            assert!(status.success(), "{status}: {said}");
            gone += 1;
        }
    }
    let outcomes = map.get_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcomes, vec![1; items.len()], "each starts once");
    assert!(gone >= 3, "{gone} have left while it ran");
}

fn an_engine_without_work_or_without_a_controller_leaves_at_once() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let idle = dial(&listening.engine_file(), PATIENCE);
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let mut events = rc.engine_events();
    let began = Instant::now();
    idle.signal(Signal::TERM);
    assert_eq!(left(&mut events).1, "its time was over, and it left");
    let (status, said) = idle.end();
    assert!(status.success() && began.elapsed() < Duration::from_secs(2), "{status} {:?}: {said}", began.elapsed());
    // One that looks for a controller that is gone.
    let (file, kept) = (listening.engine_file(), tempfile::NamedTempFile::new().unwrap());
    std::fs::copy(file, kept.path()).unwrap();
    drop(cluster);
    let searching = dial(kept.path(), PATIENCE);
    eventually("it listens for signals", || catches(searching.0.id(), Signal::TERM));
    let began = Instant::now();
    searching.signal(Signal::TERM);
    let (status, said) = searching.end();
    assert!(status.success() && began.elapsed() < Duration::from_secs(2), "{status} {:?}: {said}", began.elapsed());
}

/// Returns whether a process has a handler for a signal.
fn catches(process: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

fn an_engine_whose_connection_is_cut_leaves_over_the_next() {
    let network = Forwarder::start();
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    let rc = cluster.client();
    let engine = dial(&listening.engine_file(), PATIENCE);
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let mut events = rc.engine_events();
    let running = rc.load_balanced().apply(work("cut".into(), 300));
    CommonGate::named("cut".into()).pass();
    network.cut();
    engine.signal(Signal::TERM);
    assert_eq!(running.get_timeout(PATIENCE), Ok(1));
    assert_eq!(left(&mut events).1, "its time was over, and it left");
    let (status, said) = engine.end();
    assert!(status.success(), "{status}: {said}");
}

fn a_controller_that_is_away_is_waited_for_no_longer_than_what_runs() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let engine = dial(&listening.engine_file(), Duration::from_millis(300));
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let _running = rc.load_balanced().apply(work("away".into(), 60_000));
    CommonGate::named("away".into()).pass();
    // Without a word, and so that nobody answers: as a machine that is switched off.
    let began = Instant::now();
    engine.signal(Signal::TERM);
    drop(cluster);
    let (status, said) = engine.end();
    assert!(status.success() && began.elapsed() < Duration::from_secs(3), "{status} {:?}: {said}", began.elapsed());
}

fn a_file_comes_on_the_standard_input_and_others_who_read_there_find_nothing() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let mut engine = command(Path::new("-"), PATIENCE).stdin(Stdio::piped()).spawn().unwrap();
    let file = std::fs::read(listening.engine_file()).unwrap();
    let mut stdin = engine.stdin.take().unwrap();
    stdin.write_all(&file).unwrap();
    let engine = Dialling(engine);
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.load_balanced().apply(work("stdin".into(), 0)).get_timeout(PATIENCE), Ok(1));
    // A file that says nothing of it is no leash.
    drop(stdin);
    assert_eq!(rc.load_balanced().apply(work("stdin".into(), 0)).get_timeout(PATIENCE), Ok(2));
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert!(engine.end().0.success());
    // What is no file of ours.
    let mut other = command(Path::new("-"), PATIENCE).stdin(Stdio::piped()).spawn().unwrap();
    other.stdin.take().unwrap().write_all(b"{\"callboard\": 1}").unwrap();
    let (status, said) = Dialling(other).end();
    assert!(
        !status.success() && said.contains("connection file -: as the standard input, it is no connection"),
        "{said}"
    );
}

/// What has a program be an engine for a moment, and then wait.
const THEN_WAITS: &str = "CALLBOARD_TEST_THEN_WAITS";

fn once_no_engine_runs_sigterm_ends_the_program_as_ever() {
    let Listens { cluster, listening, _directory } = listens();
    let rc = cluster.client();
    let mut program = command(&listening.engine_file(), PATIENCE);
    let program = Dialling(program.env(THEN_WAITS, "1").stdin(Stdio::piped()).spawn().unwrap());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.load_balanced().apply(work("moment".into(), 0)).get_timeout(PATIENCE), Ok(1));
    drop(cluster);
    CommonGate::named("waits".into()).pass();
    program.signal(Signal::TERM);
    assert_eq!(program.end().0.signal(), Some(Signal::TERM.as_raw()));
}

fn main() {
    if let Some(file) = std::env::var_os(support::DIALS) {
        let within = std::env::var(WITHIN).unwrap().parse().unwrap();
        if let Err(error) = Dial::with(file).leave_within(Duration::from_millis(within)).run_engine() {
            eprintln!("{error}");
            std::process::exit(1);
        }
        if std::env::var_os(THEN_WAITS).is_some() {
            CommonGate::named("waits".into()).open();
            let _ = std::io::stdin().read(&mut [0]);
        }
        return;
    }
    run(tests![
        what_runs_is_finished_and_what_has_not_started_moves_on_without_an_attempt,
        what_runs_too_long_is_lost_and_starts_again_where_it_may,
        a_map_on_engines_that_come_and_are_told_to_leave_runs_each_item_once,
        an_engine_without_work_or_without_a_controller_leaves_at_once,
        an_engine_whose_connection_is_cut_leaves_over_the_next,
        a_controller_that_is_away_is_waited_for_no_longer_than_what_runs,
        a_file_comes_on_the_standard_input_and_others_who_read_there_find_nothing,
        once_no_engine_runs_sigterm_ends_the_program_as_ever,
    ]);
}
