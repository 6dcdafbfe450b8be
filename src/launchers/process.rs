//! A process of this machine that was started for engines: an engine itself, or the command that starts some elsewhere.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::launcher::{JobOutput, JobState, LaunchedJob};
use super::launches::LOOK;
use super::tail::Tail;
use crate::error::Error;

/// What is to be started.
#[derive(Clone)]
pub(crate) struct Start {
    /// What it is, in words.
    pub(crate) name: String,
    pub(crate) argv: Vec<OsString>,
    /// Where it runs, if not where we do.
    pub(crate) folder: Option<PathBuf>,
    /// What it gets on its standard input, which is then kept open; nothing, if `None`.
    pub(crate) stdin: Option<String>,
    pub(crate) engines: usize,
    /// What to do where it ends with one of these codes.
    pub(crate) hints: &'static [(i32, &'static str)],
}

/// A process that was started, in a group of its own. Dropping it kills the group.
pub(crate) struct ProcessJob {
    start: Start,
    watched: Arc<Watched>,
}

/// What the threads of a process tell.
struct Watched {
    /// The group that it leads, until it is reaped.
    group: Mutex<Option<Pid>>,
    /// What its engines hang on.
    stdin: Mutex<Option<ChildStdin>>,
    printed: [Mutex<Tail>; 2],
    ended: Mutex<Option<Ended>>,
    /// All of the group was told to leave by a signal, and has not been killed.
    is_leaving: AtomicBool,
}

/// How a process ended.
struct Ended {
    cause: Box<str>,
    /// It said so itself, as an engine does that leaves.
    in_good_order: bool,
}

impl ProcessJob {
    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Launch`] if there is no such program, or no process to be had.
    pub(crate) fn start(start: Start) -> Result<Self, Error> {
        let Start { name, argv, folder, stdin, hints, .. } = &start;
        let hints = *hints;
        let failed = |error: io::Error| {
            let program = argv.first().map(|program| program.display().to_string()).unwrap_or_default();
            let problem = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no program {program} on this machine; install it, or name where it is")
                }
                _ => format!("{program} cannot be started: {error}"),
            };
            Error::Launch { by: name.as_str().into(), problem: problem.into() }
        };
        let (child, watched, reading) = spawn(argv, folder.as_deref(), stdin.as_deref()).map_err(failed)?;
        let (watching, end) = (watched.clone(), move |status| told(status, hints));
        let wait = move || watching.wait(child, reading, end);
        thread::Builder::new().name("cb-launched".into()).spawn(wait).map_err(failed)?;
        Ok(Self { start, watched })
    }
}

/// Starts a process and the thread that reads what it prints; that ends when what it returns is dropped.
fn spawn(argv: &[OsString], folder: Option<&Path>, stdin: Option<&str>) -> io::Result<(Child, Arc<Watched>, Reading)> {
    let [program, args @ ..] = argv else { return Err(io::ErrorKind::NotFound.into()) };
    let ((stdout, stdout_end), (stderr, stderr_end), (is_over, end)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let mut command = Command::new(program);
    let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    command.args(args).stdin(input).stdout(stdout_end).stderr(stderr_end).process_group(0);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let mut child = spawn_when_written(&mut command)?;
    // Our ends of what it prints go with the command.
    drop(command);
    let mut leash = child.stdin.take();
    if let (Some(leash), Some(text)) = (&mut leash, stdin) {
        // It fits into a pipe. A process that has ended already tells why by itself.
        let _ = leash.write_all(text.as_bytes());
    }
    let watched = Arc::new(Watched {
        group: Mutex::new(Some(Pid::from_child(&child))),
        stdin: Mutex::new(leash),
        printed: Default::default(),
        ended: Mutex::new(None),
        is_leaving: AtomicBool::new(false),
    });
    let told = watched.clone();
    let pipes = [stdout, stderr].map(|pipe: PipeReader| File::from(OwnedFd::from(pipe)));
    let read = move || told.read(pipes, &is_over);
    match thread::Builder::new().name("cb-launched-out".into()).spawn(read) {
        Ok(thread) => Ok((child, watched, Reading { thread, end })),
        Err(error) => {
            watched.signal(Signal::KILL);
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Starts a program that was written a moment ago: another thread may have started another meanwhile, and that has the file open for
/// writing until it is itself.
fn spawn_when_written(command: &mut Command) -> io::Result<Child> {
    for _ in 0..100 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(LOOK),
            other => return other,
        }
    }
    command.spawn()
}

/// The thread that reads what a process prints.
struct Reading {
    thread: thread::JoinHandle<()>,
    /// Dropped when the process is over.
    end: PipeWriter,
}

/// Says how a process ended, and what to do.
fn told(status: ExitStatus, hints: &[(i32, &str)]) -> String {
    let hint = hints.iter().find(|(code, _)| status.code() == Some(*code));
    hint.map_or_else(|| format!("it ended with {status}"), |(_, hint)| format!("it ended with {status} ({hint})"))
}

impl Watched {
    /// Waits for the end of a process, ends what is left of its group, and notes how it ended when all that it printed is read.
    fn wait(&self, mut child: Child, reading: Reading, told: impl FnOnce(ExitStatus) -> String) {
        // Not reaped at once: as long as it is there, its number is that of its group.
        let _ = waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        // A shell dies of the signal that its engines heed. As long as one of these may print, it is there.
        while self.is_leaving.load(Ordering::Acquire) && !reading.thread.is_finished() {
            thread::sleep(LOOK);
        }
        if let Some(group) = self.group.lock().take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let ended = child.wait();
        drop(self.stdin.lock().take());
        let Reading { thread, end } = reading;
        drop(end);
        let _ = thread.join();
        let (mut cause, in_good_order) = match ended {
            Ok(status) => (told(status), status.success()),
            Err(error) => (format!("it cannot be waited for: {error}"), false),
        };
        if let Some(lines) = self.output().last_lines() {
            cause.push_str("; it printed last: ");
            cause.push_str(&lines);
        }
        *self.ended.lock() = Some(Ended { cause: cause.into(), in_good_order });
    }

    /// Reads what a process prints, until it is over; then what is there. Others may hold the pipes for longer.
    fn read(&self, pipes: [File; 2], is_over: &PipeReader) {
        const WAITS: Option<&Timespec> = None;
        const LOOKS: Option<&Timespec> = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        let (mut open, mut wait, mut bytes) = (vec![(0, &pipes[0]), (1, &pipes[1])], WAITS, [0; 8 << 10]);
        while !open.is_empty() {
            let polled = open.iter().map(|(_, pipe)| pipe.as_fd()).chain([is_over.as_fd()]);
            let mut polled: Vec<_> = polled.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)).collect();
            match poll(&mut polled, wait) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let mut is_ready: Vec<_> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
            if is_ready.pop() == Some(true) {
                wait = LOOKS;
            }
            if wait == LOOKS && !is_ready.contains(&true) {
                return;
            }
            let mut ready = is_ready.into_iter();
            open.retain(|(stream, pipe)| {
                if ready.next() != Some(true) {
                    return true;
                }
                let mut pipe = *pipe;
                let count = pipe.read(&mut bytes).unwrap_or(0);
                self.printed[*stream].lock().add(&bytes[..count]);
                count > 0
            });
        }
    }

    fn output(&self) -> JobOutput {
        let [stdout, stderr] = self.printed.each_ref().map(|printed| printed.lock().text());
        JobOutput { stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = *self.group.lock() {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl LaunchedJob for ProcessJob {
    fn name(&self) -> String {
        self.start.name.clone()
    }

    fn engines(&self) -> usize {
        self.start.engines
    }

    fn state(&self) -> JobState {
        match &*self.watched.ended.lock() {
            Some(Ended { cause, .. }) => JobState::Ended { cause: cause.clone() },
            None => JobState::Running,
        }
    }

    fn has_died(&self) -> Option<bool> {
        Some(self.watched.ended.lock().as_ref().is_some_and(|ended| !ended.in_good_order))
    }

    fn again(&self) -> Result<Box<dyn LaunchedJob>, Error> {
        Ok(Box::new(Self::start(self.start.clone())?))
    }

    fn output(&self) -> JobOutput {
        self.watched.output()
    }

    fn leave(&self) {
        // What it hangs on, if it does; then it says goodbye by itself, wherever it runs.
        if self.watched.stdin.lock().take().is_none() {
            self.watched.is_leaving.store(true, Ordering::Release);
            self.watched.signal(Signal::TERM);
        }
    }

    fn kill(&self) {
        self.watched.is_leaving.store(false, Ordering::Release);
        self.watched.signal(Signal::KILL);
    }
}

impl Drop for ProcessJob {
    fn drop(&mut self) {
        self.leave();
        self.kill();
    }
}
