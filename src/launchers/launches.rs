//! The launches of a cluster: what each is made of, and their end with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;
use parking_lot::Mutex;

use super::engine_file::EngineFile;
use super::launched::Launched;
use super::launcher::{JobState, LaunchedJob, Launcher};
use crate::actors::{Asked, Roster, ask};
use crate::async_result::block_on;
use crate::error::Error;
use crate::limits::WAIT_MAX;
use crate::messages::Retire;
use crate::net::{Arrivals, Network};
use crate::task::{EngineId, drawn};

/// How long an engine that has nothing left takes to end.
const STOPPED: Duration = Duration::from_millis(300);

/// How long what has said that it leaves may take to end, before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// How long what was killed may take to be over: a batch system has it go through its own hands.
const KILLED: Duration = Duration::from_secs(15);

/// How often one looks whether what was launched has joined, or ended.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Launches engines for a cluster.
pub(crate) struct Launches {
    network: Network,
    parts: Parts,
    /// `None` once the cluster ends.
    running: Mutex<Option<Vec<Arc<Launch>>>>,
}

/// What a launch has of its cluster.
#[derive(Clone)]
struct Parts {
    roster: Arc<Roster>,
    retire: Recipient<Asked<Retire>>,
    stop_wait: Duration,
}

/// One launch.
pub(super) struct Launch {
    number: u64,
    jobs: Vec<Box<dyn LaunchedJob>>,
    file: EngineFile,
    arrivals: Arc<Arrivals>,
    parts: Parts,
    is_ended: Mutex<bool>,
}

impl Launches {
    pub(crate) fn new(
        network: Network,
        roster: Arc<Roster>,
        retire: Recipient<Asked<Retire>>,
        stop_wait: Duration,
    ) -> Self {
        let parts = Parts { roster, retire, stop_wait };
        Self { network, parts, running: Mutex::new(Some(Vec::new())) }
    }

    pub(crate) fn launch(self: &Arc<Self>, launcher: &dyn Launcher, n: usize) -> Result<Launched, Error> {
        if n == 0 {
            return Err(Error::Zero { what: "the number of engines" });
        }
        let (number, arrivals) = (drawn(), self.network.arrivals());
        let file = EngineFile::of(self.network.engine_file(), number, self.network.hosts())?;
        arrivals.expect(number);
        let jobs = launcher.launch(&file, n).inspect_err(|_| arrivals.forget(number))?;
        let (parts, is_ended) = (self.parts.clone(), Mutex::new(false));
        let launch = Arc::new(Launch { number, jobs, file, arrivals, parts, is_ended });
        match &mut *self.running.lock() {
            Some(running) => running.push(launch.clone()),
            // It ends with what was launched, which is dropped.
            None => return Err(Error::ClusterStopped),
        }
        Ok(Launched::new(launch, self.clone()))
    }

    /// Ends a launch, in good order; what its engines run they may finish within so long.
    pub(super) fn end(&self, launch: &Arc<Launch>, within: Duration) {
        launch.end(within);
        if let Some(running) = &mut *self.running.lock() {
            running.retain(|other| !Arc::ptr_eq(other, launch));
        }
    }

    /// Ends all of them, with the cluster: its engines have been told to stop.
    pub(crate) fn end_all(&self) {
        let running = self.running.lock().take().unwrap_or_default();
        std::thread::scope(|scope| {
            for launch in &running {
                scope.spawn(|| launch.end(Duration::ZERO));
            }
        });
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.arrivals.forget(self.number);
    }
}

impl Launch {
    pub(super) fn jobs(&self) -> &[Box<dyn LaunchedJob>] {
        &self.jobs
    }

    pub(super) fn stop_wait(&self) -> Duration {
        self.parts.stop_wait
    }

    /// Returns its engines that are there.
    pub(super) fn present(&self) -> Vec<EngineId> {
        let there = self.parts.roster.ids();
        let mut joined = self.arrivals.of(self.number);
        joined.retain(|engine| there.binary_search(engine).is_ok());
        joined
    }

    /// Returns its engines once all have joined, or why one has not; `None` as long as they may.
    pub(super) fn joined(&self) -> Option<Result<Vec<EngineId>, Error>> {
        // In this order: what has joined and ended meanwhile has joined.
        let states: Vec<_> = self.jobs.iter().map(|job| (job, job.state())).collect();
        let (present, joined) = (self.present().len(), self.arrivals.of(self.number));
        let all: usize = self.jobs.iter().map(|job| job.engines()).sum();
        if joined.len() >= all {
            return Some(Ok(joined));
        }
        let running: usize = states.iter().filter(|(_, state)| !state.is_ended()).map(|(job, _)| job.engines()).sum();
        if joined.len() + running.saturating_sub(present) >= all {
            return (*self.is_ended.lock()).then_some(Err(Error::EngineFailed { cause: "it was ended before".into() }));
        }
        let ended = states.iter().find_map(|(job, state)| match state {
            JobState::Ended { cause } => Some(format!("{}: {cause}", job.name())),
            _ => None,
        });
        Some(Err(Error::EngineFailed { cause: ended.unwrap_or_default().into() }))
    }

    fn end(&self, within: Duration) {
        let mut is_ended = self.is_ended.lock();
        if *is_ended {
            return;
        }
        let by = Instant::now() + within.min(WAIT_MAX);
        if self.retire(by) {
            // They have been told to stop, and end by themselves.
            self.wait(Instant::now() + STOPPED);
        }
        self.running().for_each(|job| job.leave());
        if !self.wait(by.max(Instant::now()) + GRACE) {
            self.running().for_each(|job| job.kill());
            if !self.wait(Instant::now() + KILLED) {
                self.running().for_each(|job| tracing::warn!(job = job.name(), "it does not end, and is left behind"));
            }
        }
        self.jobs.iter().for_each(|job| job.tidy());
        self.file.remove();
        *is_ended = true;
    }

    /// Has its engines leave, and waits for it; returns whether there were any.
    fn retire(&self, by: Instant) -> bool {
        let cause = "what it was launched with was ended";
        let retire = |engine| Retire { engines: vec![engine], cause: cause.into() };
        let asked: Vec<_> = self.present().into_iter().map(|engine| ask(&self.parts.retire, retire(engine))).collect();
        let are_some = !asked.is_empty();
        for left in asked {
            // An error is an engine that has left, or a cluster that has ended.
            drop(block_on(left, Some(by)));
        }
        are_some
    }

    fn running(&self) -> impl Iterator<Item = &Box<dyn LaunchedJob>> {
        self.jobs.iter().filter(|job| !job.state().is_ended())
    }

    /// Waits until all of it has ended; returns whether it has.
    fn wait(&self, by: Instant) -> bool {
        while self.running().next().is_some() {
            if Instant::now() >= by {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}
