//! The parent's side: starts a child, speaks with it, and sees it end.
//!
//! Each child has a thread here that waits for its end, so nothing is installed in the program: no signal handler.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Addr, ArbiterHandle};
use parking_lot::{Condvar, Mutex};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::First;
use super::child::VARIABLE;
use super::first::UNFIT;
use super::forward::Forward;
use super::hand_down::{Follows, hand_down};
use super::restarts::{Died, Restarts};
use super::tally::Tally;
use crate::actors::{Lane, Scheduler, Threads};
use crate::error::Error;
use crate::ledger::EngineOffer;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::messages::Completion;
use crate::remote::{self, Begun, Fate, Gateway, GatewayParts, Lost, Mark, Process};
use crate::task::{Attempt, EngineId, Stream, TaskId, last_words};
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// How long a child may take to end after its session has, before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// What children are launched with.
#[derive(Clone)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) scheduler: Addr<Scheduler>,
    pub(crate) finished: Arc<Lane<Completion>>,
    pub(crate) threads: Arc<Threads>,
    /// Where gateways and sessions are.
    pub(crate) arbiter: ArbiterHandle,
    /// Drawn at random when the cluster starts.
    pub(crate) cluster: u64,
    pub(crate) build: u64,
    pub(crate) limits: Limits,
    /// How many tasks a child may run before it is replaced, if that is bounded.
    pub(crate) tasks_max: Option<u32>,
    /// What a child runs before anything else.
    pub(crate) first: Option<First>,
    /// Where what children print goes.
    pub(crate) forward: Forward,
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
fn session_limits() -> SessionLimits {
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
#[derive(Debug)]
pub(crate) struct Halt {
    is_over: Mutex<bool>,
    wake: Condvar,
    /// Closed when it is over.
    launching: Semaphore,
}

impl Default for Halt {
    fn default() -> Self {
        Self { is_over: Mutex::default(), wake: Condvar::new(), launching: Semaphore::new(0) }
    }
}

impl Halt {
    /// Waits until it is over.
    async fn over(&self) {
        // There are no permits.
        let _ = self.launching.acquire().await;
    }

    /// Has no engine launched any more.
    pub(crate) fn halt(&self) {
        *self.is_over.lock() = true;
        self.wake.notify_all();
        self.launching.close();
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
    let failed = |error: io::Error| {
        let program = launcher.program.display();
        Error::System { doing: "launching an engine process", reason: format!("{program}: {error}") }
    };
    let (began, mut restarts, mut has_joined) = (Instant::now(), launcher.restarts(), false);
    loop {
        let Started { mut child, stream, leash, printed } = start(launcher).map_err(failed)?;
        let (tell_end, ended) = oneshot::channel();
        let fate = Arc::new(Fate::default());
        let ended = Ended { leash: leash.clone(), told: ended };
        let attend = attend(stream, launcher.clone(), printed, ended, fate.clone(), tell.clone());
        // Where the arbiter is gone the stream is dropped with this, and the child ends.
        launcher.arbiter.spawn(attend);
        // Not reaped at once: as long as it is there, its number is that of its group.
        let _ = waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        leash.let_go();
        let (status, mut cause) = match child.wait() {
            Ok(status) => (Some(status), format!("its process ended with {status}")),
            Err(error) => (None, format!("its process cannot be waited for: {error}")),
        };
        let is_unfit = launcher.first.is_some() && status.is_some_and(|status| status.code() == Some(UNFIT));
        has_joined |= fate.has_joined.load(Ordering::Acquire);
        let last = leash.begun();
        let is_last = |(task, attempt): &(TaskId, Attempt)| last == Begun::UpTo(Mark::of(*task, *attempt));
        let killed_for = fate.killed_for.lock().filter(is_last);
        let next = if fate.is_worn_out.load(Ordering::Acquire) {
            Some(Duration::ZERO)
        } else if let Some((task, _)) = killed_for {
            cause = format!("its process was killed because task {task} was cancelled by force");
            Some(Duration::ZERO)
        } else if is_unfit {
            // The next would fail too; whoever gave the initializer decides.
            None
        } else if has_joined && !fate.is_stopped.load(Ordering::Acquire) {
            let died = if fate.has_returned.load(Ordering::Acquire) { Died::AfterWork } else { Died::AtOnce };
            let next = restarts.next(began.elapsed(), died);
            if next.is_none() {
                cause.push_str(", and too often to be launched again");
                tracing::error!(%cause, "an engine process is given up");
            }
            next
        } else {
            // Where the first does not join, the next would not either; whoever started the cluster hears of it.
            None
        };
        let _ = tell_end.send(End { cause, is_unfit });
        match next {
            Some(wait) if !launcher.halt.wait(wait) => {}
            _ => return Ok(()),
        }
    }
}

/// A child that was started.
struct Started {
    child: Child,
    stream: UnixStream,
    leash: Arc<Leash>,
    /// What it prints and does not read itself.
    printed: [PipeReader; 2],
}

/// Starts a child with a socket as its standard input, in a group of its own.
fn start(launcher: &Launcher) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ((stdout, stdout_end), (stderr, stderr_end)) = (io::pipe()?, io::pipe()?);
    ioctl_fionbio(&stdout, true)?;
    ioctl_fionbio(&stderr, true)?;
    let tally = Tally::new()?;
    let follows = if launcher.first.is_some() { Follows::Initializer } else { Follows::Nothing };
    hand_down(&ours, [tally.as_fd(), stdout.as_fd(), stderr.as_fd()], follows)?;
    let mut command = Command::new(&launcher.program);
    command
        .args(&launcher.args)
        .env(VARIABLE, format!("{:x}", launcher.cluster))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout_end)
        .stderr(stderr_end)
        .process_group(0);
    let child = command.spawn()?;
    let leash = Arc::new(Leash { group: Mutex::new(Some(Pid::from_child(&child))), tally });
    Ok(Started { child, stream: ours, leash, printed: [stdout, stderr] })
}

/// What is held of a child: the group that it leads, until it is reaped, and what it has begun.
struct Leash {
    group: Mutex<Option<Pid>>,
    tally: Tally,
}

impl Leash {
    /// Kills what is left of the group. Its number may be another's after this.
    fn let_go(&self) {
        if let Some(group) = self.group.lock().take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Process for Leash {
    fn begun(&self) -> Begun {
        self.tally.last().map_or(Begun::Nothing, Begun::UpTo)
    }

    fn kill(&self) {
        if let Some(group) = *self.group.lock() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of a child, which comes some time.
struct Ended {
    leash: Arc<Leash>,
    told: oneshot::Receiver<End>,
}

/// How a child has ended.
struct End {
    cause: String,
    /// Its initializer failed.
    is_unfit: bool,
}

impl Ended {
    /// Waits for the end, and brings it about if it does not come; says what it was.
    async fn hear(mut self) -> End {
        let told = match timeout(GRACE, &mut self.told).await {
            Ok(told) => told,
            Err(_) => {
                self.leash.kill();
                self.told.await
            }
        };
        told.unwrap_or_else(|_| End { cause: "its process is not watched any more".into(), is_unfit: false })
    }
}

/// Reads what a child has printed and could not tell any more.
fn unread(printed: [PipeReader; 2]) -> Vec<(Stream, Box<str>)> {
    let read = |(pipe, stream): (PipeReader, Stream)| {
        let mut bytes = Vec::new();
        // Up to where it would have to wait, which is an error here: what was read until then counts.
        let _ = pipe.take(UNREAD_BYTES_MAX).read_to_end(&mut bytes);
        (!bytes.is_empty()).then(|| (stream, String::from_utf8_lossy(&bytes).into()))
    };
    printed.into_iter().zip([Stream::Stdout, Stream::Stderr]).filter_map(read).collect()
}

/// Read of what a dead child has left in a pipe; more does not fit into one, unless its children print on.
const UNREAD_BYTES_MAX: u64 = 1 << 20;

/// Speaks with a child from its first word to its end.
async fn attend(
    stream: UnixStream,
    launcher: Launcher,
    printed: [PipeReader; 2],
    ended: Ended,
    fate: Arc<Fate>,
    tell: Arc<Tell>,
) {
    let hello = Hello {
        role: Role::Controller,
        cluster: launcher.cluster,
        incarnation: std::process::id().into(),
        build: launcher.build,
    };
    let greeted = async {
        let mut stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
        if let Some(first) = &launcher.first {
            first.hand_down(&mut stream).await.map_err(|error| error.to_string())?;
        }
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        let greeted = handshake::welcome(&mut stream, &hello, &[Role::Engine], wait).await;
        let (_, tasks) = greeted.map_err(|error| error.to_string())?;
        Ok::<_, String>((stream, tasks))
    };
    let greeted = tokio::select! {
        greeted = greeted => greeted,
        // It has run nothing, and may take long to come to where it would hear that it is not needed.
        () = launcher.halt.over() => {
            ended.leash.kill();
            tracing::info!("an engine process was ended before it had joined");
            return tell.tell(Err(Error::ClusterStopped));
        }
    };
    let (stream, tasks) = match greeted {
        Ok(greeted) => greeted,
        Err(reason) => {
            let End { cause: status, .. } = ended.hear().await;
            let words = told_and_forwarded(&launcher, unread(printed));
            let cause = format!("{reason}; {status}; its main has to call callboard::init() first{words}");
            tracing::error!(%cause, "an engine process has not joined");
            return tell.tell(Err(Error::EngineFailed { cause: cause.into() }));
        }
    };
    let speaker = Speaker::new(session_limits());
    let forward = launcher.forward.clone();
    let parts = GatewayParts {
        scheduler: launcher.scheduler,
        finished: launcher.finished,
        speaker: speaker.clone(),
        offer: EngineOffer { slots: 1, is_local: false, tasks: tasks.map(Arc::new) },
        fate,
        process: ended.leash.clone(),
        printed: Box::new(move |stream, text| forward.forward(stream, text)),
        printed_bytes_max: launcher.limits.printed_bytes_max,
        tasks_max: launcher.tasks_max,
    };
    let (gateway, joined) = Gateway::join(parts);
    actix::spawn(async move {
        let id = joined.await.unwrap_or(Err(Error::ClusterStopped));
        tell.tell(id);
    });
    let (reader, writer) = stream.into_split();
    let ending = remote::attend(reader, writer, &speaker, &gateway).await;
    let End { cause: status, is_unfit } = ended.hear().await;
    tracing::debug!(%ending, %status, "an engine process has ended");
    let cause = match ending {
        // The connection ended with the process, or was ended in good order.
        Ending::Lost | Ending::Failed(_) | Ending::Closed(_) | Ending::ClosedByPeer(_) => status,
        why => format!("{why}; {status}"),
    };
    let unread = unread(printed);
    let said = unread.iter().find(|(stream, _)| *stream == Stream::Stderr).and_then(|(_, text)| last_words(text));
    let unfit = is_unfit.then(|| said.unwrap_or(&cause).to_owned());
    gateway.do_send(Lost { cause: cause.into(), unread });
    // Behind the loss: what the child had been sent is back when its pool hears of it.
    if let (Some(first), Some(reason)) = (&launcher.first, unfit) {
        first.failed(&reason);
    }
}

/// Forwards what a child printed that never joined, and returns its last line.
fn told_and_forwarded(launcher: &Launcher, unread: Vec<(Stream, Box<str>)>) -> String {
    let mut words = String::new();
    for (stream, text) in unread {
        if let Some(line) = last_words(&text) {
            words = format!("; it printed last: {line}");
        }
        launcher.forward.forward(stream, text);
    }
    words
}
