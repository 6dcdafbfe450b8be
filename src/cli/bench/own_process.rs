//! Runs that need a process of their own, because what the process did before would be in the figure.
//!
//! `callboard bench` starts its own executable as `callboard bench-child ..`; the child makes one run, prints
//! its figures on one line and ends. It ends by itself also where something hangs.

use std::io::{Write, stdout};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::callboard_itself::Engines;
use super::{Fallible, idle, note, queued_memory};

/// What a child is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    run: Run,
}

/// One run in a process of its own.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Run {
    /// Prints bytes per task that waits
    QueuedMemory {
        /// How many wait.
        tasks: usize,
    },
    /// Prints MB of memory and milliseconds of processor time per second
    Idle {
        /// How many engines.
        engines: usize,
        /// How long they are watched, in milliseconds.
        watch_ms: u64,
        /// Where they are.
        #[arg(value_enum)]
        kind: Engines,
    },
}

/// A child that is not done by then ends: nobody should have to look for it.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// What `LIFE_MAX` ends it with.
const HUNG: i32 = 3;

/// Makes one run in a fresh process and returns the figures it printed.
pub(super) fn in_own_process(run: Run) -> Fallible<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("bench-child")
        .args(run.to_args())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("its process ended with {}", output.status).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Runs `callboard bench-child`.
pub(crate) fn child(args: &Args) -> Fallible<()> {
    std::thread::spawn(|| {
        std::thread::sleep(LIFE_MAX);
        note(format_args!("callboard: a run is not done after {LIFE_MAX:?}"));
        std::process::exit(HUNG);
    });
    let figures = match args.run {
        Run::QueuedMemory { tasks } => queued_memory::measure(tasks)?,
        Run::Idle { engines, watch_ms, kind } => idle::measure(kind, engines, Duration::from_millis(watch_ms))?,
    };
    let printed: Vec<String> = figures.iter().map(f64::to_string).collect();
    writeln!(stdout(), "{}", printed.join(" "))?;
    Ok(())
}

impl Run {
    fn to_args(self) -> Vec<String> {
        match self {
            Self::QueuedMemory { tasks } => vec!["queued-memory".into(), tasks.to_string()],
            Self::Idle { engines, watch_ms, kind } => {
                let kind = kind.to_possible_value().map(|kind| kind.get_name().to_owned());
                ["idle".into(), engines.to_string(), watch_ms.to_string()].into_iter().chain(kind).collect()
            }
        }
    }
}

/// Returns how much memory of this process is in RAM, in bytes.
pub(super) fn resident_bytes() -> Fallible<u64> {
    resident_bytes_of(std::process::id())
}

/// Returns how much memory of a process is in RAM, in bytes.
#[cfg(target_os = "linux")]
pub(super) fn resident_bytes_of(process: u32) -> Fallible<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let resident = statm.split_whitespace().nth(1).ok_or("/proc/../statm has no second field")?;
    let pages: u64 = resident.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Returns how much processor time the threads of a process have used that are there, to the nanosecond: without a question to
/// the process, which would wake it.
#[cfg(target_os = "linux")]
pub(super) fn processor_time_of(process: u32) -> Fallible<Duration> {
    if process == std::process::id() {
        // Cheaper, and what it costs would be in the figure.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        return Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?));
    }
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let schedstat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += schedstat.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(super) fn resident_bytes_of(_: u32) -> Fallible<u64> {
    Err("it reads /proc, which only Linux has".into())
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(super) fn processor_time_of(_: u32) -> Fallible<Duration> {
    Err("it reads /proc, which only Linux has".into())
}
