//! The bridge: a child process in Python that is a client of the Dask cluster. Starts it, speaks with it, and sees it end.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::watch;

use super::frames::{self, from_bridge, to_bridge};
use super::pending::{Pending, Say};
use super::report::Call;
use crate::error::{Coded, Error, TaskError};
use crate::executors::Job;
use crate::messages::Manner;
use crate::task::{beside, check_size};

/// What the bridge runs. It is written to its standard input, behind which the frames come.
const SOURCE: &str = include_str!("bridge.py");

/// Bytes of frames that are written together, and then those of one more.
const WRITTEN_BYTES_MAX: usize = 256 << 10;

/// How long the bridge may take to clear the workers and end, before it is killed: twice what it gives itself.
const END: Duration = Duration::from_secs(20);

/// Lines of what the bridge printed last that are told with its end.
const LINES_TOLD: usize = 3;

/// A bridge that runs, and whom it speaks for.
pub(super) struct Bridge {
    pub(super) pending: Arc<Pending>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The group that it leads, until it is reaped.
    group: Mutex<Option<Pid>>,
    /// Threads of all workers.
    threads: AtomicUsize,
    workers: AtomicUsize,
    /// What it printed last.
    lines: Mutex<Vec<String>>,
    is_over: watch::Sender<bool>,
}

impl Bridge {
    /// Starts it and waits until it is connected.
    ///
    /// # Errors
    /// [`Error::Dask`].
    pub(super) fn start(address: &str, python: &str, configuration: &[u8]) -> Result<Self, Error> {
        let refused = |problem: String| Error::Dask { address: address.into(), problem: problem.into() };
        let (mut child, mut stdin, stdout, stderr) =
            spawn(python).map_err(|error| refused(cannot_start(python, &error)))?;
        let (say, said) = mpsc::channel();
        let pending = Pending::new(say);
        let shared = Arc::new(Shared {
            group: Mutex::new(Some(Pid::from_child(&child))),
            threads: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            lines: Mutex::default(),
            is_over: watch::Sender::new(false),
        });
        let bridge = Self { pending: pending.clone(), shared: shared.clone() };
        let mut first = Vec::from(SOURCE);
        frames::put(&mut first, to_bridge::CONFIGURE, &[configuration]);
        // Where it has ended already, what it says or printed tells why.
        let _ = stdin.write_all(&first);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let reading = shared.clone();
        let printed = named("cb-dask-log", move || reading.read_lines(stderr));
        let read = move || {
            let failed = shared.read(stdout, &pending, &ready);
            let ended = shared.reap(&mut child);
            let _ = printed.map(thread::JoinHandle::join);
            let cause = failed.unwrap_or_else(|| shared.in_words(ended));
            // The first answer counts.
            let _ = ready.try_send(Err(cause.clone()));
            pending.lose(&cause);
            shared.is_over.send_replace(true);
        };
        named("cb-dask", read).map_err(|error| refused(format!("no thread for it: {error}")))?;
        is_ready.recv().unwrap_or_else(|_| Err("its thread has ended".into())).map_err(refused)?;
        let writing = bridge.pending.clone();
        named("cb-dask-out", move || write(stdin, &said, &writing))
            .map_err(|error| refused(format!("no thread for it: {error}")))?;
        Ok(bridge)
    }

    /// Returns how many threads the workers have.
    pub(super) fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    /// Returns how many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.shared.workers.load(Ordering::Relaxed)
    }

    /// Returns what it printed last.
    pub(super) fn printed(&self) -> String {
        self.shared.lines.lock().join("\n")
    }

    /// Has it clear the workers and end; waits for it.
    pub(super) fn finish(&self) {
        self.pending.say(Say::Finish);
        let mut is_over = self.over();
        let shared = self.shared.clone();
        let killing = named("cb-dask-end", move || shared.kill_after(END));
        // Cannot fail: the sender is in `shared`. This thread drives no runtime.
        let _ = crate::async_result::Reply::new(async move {
            let _ = is_over.wait_for(|&is_over| is_over).await;
            Ok(())
        })
        .get();
        drop(killing);
    }

    /// Tells when it has ended.
    pub(super) fn over(&self) -> watch::Receiver<bool> {
        self.shared.is_over.subscribe()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.pending.say(Say::Finish);
    }
}

fn named<R: Send + 'static>(name: &str, run: impl FnOnce() -> R + Send + 'static) -> io::Result<thread::JoinHandle<R>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn spawn(python: &str) -> io::Result<(Child, ChildStdin, ChildStdout, ChildStderr)> {
    let boot = format!(
        "import os,sys;s=b''\nwhile len(s)<{0}:\n p=os.read(0,{0}-len(s))\n if not p: sys.exit()\n s+=p\n\
         exec(compile(s,'callboard-bridge','exec'))",
        SOURCE.len()
    );
    let mut command = Command::new(python);
    command.args(["-u", "-c", &boot]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what interrupts this program at a terminal is this program's to tell.
    let mut child = command.process_group(0).spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    Ok((child, stdin, stdout, stderr))
}

fn cannot_start(python: &str, error: &io::Error) -> String {
    format!(
        "the interpreter {python} cannot be started: {error}; name another by CALLBOARD_PYTHON or DaskBuilder::python, \
         with distributed installed (python3 -m pip install distributed)"
    )
}

impl Shared {
    /// Hears what the bridge says until it says no more; returns why it cannot go on, if it says so.
    fn read(
        &self,
        stdout: ChildStdout,
        pending: &Pending,
        ready: &mpsc::SyncSender<Result<(), String>>,
    ) -> Option<String> {
        let mut from = BufReader::with_capacity(256 << 10, stdout);
        let mut failed = None;
        loop {
            match frames::read(&mut from) {
                Ok(Some((from_bridge::FAILED, text))) => failed = Some(String::from_utf8_lossy(&text).into_owned()),
                Ok(Some((from_bridge::READY, facts))) => {
                    tracing::info!(facts = %String::from_utf8_lossy(&facts), "connected to a Dask cluster");
                    let _ = ready.try_send(Ok(()));
                }
                Ok(Some((kind, body))) => {
                    if self.on_frame(kind, &body, pending).is_none() {
                        tracing::error!(kind, bytes = body.len(), "what the bridge to Dask says is cut");
                    }
                }
                Ok(None) => return failed,
                Err(error) => return failed.or_else(|| Some(format!("what its bridge says cannot be read: {error}"))),
            }
        }
    }

    fn on_frame(&self, kind: u8, mut body: &[u8], pending: &Pending) -> Option<()> {
        match kind {
            from_bridge::VALUE | from_bridge::TASK_FAILED => pending.on_report(frames::take_u64(&mut body)?, body),
            from_bridge::ENGINE_LOST => {
                let (seq, pid) = (frames::take_u64(&mut body)?, frames::take_u32(&mut body)?);
                pending.on_engine_lost(seq, pid, &String::from_utf8_lossy(body));
            }
            from_bridge::DASK_FAILED => {
                let seq = frames::take_u64(&mut body)?;
                pending.on_given_up(seq, &String::from_utf8_lossy(body));
            }
            from_bridge::RUNNING => {
                while !body.is_empty() {
                    pending.on_running(frames::take_u64(&mut body)?, frames::take_u32(&mut body)?);
                }
            }
            from_bridge::CANCELLED => {
                while !body.is_empty() {
                    pending.on_cancelled(frames::take_u64(&mut body)?);
                }
            }
            from_bridge::WORKERS => {
                self.workers.store(frames::take_u32(&mut body)? as usize, Ordering::Relaxed);
                self.threads.store(frames::take_u32(&mut body)? as usize, Ordering::Relaxed);
            }
            from_bridge::ANSWER => pending.on_answer(frames::take_u64(&mut body)?),
            _ => return None,
        }
        Some(())
    }

    /// Hands on what the bridge prints.
    fn read_lines(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                continue;
            }
            tracing::warn!(target: "callboard::dask", "{line}");
            let mut lines = self.lines.lock();
            if lines.len() == LINES_TOLD {
                lines.remove(0);
            }
            lines.push(line);
        }
    }

    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let _ = waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *self.group.lock() = None;
        child.wait()
    }

    fn in_words(&self, ended: io::Result<ExitStatus>) -> String {
        let mut cause = match ended {
            Ok(status) => format!("the bridge to Dask ended with {status}"),
            Err(error) => format!("the bridge to Dask cannot be waited for: {error}"),
        };
        let lines = self.lines.lock();
        if !lines.is_empty() {
            cause.push_str("; it printed last: ");
            cause.push_str(&lines.join(" / "));
        }
        cause
    }

    /// Kills it unless it ends in time.
    fn kill_after(&self, wait: Duration) {
        let until = std::time::Instant::now() + wait;
        while self.group.lock().is_some() {
            if std::time::Instant::now() >= until {
                tracing::warn!("the bridge to Dask does not end, and is killed");
                if let Some(group) = *self.group.lock() {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Says to the bridge what there is to say, together where it comes together, until it is to end.
fn write(mut stdin: ChildStdin, said: &Receiver<Say>, pending: &Pending) {
    let mut bytes = Vec::new();
    while let Ok(first) = said.recv() {
        let mut next = Some(first);
        let mut is_last = false;
        while let Some(what) = next {
            is_last |= matches!(what, Say::Finish);
            put(&mut bytes, what, pending);
            next = if bytes.len() < WRITTEN_BYTES_MAX && !is_last { said.try_recv().ok() } else { None };
        }
        // Where it is gone, its end settles what it had.
        if stdin.write_all(&bytes).is_err() || is_last {
            return;
        }
        bytes.clear();
        bytes.shrink_to(2 * WRITTEN_BYTES_MAX);
    }
}

fn put(bytes: &mut Vec<u8>, what: Say, pending: &Pending) {
    match what {
        Say::Call(seq) => put_call(bytes, seq, pending),
        Say::Cancel(seq, Manner::Ask) => frames::put(bytes, to_bridge::CANCEL, &[&seq.to_le_bytes()]),
        Say::Cancel(seq, Manner::Force) => frames::put(bytes, to_bridge::KILL, &[&seq.to_le_bytes()]),
        Say::Ask(number) => frames::put(bytes, to_bridge::ASK, &[&number.to_le_bytes()]),
        Say::Leave => frames::put(bytes, to_bridge::LEAVE, &[]),
        Say::KillEngines => frames::put(bytes, to_bridge::KILL_ENGINES, &[]),
        Say::Finish => frames::put(bytes, to_bridge::FINISH, &[]),
    }
}

fn put_call(bytes: &mut Vec<u8>, seq: u64, pending: &Pending) {
    let Some(job) = pending.to_send(seq) else { return };
    match encode(&job) {
        Ok(call) => {
            job.free_arguments();
            // Behind the arguments' own code, which may have taken its time.
            if pending.on_sent(seq) {
                let name = job.kind().short_name().as_bytes();
                let length = u16::try_from(name.len()).expect("a function's name is short").to_le_bytes();
                frames::put(bytes, to_bridge::CALL, &[&length, name, &seq.to_le_bytes(), &call]);
            }
        }
        Err(error) => pending.settle(seq, Err(error)),
    }
}

/// Encodes a call. Runs code of the user's, behind its door.
fn encode(job: &Job) -> Result<Vec<u8>, TaskError> {
    let mut blobs: Vec<Bytes> = Vec::new();
    let mut wire = beside(&mut blobs, || job.encode())?;
    wire.blobs = blobs;
    let name = job.kind().name;
    check_size(wire.inline.len(), &wire.blobs)
        .map_err(|reason| TaskError::undecodable(Coded::Arguments, name, &reason))?;
    Ok(postcard::to_stdvec(&Call::of(job.id(), job.kind(), wire)).expect("a vector grows, and bytes can be encoded"))
}
