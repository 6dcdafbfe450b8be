//! A child process in Python, whose source is in this program: starts it, hears it, and sees it end.
//!
//! It leads a group of its own: what interrupts this program at a terminal is this program's to tell. Its standard input ends when
//! this program does, however that ends, and it is to end by that.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::watch;

use super::frames::{self, from_bridge};
use crate::async_result::Reply;
use crate::catch::shortened;

/// Lines of what it printed last that are told with its end.
const LINES_TOLD: usize = 3;

/// Longest line that is logged, in bytes: what is printed without an end is cut, or it would be kept without a bound.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Longest line that is told with its end, in bytes.
const LINE_BYTES_TOLD: usize = 1 << 10;

/// How long it may take to end when it has said why it cannot go on, before it is killed: twice what it gives itself.
const END: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });

/// How long what it prints is waited for when it has ended: what a task of its has started may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A child process in Python.
pub(super) struct Python {
    /// What it is, in what is told of it.
    what: &'static str,
    /// The group that it leads, until it is reaped.
    group: Mutex<Option<Pid>>,
    /// What it printed last.
    lines: Mutex<Vec<String>>,
    is_over: watch::Sender<bool>,
}

/// Returns the interpreter to use: this one, or that of the environment, or the usual one.
pub(super) fn interpreter(named: Option<&str>) -> String {
    let named = named.map(str::to_owned);
    // One that is empty names nothing, as to a shell.
    let of_environment = || std::env::var("CALLBOARD_PYTHON").ok().filter(|name| !name.is_empty());
    named.or_else(of_environment).unwrap_or_else(|| "python3".into())
}

impl Python {
    /// Starts it. `on_frame` hears its frames, but for the one that says why it cannot go on; `on_end` why it has ended.
    ///
    /// # Errors
    /// Why it cannot be started, and what to do.
    pub(super) fn start(
        what: &'static str,
        interpreter: &str,
        args: &[&str],
        mut on_frame: impl FnMut(u8, Vec<u8>) + Send + 'static,
        on_end: impl FnOnce(&str) + Send + 'static,
    ) -> Result<(Arc<Self>, ChildStdin), String> {
        let (mut child, stdin, stdout, stderr) =
            spawn(interpreter, args).map_err(|error| cannot_start(interpreter, &error))?;
        let python = Arc::new(Self {
            what,
            group: Mutex::new(Some(Pid::from_child(&child))),
            lines: Mutex::default(),
            is_over: watch::Sender::new(false),
        });
        let (prints, printed) = mpsc::channel::<()>();
        let reading = python.clone();
        let read_lines = move || {
            reading.read_lines(stderr);
            drop(prints);
        };
        let hearing = python.clone();
        let hear = move || {
            let failed = hearing.hear(stdout, &mut on_frame);
            let ended = hearing.reap(&mut child);
            // An `Err` either way: what it printed has been read, or is not waited for.
            let _ = printed.recv_timeout(LAST_WORDS);
            on_end(&failed.unwrap_or_else(|| hearing.in_words(ended)));
            hearing.is_over.send_replace(true);
        };
        let no_thread = |error| format!("no thread for it: {error}");
        named("cb-dask-log", read_lines).map_err(no_thread)?;
        named("cb-dask", hear).map_err(no_thread)?;
        Ok((python, stdin))
    }

    /// Returns what it printed last.
    pub(super) fn printed(&self) -> String {
        self.lines.lock().join("\n")
    }

    /// Waits until it has ended, and kills it where that takes longer. Not on a thread that drives a runtime.
    pub(super) fn ends_within(&self, wait: Duration) {
        if self.over().get_timeout(wait).is_err() {
            tracing::warn!("{} does not end, and is killed", self.what);
            self.kill();
            // Cannot fail: the sender is here.
            let _ = self.over().get();
        }
    }

    /// Kills it, and what is in its group.
    pub(super) fn kill(&self) {
        if let Some(group) = *self.group.lock() {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Answers when it has ended.
    pub(super) fn over(&self) -> Reply<()> {
        let mut is_over = self.is_over.subscribe();
        Reply::new(async move {
            // An `Err` is one that nobody holds any more, its thread neither.
            let _ = is_over.wait_for(|&is_over| is_over).await;
            Ok(())
        })
    }

    /// Hears what it says until it says no more; returns why it cannot go on, if it says so.
    fn hear(self: &Arc<Self>, stdout: ChildStdout, on_frame: &mut impl FnMut(u8, Vec<u8>)) -> Option<String> {
        let mut from = BufReader::with_capacity(256 << 10, stdout);
        let mut failed = None;
        loop {
            match frames::read(&mut from) {
                Ok(Some((from_bridge::FAILED, text))) => {
                    failed = Some(String::from_utf8_lossy(&text).into_owned());
                    self.begin_to_end();
                }
                Ok(Some((kind, body))) => on_frame(kind, body),
                Ok(None) => return failed,
                Err(error) => {
                    // Nothing that it says is heard any more, and its end is what settles everything.
                    self.kill();
                    return failed.or_else(|| Some(format!("what {} says cannot be read: {error}", self.what)));
                }
            }
        }
    }

    /// Sees to it that it ends in time.
    fn begin_to_end(self: &Arc<Self>) {
        let ending = self.clone();
        if let Err(error) = named("cb-dask-end", move || ending.ends_within(END)) {
            tracing::error!(%error, "no thread to see {} end on", self.what);
            self.kill();
        }
    }

    /// Hands on what it prints.
    fn read_lines(&self, stderr: ChildStderr) {
        let (mut from, mut line) = (BufReader::new(stderr), Vec::new());
        while matches!(from.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line), Ok(1..)) {
            self.on_line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }

    fn on_line(&self, line: &str) {
        if line.is_empty() {
            return;
        }
        tracing::warn!(target: "callboard::dask", "{line}");
        let mut lines = self.lines.lock();
        if lines.len() == LINES_TOLD {
            lines.remove(0);
        }
        lines.push(shortened(line, LINE_BYTES_TOLD).to_owned());
    }

    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let _ = waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *self.group.lock() = None;
        child.wait()
    }

    fn in_words(&self, ended: io::Result<ExitStatus>) -> String {
        let mut cause = match ended {
            Ok(status) => format!("{} ended with {status}", self.what),
            Err(error) => format!("{} cannot be waited for: {error}", self.what),
        };
        let lines = self.lines.lock();
        if !lines.is_empty() {
            cause.push_str("; it printed last: ");
            cause.push_str(&lines.join(" / "));
        }
        cause
    }
}

/// Runs something on a thread of this name.
pub(super) fn named(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

fn spawn(interpreter: &str, args: &[&str]) -> io::Result<(Child, ChildStdin, ChildStdout, ChildStderr)> {
    let mut command = Command::new(interpreter);
    command.arg("-u").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    Ok((child, stdin, stdout, stderr))
}

fn cannot_start(interpreter: &str, error: &io::Error) -> String {
    format!(
        "the interpreter {interpreter} cannot be started: {error}; name another by CALLBOARD_PYTHON, or python(..) \
         of its builder, with distributed installed (python3 -m pip install distributed)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns why a child that does this has ended. It is no Python: what is tested here does not depend on that.
    fn end_of(script: &str) -> String {
        let (tell, told) = mpsc::channel();
        let on_end = move |cause: &str| drop(tell.send(cause.to_owned()));
        let (_python, _stdin) = Python::start("the child", "sh", &["-c", script], |_, _| (), on_end).unwrap();
        told.recv_timeout(Duration::from_secs(10)).expect("it ends in time")
    }

    #[test]
    fn what_is_printed_without_an_end_is_cut() {
        let cause = end_of("head -c 1000000 /dev/zero | tr '\\0' x >&2");
        assert!(cause.starts_with("the child ended with exit status: 0; it printed last: xxx"), "{cause:.80}");
        assert!(cause.len() < 4_000, "{} bytes", cause.len());
    }

    #[test]
    fn a_child_that_says_what_cannot_be_read_is_killed() {
        let cause = end_of("printf '\\377\\377\\377\\377\\0'; exec sleep 60");
        assert_eq!(cause, "what the child says cannot be read: a frame of 4294967295 bytes");
    }

    #[test]
    fn a_child_that_cannot_go_on_and_does_not_end_is_killed() {
        assert_eq!(end_of("printf '\\3\\0\\0\\0\\0why'; exec sleep 60"), "why");
    }
}
