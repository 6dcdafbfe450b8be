//! Jobs in Slurm's queue: looked at by `squeue`, ended by `scancel`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::launcher::{JobOutput, JobState, LaunchedJob};
use super::slurm::run;
use super::tail::KEPT_BYTES_MAX;

/// How long an answer of `squeue` is taken for the present: its controller serves all users.
const FRESH: Duration = Duration::from_millis(500);

/// A job array, each element of which is an engine.
pub(super) struct ArrayJob {
    number: u64,
    squeue: OsString,
    scancel: OsString,
    /// What its files are called, but for the element's number and their kind.
    stem: PathBuf,
    seen: Mutex<Seen>,
}

/// The queue as it was seen last.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    states: HashMap<usize, JobState>,
    /// Of elements that are not named one by one: what never ran, once it is cancelled.
    others: Option<JobState>,
}

impl Seen {
    /// Takes in what `squeue` says now. What is over stays as it was: it is forgotten after a while.
    fn take_in(&mut self, said: &str) {
        self.states.retain(|_, state| *state == JobState::Running || state.is_ended());
        self.states.values_mut().filter(|state| !state.is_ended()).for_each(|state| *state = gone());
        self.others.take_if(|state| !state.is_ended());
        for (index, state) in said.lines().filter_map(read) {
            match index {
                Some(index) => drop(self.states.insert(index, state)),
                None => self.others = Some(state),
            }
        }
    }

    fn of(&self, index: usize) -> JobState {
        self.states.get(&index).or(self.others.as_ref()).cloned().unwrap_or_else(gone)
    }
}

impl ArrayJob {
    pub(super) fn new(number: u64, [squeue, scancel]: [OsString; 2], stem: PathBuf) -> Self {
        Self { number, squeue, scancel, stem, seen: Mutex::default() }
    }

    /// Returns the state of an element, as of a moment ago.
    fn state_of(&self, index: usize) -> JobState {
        let mut seen = self.seen.lock();
        if seen.at.is_none_or(|at| at.elapsed() > FRESH) {
            match self.look() {
                Ok(said) => seen.take_in(&said),
                // It has forgotten the job.
                Err(problem) if problem.contains("Invalid job id") => seen.take_in(""),
                // Its controller is away for a moment, it may be: what was seen counts.
                Err(problem) => {
                    tracing::warn!(job = self.number, problem, "Slurm's queue cannot be looked at");
                    seen.others.get_or_insert(JobState::Waiting { reason: "it cannot be looked at".into() });
                }
            }
            seen.at = Some(Instant::now());
        }
        seen.of(index)
    }

    fn look(&self) -> Result<String, String> {
        let mut argv = vec![self.squeue.clone(), format!("--jobs={}", self.number).into()];
        argv.extend(["--noheader", "--array", "--states=all", "--format=%K|%T|%r"].map(OsString::from));
        run("squeue", &argv, b"").map_err(|error| error.to_string())
    }

    fn cancel(&self, index: usize, more: &[&str]) {
        let mut argv = vec![self.scancel.clone()];
        argv.extend(more.iter().map(OsString::from));
        argv.push(format!("{}_{index}", self.number).into());
        if let Err(error) = run("scancel", &argv, b"") {
            tracing::warn!(job = self.number, index, %error, "a job cannot be cancelled");
        }
        self.seen.lock().at = None;
    }

    fn file(&self, index: usize, end: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(format!("-{index}.{end}"));
        path.into()
    }
}

fn gone() -> JobState {
    JobState::Ended { cause: "it is in Slurm's queue no more".into() }
}

/// Reads what `squeue` says of an element, or of those that are not named.
fn read(line: &str) -> Option<(Option<usize>, JobState)> {
    let mut fields = line.trim().split('|');
    let (index, state, reason) = (fields.next()?, fields.next()?, fields.next()?);
    let index = if index == "N/A" { None } else { Some(index.parse().ok()?) };
    let state = match state {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" => JobState::Waiting { reason: reason.into() },
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" | "RESIZING" | "SIGNALING" | "STAGE_OUT" => {
            JobState::Running
        }
        ended if reason == "None" => JobState::Ended { cause: format!("it is {ended}").into() },
        ended => JobState::Ended { cause: format!("it is {ended} ({reason})").into() },
    };
    Some((index, state))
}

/// Reads the last part of a file; nothing, if it is not there.
fn tail_of(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(KEPT_BYTES_MAX as u64)))?;
        let mut kept = Vec::new();
        file.take(KEPT_BYTES_MAX as u64).read_to_end(&mut kept)?;
        Ok::<_, std::io::Error>(kept)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// An element of a job array: one engine.
pub(super) struct Element {
    array: Arc<ArrayJob>,
    index: usize,
    /// What it printed, once that is in no file any more.
    kept: Mutex<Option<JobOutput>>,
}

impl Element {
    pub(super) fn new(array: Arc<ArrayJob>, index: usize) -> Self {
        Self { array, index, kept: Mutex::default() }
    }
}

impl LaunchedJob for Element {
    fn name(&self) -> String {
        format!("Slurm job {}_{}", self.array.number, self.index)
    }

    fn engines(&self) -> usize {
        1
    }

    fn state(&self) -> JobState {
        match self.array.state_of(self.index) {
            JobState::Ended { cause } => match self.output().last_lines() {
                Some(lines) => JobState::Ended { cause: format!("{cause}; it printed last: {lines}").into() },
                None => JobState::Ended { cause },
            },
            state => state,
        }
    }

    fn output(&self) -> JobOutput {
        if let Some(kept) = &*self.kept.lock() {
            return kept.clone();
        }
        let [stdout, stderr] = ["output", "error"].map(|end| tail_of(&self.array.file(self.index, end)));
        JobOutput { stdout, stderr }
    }

    fn leave(&self) {
        self.array.cancel(self.index, &[]);
    }

    fn kill(&self) {
        // The script is the engine, and a signal for the steps does not reach it.
        self.array.cancel(self.index, &["--full", "--signal=KILL"]);
    }

    fn tidy(&self) {
        let output = self.output();
        self.kept.lock().get_or_insert(output);
        for end in ["output", "error"] {
            let _ = std::fs::remove_file(self.array.file(self.index, end));
        }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        if !self.array.state_of(self.index).is_ended() {
            self.leave();
        }
        self.tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(cause: &str) -> JobState {
        JobState::Ended { cause: cause.into() }
    }

    #[test]
    fn what_squeue_says_is_read_element_by_element() {
        let mut seen = Seen::default();
        seen.take_in("0|RUNNING|None\n1|PENDING|Resources\n2|FAILED|NonZeroExitCode\n 3|COMPLETED|None\n?|?\n\n4|TIMEOUT|TimeLimit\n");
        let expected = [
            JobState::Running,
            JobState::Waiting { reason: "Resources".into() },
            ended("it is FAILED (NonZeroExitCode)"),
            ended("it is COMPLETED"),
            ended("it is TIMEOUT (TimeLimit)"),
            gone(),
        ];
        assert_eq!((0..6).map(|index| seen.of(index)).collect::<Vec<_>>(), expected);
        // What never ran is not named any more once it is cancelled; what is over is forgotten after a while.
        seen.take_in("0|RUNNING|None\nN/A|CANCELLED|Resources\n");
        let states: Vec<_> = (0..5).map(|index| seen.of(index)).collect();
        assert_eq!(states[..2], [JobState::Running, ended("it is CANCELLED (Resources)")]);
        assert_eq!(states[2..], expected[2..5]);
        seen.take_in("");
        assert_eq!(seen.of(0), gone());
        assert_eq!(seen.of(2), expected[2]);
    }

    #[test]
    fn of_a_long_file_the_last_part_is_read_and_of_none_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("output");
        assert_eq!(tail_of(&path), "");
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(tail_of(&path), text[text.len() - KEPT_BYTES_MAX..]);
    }
}
