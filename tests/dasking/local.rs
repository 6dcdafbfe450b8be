//! A Dask cluster on this machine that is started for this program: what it does, and that nothing of it is left.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Error, ExecutorSpec, LocalDask, LocalDaskBuilder};
use serde_json::{Value, json};

use super::site::{Site, python, wait_for};
use super::{PATIENCE, Test, begun, children, is_there, linger, square};
use crate::killed;

pub(super) const TESTS: &[Test] = &[
    ("a_local_cluster_is_started_and_leaves_nothing", a_local_cluster_is_started_and_leaves_nothing),
    ("a_local_cluster_is_opened_by_a_line", a_local_cluster_is_opened_by_a_line),
    ("a_killed_program_leaves_no_local_cluster", a_killed_program_leaves_no_local_cluster),
    ("a_program_killed_at_the_start_leaves_no_local_cluster", a_program_killed_at_the_start_leaves_no_local_cluster),
    (
        "a_local_cluster_that_does_not_end_is_killed_and_leaves_nothing",
        a_local_cluster_that_does_not_end_is_killed_and_leaves_nothing,
    ),
    ("callboard_compare_starts_a_local_cluster", callboard_compare_starts_a_local_cluster),
    ("a_killed_worker_of_a_local_cluster_loses_no_task", a_killed_worker_of_a_local_cluster_loses_no_task),
    ("a_killed_worker_of_a_cluster_loses_no_task", a_killed_worker_of_a_cluster_loses_no_task),
    ("a_local_cluster_that_cannot_be_had_says_why", a_local_cluster_that_cannot_be_had_says_why),
];

/// What the process of a local cluster has among its arguments.
const NAME: &str = "callboard-local-dask";

/// Is one of the programs that are killed here, if the arguments say so.
pub(super) fn be_one(arguments: &[String]) -> bool {
    match arguments {
        [what, line, dir] if what == "lingers-on" => {
            let ex = line.parse::<ExecutorSpec>().unwrap().open().unwrap();
            println!("{:?}", ex.submit(linger(dir.into())).get());
        }
        [what] if what == "starts-one" => {
            let _dask = LocalDask::start(1).unwrap();
            std::thread::park();
        }
        _ => return false,
    }
    true
}

/// Starts this program as one of those, with the interpreter that has Dask.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env("CALLBOARD_PYTHON", python().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Returns the processes that were started by one of these, and by those that they started.
fn descendants(of: u32) -> Vec<u32> {
    let direct = children(of, "");
    direct.iter().copied().chain(direct.iter().flat_map(|&child| descendants(child))).collect()
}

#[track_caller]
fn all_end(processes: &[u32]) {
    for &process in processes {
        wait_for("it ends", || (!is_there(process)).then_some(()));
    }
}

/// Returns the process of the only local cluster that a process has started, once it is there.
#[track_caller]
fn local_of(process: u32) -> u32 {
    wait_for("it starts a cluster", || children(process, NAME).pop())
}

fn a_local_cluster_is_started_and_leaves_nothing() {
    let dask = LocalDask::builder(2).python(python().unwrap().display().to_string()).start().unwrap();
    assert!(dask.address().starts_with("tcp://127.0.0.1:"), "{dask:?}");
    assert_eq!(format!("{dask:?}"), format!("<LocalDask {}: 2 workers>", dask.address()));
    let ex = dask.connect().unwrap();
    assert_eq!((ex.workers(), ex.max_workers()), (2, 2));
    let squares: Vec<u64> = ex.map(square, 0..50).collect::<Result<_, _>>().unwrap();
    assert_eq!(squares, (0..50).map(|x| x * x).collect::<Vec<_>>());
    let local = local_of(std::process::id());
    let processes = descendants(local);
    assert!(processes.len() >= 4, "two workers and two engines: {processes:?}");
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    dask.shutdown().get_timeout(PATIENCE).unwrap();
    assert!(!is_there(local));
    all_end(&processes);
}

fn a_local_cluster_is_opened_by_a_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("open"), "").unwrap();
    let mut program = start(&["lingers-on", "dask:local:1", &dir.path().display().to_string()]);
    let local = local_of(program.id());
    assert!(program.wait().unwrap().success());
    assert_eq!(begun(dir.path()).len(), 1);
    // It ended before the program or right behind it.
    all_end(&[local]);
}

fn a_killed_program_leaves_no_local_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = start(&["lingers-on", "dask:local:2", &dir.path().display().to_string()]);
    let [engine, worker] = wait_for("it runs", || begun(dir.path()).pop());
    let processes = descendants(program.id());
    assert!(processes.contains(&engine) && processes.contains(&worker), "{engine}, {worker}: {processes:?}");
    program.kill().unwrap();
    program.wait().unwrap();
    all_end(&processes);
}

fn a_program_killed_at_the_start_leaves_no_local_cluster() {
    let dir = tempfile::tempdir().unwrap();
    for moment in [0, 300, 900] {
        let mut program = start(&["lingers-on", "dask:local:2", &dir.path().display().to_string()]);
        let local = local_of(program.id());
        std::thread::sleep(Duration::from_millis(moment));
        let processes = descendants(program.id());
        program.kill().unwrap();
        program.wait().unwrap();
        all_end(&[&[local][..], &processes].concat());
    }
    assert!(begun(dir.path()).is_empty());
}

/// A `distributed` whose clusters do not end.
const ENDLESS: &str = "
import time

class LocalCluster:
    scheduler_address = 'tcp://127.0.0.1:1'

    def __init__(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        time.sleep(3600)
";

fn a_local_cluster_that_does_not_end_is_killed_and_leaves_nothing() {
    let (scratch, module) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(module.path().join("distributed.py"), ENDLESS).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["starts-one"]).env("CALLBOARD_PYTHON", python().unwrap());
    command.env("PYTHONPATH", module.path()).env("TMPDIR", scratch.path());
    let mut program = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let local = local_of(program.id());
    wait_for("it has a directory", || std::fs::read_dir(scratch.path()).unwrap().next().map(drop));
    program.kill().unwrap();
    program.wait().unwrap();
    all_end(&[local]);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn callboard_compare_starts_a_local_cluster() {
    let executors = "threads:2,processes:2,engines:2,dask:local:2";
    let compare = Command::new(env!("CARGO_BIN_EXE_callboard"))
        .args(["compare", "--exponent", "12", "--loops", "2", "--tasks", "50", "--json", "--executors", executors])
        .env("CALLBOARD_PYTHON", python().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let local = local_of(compare.id());
    let ran = compare.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let lines = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |test: &str| lines.iter().filter(|line| line["test"] == test).collect::<Vec<_>>();
    // Every value was compared with the one that is computed here, or there would be no lines.
    let systems = ["callboard-thread-pool", "callboard-process-pool", "callboard-threads", "callboard-dask"];
    assert_eq!(lines.len(), 13);
    assert_eq!(of("norms")[0]["system"], "serial");
    for (test, unit) in [("norms", "ms/loop"), ("noop_throughput", "tasks/s"), ("latency", "us")] {
        let measured = of(test).into_iter().filter(|line| line["system"] != "serial");
        for ((line, system), spec) in measured.zip(systems).zip(executors.split(',')) {
            let params = [&line["params"]["executor"], &line["params"]["engines"]];
            assert_eq!(
                (&line["system"], &line["unit"], params),
                (&json!(system), &json!(unit), [&json!(spec), &json!(2)])
            );
            assert!(line["value"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    all_end(&[local]);
}

/// Returns the worker that has this engine.
fn worker_of(engine: i32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{engine}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What it ran starts twice, and what it had returned that was not fetched yet.
const AGAIN_MAX: usize = 8;

fn a_killed_worker_of_a_local_cluster_loses_no_task() {
    let dask = LocalDask::builder(killed::WORKERS).python(python().unwrap().display().to_string()).start().unwrap();
    let name = "`dask:local:4`, a worker of it, `kill -9`";
    let kill = |engine| killed::kill(worker_of(engine) as i32);
    killed::none_is_lost(name, &dask.connect().unwrap(), killed::nap, AGAIN_MAX, kill);
}

fn a_killed_worker_of_a_cluster_loses_no_task() {
    let mut site = Site::of(killed::WORKERS);
    let ex = site.connect();
    // Nobody starts it again.
    let kill = |engine| site.workers.iter_mut().find(|part| part.id() == worker_of(engine)).unwrap().kill();
    killed::none_is_lost("`dask:ADDRESS`, one of its four workers, `kill -9`", &ex, killed::nap, AGAIN_MAX, kill);
}

#[track_caller]
fn problem(builder: LocalDaskBuilder) -> String {
    match builder.start() {
        Err(Error::Dask { address, problem }) => {
            assert_eq!(*address, *"local:2");
            problem.into()
        }
        other => panic!("{other:?}"),
    }
}

fn a_local_cluster_that_cannot_be_had_says_why() {
    let builder = || LocalDask::builder(2);
    let told = problem(builder().python("/nowhere/python3"));
    assert!(told.starts_with("the interpreter /nowhere/python3 cannot be started: No such file"), "{told}");
    assert!(told.contains("CALLBOARD_PYTHON") && told.contains("-m pip install distributed"), "{told}");

    // One that looks for packages nowhere.
    let place = tempfile::tempdir().unwrap();
    let (bare, real) = (place.path().join("python"), python().unwrap().display());
    std::fs::write(&bare, format!("#!/bin/sh\nexec {real} -I -S \"$@\"\n")).unwrap();
    std::fs::set_permissions(&bare, std::fs::Permissions::from_mode(0o700)).unwrap();
    let told = problem(builder().python(bare.display().to_string()));
    let line = format!("install it with: {real} -m pip install distributed");
    assert!(told.starts_with(&format!("{real} has no distributed (")) && told.ends_with(&line), "{told}");

    let told = problem(builder().python(real.to_string()).start_within(Duration::from_millis(50)));
    assert_eq!(told, "its workers did not start within 50ms");
    wait_for("it is gone", || children(std::process::id(), NAME).is_empty().then_some(()));
    assert_eq!(LocalDask::start(0).unwrap_err(), Error::Zero { what: "workers" });
}
