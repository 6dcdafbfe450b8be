//! The engines of a cluster that are child processes: where they are launched and spoken with, and their end.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Addr;
use actix_rt::Arbiter;
use parking_lot::Mutex;

use super::First;
use super::forward::{Forward, Forwarding};
use super::halt::Halt;
use super::launch::{Launcher, launch};
use crate::actors::{EngineParts, Scheduler};
use crate::error::Error;
use crate::limits::Limits;
use crate::task::{EngineId, drawn};

/// What children are, where that is not as usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    /// The program that they run, if it is not this one.
    pub(crate) program: Option<PathBuf>,
    pub(crate) args: Vec<OsString>,
    /// How many tasks one may run before it is replaced.
    pub(crate) tasks_max: Option<u32>,
    /// What each runs before anything else.
    pub(crate) first: Option<First>,
}

/// Launches children. Its threads are started with the first.
#[derive(Clone)]
pub(crate) struct Processes(Arc<Inner>);

struct Inner {
    parts: EngineParts,
    scheduler: Addr<Scheduler>,
    limits: Limits,
    children: Children,
    launched: AtomicUsize,
    /// Those that have joined.
    joined: Arc<Mutex<HashSet<EngineId>>>,
    halt: Arc<Halt>,
    running: Mutex<Option<Running>>,
}

/// What is there once a child is.
struct Running {
    launcher: Launcher,
    /// Where gateways and sessions are.
    arbiter: Arbiter,
    forwarding: Forwarding,
}

impl Processes {
    pub(crate) fn new(parts: EngineParts, scheduler: Addr<Scheduler>, limits: Limits, children: Children) -> Self {
        let (launched, joined, running) = (AtomicUsize::new(0), Arc::default(), Mutex::new(None));
        Self(Arc::new(Inner { parts, scheduler, limits, children, launched, joined, halt: Arc::default(), running }))
    }

    /// Returns whether an engine is a child that has joined.
    pub(crate) fn has(&self, engine: EngineId) -> bool {
        self.0.joined.lock().contains(&engine)
    }

    /// Launches `n` children; returns their ids when they have joined, or why one has not.
    pub(crate) async fn launch(&self, n: usize) -> Result<Vec<EngineId>, Error> {
        if n == 0 {
            return Ok(Vec::new());
        }
        let launcher = self
            .launcher()
            .map_err(|error| Error::System { doing: "launching engine processes", reason: error.to_string() })?;
        let number = |_| self.0.launched.fetch_add(1, Ordering::Relaxed);
        let joining: Vec<_> = (0..n).map(|n| launch(launcher.clone(), number(n))).collect();
        let mut joined = Ok(Vec::with_capacity(n));
        for engine in joining {
            match (engine.await.unwrap_or(Err(Error::ClusterStopped)), &mut joined) {
                (Ok(id), Ok(ids)) => ids.push(id),
                (Err(error), Ok(_)) => joined = Err(error),
                (_, Err(_)) => {}
            }
        }
        // They join in any order.
        let mut ids = joined?;
        ids.sort_unstable();
        Ok(ids)
    }

    fn launcher(&self) -> io::Result<Launcher> {
        let Inner { parts, scheduler, limits, children, joined, halt, running, .. } = &*self.0;
        let mut running = running.lock();
        if let Some(Running { launcher, .. }) = &*running {
            return Ok(launcher.clone());
        }
        let program = match &children.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let arbiter = Arbiter::try_new()?;
        let (forward, forwarding) = Forward::start()?;
        let launcher = Launcher {
            program,
            args: children.args.clone(),
            scheduler: scheduler.clone(),
            finished: parts.finished.clone(),
            threads: parts.threads.clone(),
            arbiter: arbiter.handle(),
            cluster: drawn(),
            build: parts.registry.build(),
            limits: limits.clone(),
            tasks_max: children.tasks_max,
            first: children.first.clone(),
            forward,
            joined: joined.clone(),
            halt: halt.clone(),
        };
        *running = Some(Running { launcher: launcher.clone(), arbiter, forwarding });
        Ok(launcher)
    }

    /// Has no child launched any more.
    pub(crate) fn halt(&self) {
        self.0.halt.halt();
    }

    /// Ends what is left, after the children.
    pub(crate) fn end(&self) {
        let Some(Running { launcher, arbiter, forwarding }) = self.0.running.lock().take() else { return };
        arbiter.stop();
        let _ = arbiter.join();
        drop(launcher);
        forwarding.end();
    }
}
