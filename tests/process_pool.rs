//! A pool of processes: the promises of executors, and what only it has. With a `main` of its own: each worker is this very
//! program.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use callboard::executors::RetryPolicy;
use callboard::prelude::*;
use callboard::{AsyncResult, Error, ExecutorSpec, ProcessPoolExecutor, Status};
use rustix::process::{Pid, Signal, kill_process};

mod conformance;
mod support;
use conformance::{Maker, Scratch, Subject};
use support::own_main::{run, tests};
use support::{eventually, is_there};

const PATIENCE: Duration = Duration::from_secs(20);

/// What an initializer has left in this process.
static PREPARED: AtomicU32 = AtomicU32::new(0);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn pid() -> i32 {
    std::process::id() as i32
}

#[task]
fn nap(ms: u64) -> i32 {
    std::thread::sleep(Duration::from_millis(ms));
    std::process::id() as i32
}

/// Leaves its process's number in a file, then waits for another.
#[task]
fn wait_for(here: PathBuf, open: PathBuf) -> i32 {
    std::fs::write(here, std::process::id().to_string()).unwrap();
    for _ in 0..20_000 {
        if open.exists() {
            return std::process::id() as i32;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody opens {}", open.display())
}

#[task]
fn prepare(by: u32) {
    PREPARED.fetch_add(by, Ordering::Relaxed);
}

/// Fails unless there is such a file.
#[task]
fn prepare_from(file: PathBuf) -> Result<(), String> {
    if file.exists() { Ok(()) } else { Err(format!("{} is not there", file.file_name().unwrap().display())) }
}

#[task]
fn panic_first() {
    panic!("not today")
}

#[task]
fn leave_first() {
    eprintln!("no licence left");
    std::process::exit(3);
}

#[task]
fn prepared() -> u32 {
    PREPARED.load(Ordering::Relaxed)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Waits until a task says in which process it is.
fn number_in(file: &Path) -> i32 {
    eventually("a task starts", || std::fs::read_to_string(file).is_ok_and(|text| !text.is_empty()));
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

fn pids(ex: &ProcessPoolExecutor, n: usize) -> BTreeSet<i32> {
    let results: Vec<AsyncResult<i32>> = (0..4 * n).map(|_| ex.submit(nap(30))).collect();
    results.iter().map(|ar| ar.get_timeout(PATIENCE).unwrap()).collect()
}

fn it_keeps_every_promise() {
    conformance::run(&Maker {
        name: "ProcessPoolExecutor",
        workers: 2,
        make: || Subject::of(ProcessPoolExecutor::new(2).unwrap()),
    });
}

fn so_does_what_a_text_names() {
    let processes = "processes:2".parse::<ExecutorSpec>().unwrap().open().unwrap();
    assert_eq!((processes.name(), processes.max_workers()), ("ProcessPoolExecutor", 2));
    drop(processes);
    let make = || Subject::of(ExecutorSpec::Tcp(2).open().unwrap());
    conformance::run(&Maker { name: "ViewExecutor", workers: 2, make });
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let ours = format!("callboard-tcp-{}-", std::process::id());
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).count(), 0);
    eventually("every thread has ended", || support::our_threads().iter().all(|name| name == "cb-apart"));
    let missing = ExecutorSpec::Cluster("nowhere/callboard-client.json".into()).open().unwrap_err();
    assert!(matches!(missing, Error::ConnectionFile { .. }), "{missing}");
}

fn a_text_opens_on_a_thread_that_drives_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for text in ["threads:1", "engines:1", "processes:1", "tcp:1"] {
            let ex = text.parse::<ExecutorSpec>().unwrap().open().unwrap();
            assert_eq!(ex.submit(square(7)).await, Ok(49), "{text}");
            ex.shutdown(Pending::Finish).await.unwrap();
        }
        let missing = ExecutorSpec::Cluster("nowhere/callboard-client.json".into()).open().unwrap_err();
        assert!(matches!(missing, Error::ConnectionFile { .. }), "{missing}");
    });
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<u32>,
    name: String,
}

#[task]
fn name_of(sparse: Sparse) -> String {
    sparse.name
}

#[task]
fn sparse(name: String) -> Sparse {
    Sparse { unit: None, name }
}

fn what_serde_leaves_out_is_missed_and_the_error_says_so() {
    let ex = ProcessPoolExecutor::new(1).unwrap();
    let there = ex.submit(name_of(Sparse { unit: None, name: "mass".into() })).get_timeout(PATIENCE).unwrap_err();
    let back = ex.submit(sparse("mass".into())).get_timeout(PATIENCE).map(|sparse| sparse.unit).unwrap_err();
    for (error, what) in [(there, "arguments of process_pool::name_of"), (back, "result of process_pool::sparse")] {
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot code the {what}: ")), "{text}");
        assert!(text.contains("#[serde(skip_serializing_if)]"), "{text}");
    }
    assert_eq!(ex.submit(square(3)).get_timeout(PATIENCE), Ok(9));
}

fn a_kill_costs_what_ran_there_and_nothing_else_however_often() {
    let (ex, scratch) = (ProcessPoolExecutor::new(2).unwrap(), Scratch::new());
    // More often than a cluster's engine would be launched again.
    for round in 0..8 {
        let file = |name: &str| scratch.path().join(format!("{name}-{round}"));
        let victim = ex.submit(wait_for(file("victim"), file("open")));
        let other = ex.submit(wait_for(file("other"), file("open")));
        let pid = number_in(&file("victim"));
        number_in(&file("other"));
        let queued: Vec<_> = (0..50).map(|x| ex.submit(square(x))).collect();
        kill(pid);
        let lost = victim.get_timeout(PATIENCE).unwrap_err();
        assert!(matches!(&lost, TaskError::EngineLost { cause, .. } if cause.contains("signal: 9")), "{lost}");
        std::fs::write(file("open"), "").unwrap();
        assert!(other.get_timeout(PATIENCE).is_ok());
        for (x, ar) in (0..).zip(&queued) {
            assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x), "round {round}");
        }
        eventually("another is in its place", || ex.workers() == 2);
    }
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
}

fn force_goes_through_whatever_is_around_it() {
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let ex = pool.limit(2).retry(RetryPolicy::new(3)).timeout(PATIENCE);
    let scratch = Scratch::new();
    let file = |name: &str| scratch.path().join(name);
    let (deaf, other) =
        (ex.submit(wait_for(file("deaf"), file("never"))), ex.submit(wait_for(file("other"), file("open"))));
    let pid = number_in(&file("deaf"));
    assert!(deaf.cancel_by_force("it does not listen"));
    assert_eq!(deaf.get(), Err(TaskError::Cancelled { reason: "it does not listen".into() }), "at once");
    eventually("its process is ended", || !is_there(pid));
    std::fs::write(file("open"), "").unwrap();
    assert!(other.get_timeout(PATIENCE).is_ok());
    assert!((0..20).all(|x| ex.submit(square(x)).get_timeout(PATIENCE) == Ok(x * x)));
}

fn each_worker_is_prepared_before_anything_else() {
    let ex = ProcessPoolExecutor::builder(2).initializer(prepare(7)).max_tasks_per_child(3).start().unwrap();
    let seen: Vec<_> = (0..30).map(|_| ex.submit(prepared())).collect();
    assert!(seen.iter().all(|ar| ar.get_timeout(PATIENCE) == Ok(7)), "once in each, also in those that came later");
    let pid = ex.submit(pid()).get_timeout(PATIENCE).unwrap();
    kill(pid);
    eventually("one takes its place", || !is_there(pid) && ex.workers() == 2);
    assert!((0..8).all(|_| ex.submit(prepared()).get_timeout(PATIENCE) == Ok(7)));
}

fn an_initializer_that_fails_settles_what_waits_and_is_tried_again() {
    let scratch = Scratch::new();
    let file = scratch.path().join("settings");
    let ex = ProcessPoolExecutor::builder(2).initializer(prepare_from(file.clone())).start().unwrap();
    let text = "its initializer failed: prepare_from: settings is not there";
    let check = |waiting: &[AsyncResult<u64>]| {
        for ar in waiting {
            assert_eq!(ar.get_timeout(PATIENCE), Err(TaskError::WorkersFailed { text: text.into() }));
            assert_eq!((ar.metadata().status, ar.metadata().attempt.0), (Status::Refused, 0));
        }
    };
    check(&(0..20).map(|x| ex.submit(square(x))).collect::<Vec<_>>());
    // Not for good: each is a new chance.
    check(&[ex.submit(square(1))]);
    std::fs::write(&file, "").unwrap();
    assert_eq!(ex.submit(square(5)).get_timeout(PATIENCE), Ok(25));
    assert_eq!(ex.workers(), 1, "as many as there was work for, since they failed");
    // One that takes the place of another may fail as well.
    std::fs::remove_file(&file).unwrap();
    kill(ex.submit(pid()).get_timeout(PATIENCE).unwrap());
    check(&[ex.submit(square(1))]);
    std::fs::write(&file, "").unwrap();
    assert!((0..50).all(|x| ex.submit(square(x)).get_timeout(PATIENCE) == Ok(x * x)));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();

    let ex = ProcessPoolExecutor::builder(1).initializer(panic_first()).start().unwrap();
    let error = ex.submit(square(1)).get_timeout(PATIENCE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no worker of the pool can run tasks: its initializer failed: panic_first panicked: not today"
    );
    assert!(matches!(ex.resize(2).get_timeout(PATIENCE), Ok(()) | Err(Error::EngineFailed { .. })));
    ex.shutdown(Pending::Cancel).get_timeout(PATIENCE).unwrap();
}

fn an_initializer_that_ends_its_process_fails_as_any_other() {
    let ex = ProcessPoolExecutor::builder(2).initializer(leave_first()).start().unwrap();
    for _ in 0..2 {
        let error = ex.submit(square(1)).get_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, TaskError::WorkersFailed { .. }), "{error}");
        assert!(error.to_string().contains("its process ended with exit status: 3"), "{error}");
        assert!(error.to_string().contains("no licence left"), "{error}");
    }
}

fn workers_are_replaced_after_so_many_tasks() {
    let ex = ProcessPoolExecutor::builder(1).max_tasks_per_child(2).start().unwrap();
    let pids: Vec<i32> = (0..6).map(|_| ex.submit(pid()).get_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3, "{pids:?}");
}

fn idle_workers_end_and_come_back() {
    let idle = Duration::from_millis(150);
    let ex = ProcessPoolExecutor::builder(3).idle_timeout(idle).start().unwrap();
    assert_eq!((ex.workers(), ex.max_workers()), (3, 3));
    let first = pids(&ex, 3);
    assert_eq!(first.len(), 3);
    eventually("none is left", || ex.workers() == 0);
    eventually("their processes are gone", || first.iter().all(|pid| !is_there(*pid)));
    assert_eq!(ex.max_workers(), 3, "so many as there may be");
    assert_eq!(ex.submit(square(3)).get_timeout(PATIENCE), Ok(9));
    assert_eq!(ex.workers(), 1, "as many as there is work for");
    assert_eq!(pids(&ex, 3).len(), 3);
    eventually("none is left", || ex.workers() == 0);
    let last = ex.submit(square(4));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(last.get(), Ok(16), "also where somebody has to come back for it");
}

fn a_pool_grows_and_shrinks() {
    let (ex, scratch) = (ProcessPoolExecutor::new(1).unwrap(), Scratch::new());
    ex.resize(3).get_timeout(PATIENCE).unwrap();
    assert_eq!((ex.workers(), ex.max_workers(), pids(&ex, 3).len()), (3, 3, 3));
    let (here, open) = (scratch.path().join("here"), scratch.path().join("open"));
    let running: Vec<_> =
        (0..3).map(|i| ex.submit(wait_for(here.with_extension(i.to_string()), open.clone()))).collect();
    for i in 0..3 {
        number_in(&here.with_extension(i.to_string()));
    }
    let queued: Vec<_> = (0..20).map(|x| ex.submit(square(x))).collect();
    ex.resize(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(ex.max_workers(), 1);
    std::fs::write(open, "").unwrap();
    assert!(running.iter().all(|ar| ar.get_timeout(PATIENCE).is_ok()), "who goes finishes what it runs");
    assert!((0..).zip(&queued).all(|(x, ar)| ar.get_timeout(PATIENCE) == Ok(x * x)));
    eventually("two have gone", || ex.workers() == 1);
    assert_eq!(pids(&ex, 2).len(), 1);
    assert!(matches!(ex.resize(0).get(), Err(Error::Zero { what: "the number of workers" })));
    assert!(matches!(ex.resize(usize::MAX).get(), Err(Error::TooMany { max: 4_096, .. })));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert!(matches!(ex.resize(2).get_timeout(PATIENCE), Err(Error::ClusterStopped)));
}

fn a_pool_that_shrinks_again_lets_others_go() {
    let (ex, scratch) = (ProcessPoolExecutor::new(3).unwrap(), Scratch::new());
    let (here, open) = (scratch.path().join("here"), scratch.path().join("open"));
    let running: Vec<_> =
        (0..3).map(|i| ex.submit(wait_for(here.with_extension(i.to_string()), open.clone()))).collect();
    for i in 0..3 {
        number_in(&here.with_extension(i.to_string()));
    }
    ex.resize(2).get_timeout(PATIENCE).unwrap();
    // The one that is about to go is still there, and busy as the others are.
    ex.resize(1).get_timeout(PATIENCE).unwrap();
    std::fs::write(open, "").unwrap();
    assert!(running.iter().all(|ar| ar.get_timeout(PATIENCE).is_ok()), "who goes finishes what it runs");
    eventually("two have gone", || ex.workers() == 1);
    assert_eq!(pids(&ex, 2).len(), 1);
}

fn workers_that_may_be_idle_for_ever_stay() {
    let ex = ProcessPoolExecutor::builder(1).idle_timeout(Duration::MAX).start().unwrap();
    let pids: BTreeSet<i32> = (0..2).map(|_| ex.submit(pid()).get_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(pids.len(), 1);
}

fn nothing_is_left_of_it() {
    let ex = ProcessPoolExecutor::new(2).unwrap();
    let workers = pids(&ex, 2);
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert!(workers.iter().all(|pid| !is_there(*pid)), "answered when they are gone");
    let ex = ProcessPoolExecutor::new(2).unwrap();
    let (workers, held) = (pids(&ex, 2), ex.submit(square(4)));
    drop(ex);
    assert_eq!(held.get_timeout(PATIENCE), Ok(16), "what was submitted still comes");
    eventually("they are gone", || workers.iter().all(|pid| !is_there(*pid)));
    eventually("and so is every thread", || support::our_threads().iter().all(|name| name == "cb-apart"));
}

fn what_makes_no_pool_is_refused() {
    let refused = |builder: callboard::executors::ProcessPoolBuilder| builder.start().unwrap_err().to_string();
    let pool = || ProcessPoolExecutor::builder(1);
    assert_eq!(refused(pool().max_workers(0)), "the number of workers is zero; it must be at least 1");
    assert_eq!(refused(pool().max_workers(5_000)), "the number of workers is 5000; it must be at most 4096");
    assert_eq!(refused(pool().max_tasks_per_child(0)), "max_tasks_per_child is zero; it must be at least 1");
    assert_eq!(refused(pool().idle_timeout(Duration::ZERO)), "idle_timeout is zero; it must be at least 1");
    assert!(refused(pool().worker_program("/nowhere/at/all")).contains("/nowhere/at/all"));
}

fn main() {
    callboard::init();
    run(tests![
        it_keeps_every_promise,
        so_does_what_a_text_names,
        a_kill_costs_what_ran_there_and_nothing_else_however_often,
        force_goes_through_whatever_is_around_it,
        each_worker_is_prepared_before_anything_else,
        a_text_opens_on_a_thread_that_drives_a_runtime,
        what_serde_leaves_out_is_missed_and_the_error_says_so,
        an_initializer_that_fails_settles_what_waits_and_is_tried_again,
        an_initializer_that_ends_its_process_fails_as_any_other,
        workers_are_replaced_after_so_many_tasks,
        idle_workers_end_and_come_back,
        a_pool_grows_and_shrinks,
        a_pool_that_shrinks_again_lets_others_go,
        workers_that_may_be_idle_for_ever_stay,
        nothing_is_left_of_it,
        what_makes_no_pool_is_refused,
    ]);
}
