//! A worker is killed in the middle of 200 tasks of 20 ms, and none is lost. What it takes is printed as a line of the table in
//! `docs/executors.md`.

use std::time::{Duration, Instant};

use callboard::AsyncResult;
use callboard::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::support;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const WORKERS: usize = 4;
const TASKS: u64 = 200;

/// Safe to run twice, so the loss of a worker is not its end. Returns the process that ran it, too.
#[task(idempotent)]
pub(crate) fn nap(n: u64) -> (u64, i32) {
    std::thread::sleep(Duration::from_millis(20));
    (n, std::process::id() as i32)
}

pub(crate) fn kill(pid: i32) {
    assert_ne!(pid, std::process::id() as i32);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    support::eventually("it is dead", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// Submits all, kills when a quarter is done, and checks that every one has its value, and that `again_max` were started twice at
/// most.
pub(crate) fn none_is_lost<T: Task<Output = (u64, i32)>>(
    name: &str,
    executor: &dyn Executor,
    task: fn(u64) -> T,
    again_max: usize,
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
    assert!(again <= again_max, "{name}: {again} started twice");
    println!("| {name} | 0 | {again} | {time:.2} s |");
}
