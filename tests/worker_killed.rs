//! One worker of each mechanism is killed in the middle of 200 tasks of 20 ms: none is lost. With a `main` of its own: each worker
//! is this very program. Prints the table of `docs/executors.md`.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use callboard::executors::RetryPolicy;
use callboard::prelude::*;
use callboard::{AsyncResult, ExecutorSpec, ThreadPoolExecutor};
use rustix::process::{Pid, Signal, kill_process};

mod support;

const PATIENCE: Duration = Duration::from_secs(30);
const WORKERS: usize = 4;
const TASKS: u64 = 200;

/// Safe to run twice, so the loss of a worker is not its end.
#[task(idempotent)]
fn nap(n: u64) -> (u64, i32) {
    std::thread::sleep(Duration::from_millis(20));
    (n, std::process::id() as i32)
}

/// The same, for whoever is not told that it may run twice.
#[task]
fn nap_once(n: u64) -> (u64, i32) {
    nap(n).call()
}

#[task]
fn fall() {
    panic!("a worker falls")
}

fn kill(pid: i32) {
    assert_ne!(pid, std::process::id() as i32);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    support::eventually("it is dead", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// Submits all, kills when a quarter is done, and checks that every one has its value.
fn none_is_lost<T: Task<Output = (u64, i32)>>(
    name: &str,
    executor: &dyn Executor,
    task: fn(u64) -> T,
    kill: impl FnOnce(i32),
) {
    let began = Instant::now();
    let all: Vec<AsyncResult<(u64, i32)>> = (0..TASKS).map(|n| executor.submit(task(n))).collect();
    let (_, pid) = all[TASKS as usize / 4].get_timeout(PATIENCE).unwrap();
    // In the middle of the task that its worker has begun since.
    std::thread::sleep(Duration::from_millis(10));
    kill(pid);
    let values: Vec<u64> = all.iter().map(|ar| ar.get_timeout(PATIENCE).unwrap().0).collect();
    let time = began.elapsed().as_secs_f64();
    assert_eq!(values, (0..TASKS).collect::<Vec<_>>(), "{name}");
    let again = all.iter().filter(|ar| ar.metadata().attempt.0 > 1).count();
    assert!(again <= 1, "{name}: what it ran, and nothing else, starts twice: {again}");
    println!("| {name} | 0 | {again} | {time:.2} s |");
}

fn main() {
    support::engine();
    println!(
        "| executor, and what happens to a worker | lost | started twice | 200 tasks of 20 ms |\n|---|---|---|---|"
    );

    let pool = ThreadPoolExecutor::new(WORKERS).unwrap();
    none_is_lost("`threads:4`, its task panics", &pool, nap, |_| {
        assert!(matches!(pool.submit(fall()).get_timeout(PATIENCE), Err(TaskError::Panicked { .. })));
    });

    let cluster = Cluster::threads(WORKERS).start().unwrap();
    let rc = cluster.client();
    none_is_lost("`engines:4`, it is removed", &rc.executor(), nap, |_| {
        cluster.remove_engines([rc.ids()[0]]).get_timeout(PATIENCE).unwrap();
    });

    let processes = ExecutorSpec::Processes(WORKERS).open().unwrap();
    none_is_lost("`processes:4`, `kill -9`", &processes, nap, kill);

    let processes = ExecutorSpec::Processes(WORKERS).open().unwrap().retry(RetryPolicy::new(2));
    none_is_lost("`processes:4` with `retry`, `kill -9`", &processes, nap_once, kill);

    let tcp = ExecutorSpec::Tcp(WORKERS).open().unwrap();
    none_is_lost("`tcp:4`, `kill -9`", &tcp, nap, kill);
}
