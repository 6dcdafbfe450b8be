//! The launches of a cluster: what each is made of, and their end with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;
use parking_lot::Mutex;

use super::engine_file::EngineFile;
use super::launched::Launched;
use super::launcher::{JobState, LaunchedJob, Launcher};
use super::restarting::{self, Place};
use crate::actors::{Asked, Roster, ask};
use crate::async_result::block_on;
use crate::error::Error;
use crate::limits::{Limits, WAIT_MAX};
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
    limits: Limits,
}

/// One launch.
pub(super) struct Launch {
    number: u64,
    jobs: Mutex<Jobs>,
    file: EngineFile,
    arrivals: Arc<Arrivals>,
    parts: Parts,
    is_ended: Mutex<bool>,
}

/// What was started for a launch.
struct Jobs {
    list: Vec<Arc<dyn LaunchedJob>>,
    /// What dies is started again.
    are_restarted: bool,
    /// Nothing is started any more.
    are_ending: bool,
}

impl Launches {
    pub(crate) fn new(network: Network, roster: Arc<Roster>, retire: Recipient<Asked<Retire>>, limits: Limits) -> Self {
        let parts = Parts { roster, retire, limits };
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
        let list = jobs.into_iter().map(Into::into).collect();
        let jobs = Mutex::new(Jobs { list, are_restarted: false, are_ending: false });
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

    /// Nothing is started again any more: the cluster ends, and so do its engines and hosts.
    pub(crate) fn halt(&self) {
        let running = self.running.lock();
        running.iter().flatten().for_each(|launch| launch.jobs.lock().are_ending = true);
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
    pub(super) fn jobs(&self) -> Vec<Arc<dyn LaunchedJob>> {
        self.jobs.lock().list.clone()
    }

    pub(super) fn stop_wait(&self) -> Duration {
        self.parts.limits.stop_wait()
    }

    /// Has what dies of it started again from now on.
    pub(super) fn restart(self: &Arc<Self>) -> Result<(), Error> {
        let jobs = self.jobs();
        if let Some(other) = jobs.iter().find(|job| job.has_died().is_none()) {
            let problem =
                "it is not started again from here; have the system do it that runs it, as sbatch --requeue does";
            return Err(Error::Launch { by: other.name().into(), problem: problem.into() });
        }
        if std::mem::replace(&mut self.jobs.lock().are_restarted, true) {
            return Ok(());
        }
        restarting::begin(self, &self.parts.limits)
    }

    /// Starts again what has died, where it is time to; returns whether that may go on.
    pub(super) fn start_again(&self, places: &mut [Place], now: Duration) -> bool {
        // Held to the end: what is started now is ended with the others.
        let mut jobs = self.jobs.lock();
        // Before all have joined, one that ends is what whoever waits for them is told.
        if !jobs.are_ending && self.arrivals.of(self.number).len() >= engines_of(&jobs.list) {
            for (job, place) in jobs.list.iter_mut().zip(places).filter(|(job, _)| job.has_died() == Some(true)) {
                if let Some(again) = place.start_again(&**job, now) {
                    *job = again;
                }
            }
        }
        !jobs.are_ending
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
        let states: Vec<_> = self.jobs().into_iter().map(|job| (job.state(), job)).collect();
        let (present, joined) = (self.present().len(), self.arrivals.of(self.number));
        let all: usize = states.iter().map(|(_, job)| job.engines()).sum();
        if joined.len() >= all {
            return Some(Ok(joined));
        }
        let running: usize = states.iter().filter(|(state, _)| !state.is_ended()).map(|(_, job)| job.engines()).sum();
        if joined.len() + running.saturating_sub(present) >= all {
            return (*self.is_ended.lock()).then_some(Err(Error::EngineFailed { cause: "it was ended before".into() }));
        }
        let ended = states.iter().find_map(|(state, job)| match state {
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
        self.jobs.lock().are_ending = true;
        let by = Instant::now() + within.min(WAIT_MAX);
        if self.retire(by) {
            // They have been told to stop, and end by themselves.
            self.wait(Instant::now() + STOPPED);
        }
        self.running().iter().for_each(|job| job.leave());
        if !self.wait(by.max(Instant::now()) + GRACE) {
            self.running().iter().for_each(|job| job.kill());
            if !self.wait(Instant::now() + KILLED) {
                let left = self.running();
                left.iter().for_each(|job| tracing::warn!(job = job.name(), "it does not end, and is left behind"));
            }
        }
        self.jobs().iter().for_each(|job| job.tidy());
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

    fn running(&self) -> Vec<Arc<dyn LaunchedJob>> {
        let mut jobs = self.jobs();
        jobs.retain(|job| !job.state().is_ended());
        jobs
    }

    /// Waits until all of it has ended; returns whether it has.
    fn wait(&self, by: Instant) -> bool {
        while !self.running().is_empty() {
            if Instant::now() >= by {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

fn engines_of(jobs: &[Arc<dyn LaunchedJob>]) -> usize {
    jobs.iter().map(|job| job.engines()).sum()
}
