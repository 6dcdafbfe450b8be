//! The parent's side: starts a child, speaks with it, and sees it end.
//!
//! Each child has a thread here that waits for its end, so nothing is installed in the program: no signal handler.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Addr, ArbiterHandle};
use parking_lot::{Condvar, Mutex};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::child::VARIABLE;
use super::restarts::{Died, Restarts};
use crate::actors::{Lane, Scheduler, Tally, Threads};
use crate::error::Error;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::messages::Completion;
use crate::remote::{Fate, Gateway, GatewayParts, Lost, Said};
use crate::task::EngineId;
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::pump::run;
use crate::wire::session::{Heard, SessionLimits, Speaker};

/// How long a child may take to end after its session has, before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// What children are launched with.
#[derive(Clone)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) scheduler: Addr<Scheduler>,
    pub(crate) finished: Arc<Lane<Completion>>,
    pub(crate) threads: Arc<Threads>,
    /// Where gateways and sessions are.
    pub(crate) arbiter: ArbiterHandle,
    /// Drawn at random when the cluster starts.
    pub(crate) cluster: u64,
    pub(crate) build: u64,
    pub(crate) limits: Limits,
    pub(crate) halt: Arc<Halt>,
}

impl Launcher {
    fn restarts(&self) -> Restarts {
        Restarts::new(self.limits.engine_restarts_max, Duration::from_secs(self.limits.engine_restart_window_s))
    }
}

/// Returns the bounds of a session with an engine.
///
/// What waits to be sent is bounded where it comes from: tasks by admission, outcomes by what was sent.
pub(super) fn session_limits() -> SessionLimits {
    SessionLimits { outbound_bytes_max: usize::MAX, ..SessionLimits::default() }
}

/// Launches an engine, and again whenever it dies; the receiver hears when the first has joined, or why it has not.
pub(crate) fn launch(launcher: Launcher, number: usize) -> oneshot::Receiver<Result<EngineId, Error>> {
    let (tell, told) = oneshot::channel();
    let (threads, tell) = (launcher.threads.clone(), Arc::new(Tell(Mutex::new(Some(tell)))));
    let last = tell.clone();
    let watch = move || {
        if let Err(error) = watch(&launcher, &tell) {
            tracing::error!(%error, "an engine process cannot be launched");
            tell.tell(Err(error));
        }
    };
    if let Err(error) = threads.spawn(format!("cb-process-{number}"), watch) {
        last.tell(Err(error));
    }
    told
}

/// The end of launching, for all children of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    is_over: Mutex<bool>,
    wake: Condvar,
}

impl Halt {
    /// Has no engine launched any more.
    pub(crate) fn halt(&self) {
        *self.is_over.lock() = true;
        self.wake.notify_all();
    }

    /// Waits, unless it is over before; returns whether it is.
    fn wait(&self, wait: Duration) -> bool {
        let mut is_over = self.is_over.lock();
        self.wake.wait_while_for(&mut is_over, |is_over| !*is_over, wait);
        *is_over
    }
}

/// Who waits for an engine to join. The first answer counts.
struct Tell(Mutex<Option<oneshot::Sender<Result<EngineId, Error>>>>);

impl Tell {
    fn tell(&self, result: Result<EngineId, Error>) {
        if let Some(tell) = self.0.lock().take() {
            // Who asked may have gone away.
            let _ = tell.send(result);
        }
    }
}

/// Starts a child, has it attended to, and waits for its end; then starts the next.
fn watch(launcher: &Launcher, tell: &Arc<Tell>) -> Result<(), Error> {
    let failed = |error: io::Error| Error::System { doing: "launching an engine process", reason: error.to_string() };
    let (began, mut restarts, mut has_joined) = (Instant::now(), launcher.restarts(), false);
    loop {
        let (mut child, stream, tally) = start(launcher).map_err(failed)?;
        let pid = Pid::from_child(&child);
        let (tell_end, ended) = oneshot::channel();
        let fate = Arc::new(Fate::default());
        let ended = Ended { pid, told: ended };
        let attend = attend(stream, launcher.clone(), tally, ended, fate.clone(), tell.clone());
        // Where the arbiter is gone the stream is dropped with this, and the child ends.
        launcher.arbiter.spawn(attend);
        // Not reaped at once: as long as it is there, its number is that of its group.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = kill_process_group(pid, Signal::KILL);
        let mut cause = match child.wait() {
            Ok(status) => format!("its process ended with {status}"),
            Err(error) => format!("its process cannot be waited for: {error}"),
        };
        let is_stopped = fate.is_stopped.load(Ordering::Acquire);
        has_joined |= fate.has_joined.load(Ordering::Acquire);
        // Where the first does not join, the next would not either; whoever started the cluster hears of it.
        let is_wanted = has_joined && !is_stopped;
        let died = if fate.has_returned.load(Ordering::Acquire) { Died::AfterWork } else { Died::AtOnce };
        let next = is_wanted.then(|| restarts.next(began.elapsed(), died)).flatten();
        if is_wanted && next.is_none() {
            cause.push_str(", and too often to be launched again");
            tracing::error!(%cause, "an engine process is given up");
        }
        let _ = tell_end.send(cause);
        match next {
            Some(wait) if !launcher.halt.wait(wait) => {}
            _ => return Ok(()),
        }
    }
}

/// Starts a child with a socket as its standard input, in a group of its own.
fn start(launcher: &Launcher) -> io::Result<(Child, UnixStream, File)> {
    /// One at a time: the tally's descriptor is for one child only.
    static STARTING: Mutex<()> = Mutex::new(());
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let tally = tempfile::tempfile()?;
    let number = tally.as_raw_fd();
    let mut command = Command::new(&launcher.program);
    command
        .env(VARIABLE, format!("{number} {:x}", launcher.cluster))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0);
    let _one = STARTING.lock();
    fcntl_setfd(&tally, FdFlags::empty())?;
    let child = command.spawn();
    fcntl_setfd(&tally, FdFlags::CLOEXEC)?;
    Ok((child?, ours, tally))
}

/// The end of a child, which comes some time.
struct Ended {
    pid: Pid,
    told: oneshot::Receiver<String>,
}

impl Ended {
    /// Waits for the end, and brings it about if it does not come; says what it was.
    async fn hear(mut self) -> String {
        let told = match timeout(GRACE, &mut self.told).await {
            Ok(told) => told,
            Err(_) => {
                let _ = kill_process_group(self.pid, Signal::KILL);
                self.told.await
            }
        };
        told.unwrap_or_else(|_| "its process is not watched any more".into())
    }
}

/// Speaks with a child from its first word to its end.
async fn attend(stream: UnixStream, launcher: Launcher, tally: File, ended: Ended, fate: Arc<Fate>, tell: Arc<Tell>) {
    let hello = Hello {
        role: Role::Controller,
        cluster: launcher.cluster,
        incarnation: std::process::id().into(),
        build: launcher.build,
    };
    let greeted = async {
        let mut stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        handshake::welcome(&mut stream, &hello, wait).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(stream)
    };
    let stream = match greeted.await {
        Ok(stream) => stream,
        Err(reason) => {
            let cause = format!("{reason}; {}; its main has to call callboard::init() first", ended.hear().await);
            tracing::error!(%cause, "an engine process has not joined");
            return tell.tell(Err(Error::EngineFailed { cause: cause.into() }));
        }
    };
    let speaker = Speaker::new(session_limits());
    let parts = GatewayParts {
        scheduler: launcher.scheduler,
        finished: launcher.finished,
        speaker: speaker.clone(),
        slots: 1,
        fate,
    };
    let (gateway, joined) = Gateway::join(parts);
    actix::spawn(async move {
        let id = joined.await.unwrap_or(Err(Error::ClusterStopped));
        tell.tell(id);
    });
    let (reader, writer) = stream.into_split();
    let hear = |Heard { message, credit, .. }| {
        gateway.do_send(Said { message, credit });
        Ok(())
    };
    let ending = run(reader, writer, &speaker, hear).await;
    let status = ended.hear().await;
    tracing::debug!(%ending, %status, "an engine process has ended");
    let last = Tally::new(tally).last();
    gateway.do_send(Lost { last, cause: status.into() });
}
