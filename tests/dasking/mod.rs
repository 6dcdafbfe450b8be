//! What the tests of tasks on Dask have in common, and the list of them.

mod all_four;
mod basics;
mod cancels;
mod engines;
mod local;
mod losses;
mod programs;
mod promises;
mod reconnects;
mod refusals;
pub(crate) mod site;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callboard::prelude::*;

type Test = (&'static str, fn());

pub(crate) fn tests() -> Vec<Test> {
    [
        all_four::TESTS,
        basics::TESTS,
        refusals::TESTS,
        cancels::TESTS,
        losses::TESTS,
        reconnects::TESTS,
        programs::TESTS,
        engines::TESTS,
        local::TESTS,
        promises::TESTS,
    ]
    .concat()
}

/// Is another program than the tests, if it was started as one.
pub(crate) fn be_another(arguments: &[String]) -> bool {
    programs::be_one(arguments) || local::be_one(arguments) || all_four::be_one(arguments)
}

/// Long enough for whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Leaves a file with the number of the engine's process and of the worker's, then waits for a file `open`, whatever it is told.
#[task]
fn linger(dir: PathBuf) -> u32 {
    let (engine, worker) = (std::process::id(), std::os::unix::process::parent_id());
    std::fs::write(dir.join(format!("{engine}.{worker}.begun")), "").unwrap();
    let by = Instant::now() + Duration::from_secs(30);
    while !dir.join("open").exists() && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(2));
    }
    engine
}

/// Returns the engines and the workers of the executions of [`linger`] that have begun.
fn begun(dir: &Path) -> Vec<[u32; 2]> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = |name: String| {
        let mut numbers = name.strip_suffix(".begun")?.split('.').map(|number| number.parse().unwrap());
        Some([numbers.next()?, numbers.next()?])
    };
    names.filter_map(numbers).collect()
}

fn open(dir: &Path) {
    std::fs::write(dir.join("open"), "").unwrap();
}

/// Returns whether a process is there that is no zombie.
fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}

/// Returns the children of a process whose command line has this word.
fn children(of: u32, word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(of) && String::from_utf8_lossy(&command).contains(word)
    };
    pids.filter(is_one).collect()
}

/// Returns the engines of a worker.
fn residents(worker: u32) -> Vec<u32> {
    children(worker, "--callboard-resident")
}

/// Returns the bridges of this program.
fn bridges() -> Vec<u32> {
    children(std::process::id(), "callboard-bridge")
}

/// Returns the bridge that was not there before: others may still be clearing their workers.
#[track_caller]
fn new_bridge(before: &[u32]) -> u32 {
    let new: Vec<u32> = bridges().into_iter().filter(|bridge| !before.contains(bridge)).collect();
    let [bridge] = new[..] else { panic!("{new:?} are not one") };
    bridge
}

/// Kills a process.
fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
