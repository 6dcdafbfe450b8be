//! The bridge: a child process in Python that is a client of the Dask cluster. Starts it, speaks with it, and sees it end.

use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;

use super::entry::Again;
use super::frames::{self, from_bridge, to_bridge};
use super::pending::{Pending, Say};
use super::python::{Python, named};
use super::report::Call;
use crate::error::{Coded, Error, TaskError};
use crate::executors::Job;
use crate::messages::Manner;
use crate::task::{Attempt, beside, check_size};

/// What the bridge runs. It is written to its standard input, behind which the frames come.
const SOURCE: &str = concat!(
    include_str!("bridge/pipe.py"),
    include_str!("bridge/cluster.py"),
    include_str!("bridge/workers.py"),
    include_str!("bridge/tasks.py"),
    include_str!("bridge/main.py"),
);

/// Bytes of frames that are written together, and then those of one more.
const WRITTEN_BYTES_MAX: usize = 256 << 10;

/// How long the bridge may take to clear the workers and end, before it is killed: twice what it gives itself.
const END: Duration = Duration::from_secs(20);

/// A bridge that runs, and whom it speaks for.
pub(super) struct Bridge {
    pub(super) pending: Arc<Pending>,
    /// By what the workers tell what it registers.
    pub(super) session: Box<str>,
    python: Arc<Python>,
    workers: Arc<Workers>,
    has_connected: Arc<AtomicBool>,
}

/// Where a bridge says that it is connected, or why it cannot be.
pub(super) struct Connecting {
    address: Box<str>,
    told: Receiver<Result<(), String>>,
}

/// Those of the cluster, as was last heard.
#[derive(Default)]
struct Workers {
    count: AtomicUsize,
    threads: AtomicUsize,
}

impl Bridge {
    /// Starts it; it connects, and is told before where it is to end.
    ///
    /// # Errors
    /// [`Error::Dask`].
    pub(super) fn start(
        address: &str,
        interpreter: &str,
        session: String,
        configuration: &[u8],
        again: Again,
    ) -> Result<(Self, Connecting), Error> {
        let refused = |problem| refused(address, problem);
        let (say, said) = mpsc::channel();
        let (pending, workers) = (Pending::new(say, again), Arc::<Workers>::default());
        let (ready, told) = mpsc::sync_channel(1);
        let (hears, tells, is_connected) = (pending.clone(), workers.clone(), ready.clone());
        let has_connected = Arc::<AtomicBool>::default();
        let connected = has_connected.clone();
        let on_frame = move |kind, body: Vec<u8>| {
            if kind == from_bridge::READY {
                tracing::info!(facts = %String::from_utf8_lossy(&body), "connected to a Dask cluster");
                let _ = is_connected.try_send(Ok(()));
            } else if kind == from_bridge::CONNECTED {
                connected.store(true, Ordering::Relaxed);
            } else if hear(kind, &body, &hears, &tells).is_none() {
                tracing::error!(kind, bytes = body.len(), "what the bridge to Dask says is cut");
            }
        };
        let loses = pending.clone();
        let on_end = move |cause: &str| {
            // The first answer counts.
            let _ = ready.try_send(Err(cause.to_owned()));
            loses.lose(cause);
        };
        let boot = boot();
        let (python, mut stdin) =
            Python::start("the bridge to Dask", interpreter, &["-c", &boot], on_frame, on_end).map_err(refused)?;
        let bridge = Self { pending, session: session.into(), python, workers, has_connected };
        let mut first = Vec::from(SOURCE);
        frames::put(&mut first, to_bridge::CONFIGURE, &[configuration]);
        let writing = bridge.pending.clone();
        // Not here: an interpreter that does not read may not hold up whoever starts it.
        let write = move || {
            // Where it has ended already, what it says or printed tells why.
            let _ = stdin.write_all(&first);
            write(stdin, &said, &writing);
        };
        named("cb-dask-out", write).map_err(|error| refused(format!("no thread for it: {error}")))?;
        Ok((bridge, Connecting { address: address.into(), told }))
    }

    /// Returns whether it has been connected: what it registers may stay with the workers, and what was left before does not.
    pub(super) fn has_connected(&self) -> bool {
        self.has_connected.load(Ordering::Relaxed)
    }

    /// Returns how many threads the workers have.
    pub(super) fn threads(&self) -> usize {
        self.workers.threads.load(Ordering::Relaxed)
    }

    /// Returns how many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.workers.count.load(Ordering::Relaxed)
    }

    /// Returns what it printed last.
    pub(super) fn printed(&self) -> String {
        self.python.printed()
    }

    /// Has it clear the workers and end; waits for it.
    pub(super) fn finish(&self) {
        self.pending.say(Say::Finish);
        self.python.ends_within(END);
    }
}

impl Connecting {
    /// Waits until the bridge is connected.
    ///
    /// # Errors
    /// [`Error::Dask`].
    pub(super) fn wait(self) -> Result<(), Error> {
        let told = self.told.recv().unwrap_or_else(|_| Err("its thread has ended".into()));
        told.map_err(|problem| refused(&self.address, problem))
    }
}

fn refused(address: &str, problem: String) -> Error {
    Error::Dask { address: address.into(), problem: problem.into() }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.pending.say(Say::Finish);
    }
}

/// What the interpreter is given: to read the source, which is too long for an argument.
fn boot() -> String {
    format!(
        "import os,sys;s=b''\nwhile len(s)<{0}:\n p=os.read(0,{0}-len(s))\n if not p: sys.exit()\n s+=p\n\
         exec(compile(s,'callboard-bridge','exec'))",
        SOURCE.len()
    )
}

/// Hears what the bridge says; `None` if that cannot be read.
fn hear(kind: u8, mut body: &[u8], pending: &Pending, workers: &Workers) -> Option<()> {
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
                let (seq, attempt) = (frames::take_u64(&mut body)?, frames::take_u32(&mut body)?);
                pending.on_running(seq, Attempt(attempt), frames::take_u32(&mut body)?);
            }
        }
        from_bridge::CANCELLED => {
            while !body.is_empty() {
                pending.on_cancelled(frames::take_u64(&mut body)?);
            }
        }
        from_bridge::WORKERS => {
            workers.count.store(frames::take_u32(&mut body)? as usize, Ordering::Relaxed);
            workers.threads.store(frames::take_u32(&mut body)? as usize, Ordering::Relaxed);
        }
        from_bridge::ANSWER => pending.on_answer(frames::take_u64(&mut body)?),
        _ => return None,
    }
    Some(())
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
    let Some((job, copy)) = pending.to_send(seq) else { return };
    let call = match copy.map_or_else(|| encode(&job), Ok) {
        Ok(call) => call,
        Err(error) => return pending.settle(seq, Err(error)),
    };
    job.free_arguments();
    // Behind the arguments' own code, which may have taken its time.
    if let Some(attempt) = pending.on_sent(seq, &call) {
        let name = job.kind().short_name().as_bytes();
        let length = u16::try_from(name.len()).expect("a function's name is short").to_le_bytes();
        let (seq, attempt) = (seq.to_le_bytes(), attempt.0.to_le_bytes());
        frames::put(bytes, to_bridge::CALL, &[&length, name, &seq, &attempt, &call]);
    }
}

/// Encodes a call. Runs code of the user's, behind its door.
fn encode(job: &Job) -> Result<Bytes, TaskError> {
    let mut blobs: Vec<Bytes> = Vec::new();
    let mut wire = beside(&mut blobs, || job.encode())?;
    wire.blobs = blobs;
    let name = job.kind().name;
    check_size(wire.inline.len(), &wire.blobs)
        .map_err(|reason| TaskError::undecodable(Coded::Arguments, name, &reason))?;
    let call = Call::of(job.id(), job.kind(), wire);
    Ok(postcard::to_stdvec(&call).expect("a vector grows, and bytes can be encoded").into())
}
