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
use rustix::process::{Pid, Signal, kill_process};
use site::wait_for;

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
    send(pid, Signal::KILL);
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// A process that stands still, until this is dropped.
struct Still(u32);

impl Still {
    fn hold(pid: u32) -> Self {
        send(pid, Signal::STOP);
        let still = Self(pid);
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        wait_for("it stands still", || stat().rsplit(')').next().unwrap().trim().starts_with('T').then_some(()));
        still
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill_process(Pid::from_raw(self.0 as i32).unwrap(), Signal::CONT);
    }
}

/// Returns how many bytes wait in the pipes that a process reads from.
fn unread(pid: u32) -> u64 {
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(number);
    let is_input = |number: &String| is_pipe(&pid.to_string(), number, AccessMode::Reads);
    let waiting = |number: String| {
        let pipe = std::fs::File::open(format!("/proc/{pid}/fd/{number}")).unwrap();
        rustix::io::ioctl_fionread(pipe).unwrap()
    };
    numbers.filter(is_input).map(waiting).sum()
}

/// How a process has a file open.
#[derive(Clone, Copy, PartialEq)]
enum AccessMode {
    Reads,
    Writes,
}

/// Returns whether a process has, under this number, a pipe that it reads from or writes to.
fn is_pipe(process: &str, number: &str, mode: AccessMode) -> bool {
    let is_pipe = std::fs::read_link(format!("/proc/{process}/fd/{number}"))
        .is_ok_and(|link| link.to_string_lossy().starts_with("pipe:"));
    let facts = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap_or_default();
    let flags = facts.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    is_pipe && flags.is_some_and(|flags| flags & 0o3 == mode as u32)
}
