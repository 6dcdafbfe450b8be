//! The parent's side of a child: launches it, sees it end, and launches the next.
//!
//! Each child has a thread here that waits for its end, so nothing is installed in the program: no signal handler.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::ArbiterHandle;
use parking_lot::Mutex;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::oneshot;

use super::First;
use super::attend::{End, Ended, attend};
use super::first::UNFIT;
use super::forward::Forward;
use super::halt::Halt;
use super::restarts::{Died, Restarts};
use super::start::{Started, start};
use crate::actors::{Lane, Scheduler, Threads, WhyItGoes};
use crate::async_result::block_on;
use crate::error::Error;
use crate::limits::Limits;
use crate::messages::Completion;
use crate::remote::{Begun, Fate, Mark, Process, WORN_OUT};
use crate::task::{Attempt, EngineId, TaskId};

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
    /// The children that have joined, of all of this cluster.
    pub(crate) joined: Arc<Mutex<HashSet<EngineId>>>,
    pub(crate) halt: Arc<Halt>,
}

impl Launcher {
    fn restarts(&self) -> Restarts {
        self.limits.engine_restarts()
    }
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

/// Who waits for an engine to join. The first answer counts.
pub(super) struct Tell(Mutex<Option<oneshot::Sender<Result<EngineId, Error>>>>);

impl Tell {
    pub(super) fn tell(&self, result: Result<EngineId, Error>) {
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
        // Its initializer said that it failed, or took the process with it.
        let ended_itself = !leash.is_prepared() && !fate.is_stopped.load(Ordering::Acquire);
        let has_failed = ended_itself || status.is_some_and(|status| status.code() == Some(UNFIT));
        let is_unfit = launcher.first.is_some() && has_failed;
        has_joined |= fate.joined.get().is_some();
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
        let next = next.filter(|_| !is_let_go(launcher, &fate));
        let _ = tell_end.send(End { cause, is_unfit });
        match next {
            Some(wait) if !launcher.halt.wait(wait) => {}
            _ => return Ok(()),
        }
    }
}

/// Returns whether an engine whose process has ended was to go for good. Its loss is not told before, so the Scheduler knows.
fn is_let_go(launcher: &Launcher, fate: &Fate) -> bool {
    let Some(engine) = fate.joined.get() else { return false };
    match block_on(launcher.scheduler.send(WhyItGoes { engine: *engine }), None) {
        Some(Ok(Some(why))) => *why != *WORN_OUT,
        // It was to stay; or the cluster has ended, and nothing is launched any more.
        _ => false,
    }
}
