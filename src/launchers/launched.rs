//! What a program holds of engines that it has launched.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::launcher::{JobOutput, JobState};
use super::launches::{LOOK, Launch, Launches};
use crate::async_result::{Reply, block_on, may_block};
use crate::error::Error;
use crate::task::EngineId;

/// Engines that were launched together. Owns them: dropping it ends them, and so does the end of their cluster.
///
/// Dropping it has them leave in good order, for at most `limits.stop_wait_ms_max`, then kills what is left: no process, file or job in a
/// queue stays behind. On a thread that drives a runtime it does not wait, and the end comes in the background: there,
/// prefer [`end`](Self::end).
///
/// ```no_run
/// use callboard::launchers::Local;
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::without_engines().start()?;
/// cluster.listen(Listen::at("127.0.0.1:0").directory("run"))?;
/// let engines = cluster.launch(Local::new().program("/opt/engine"), 2)?;
/// engines.joined().get()?;
/// println!("{:?} {}", engines.states()[0], engines.output()[0].stderr);
/// engines.end().get()?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[must_use = "engines end when this is dropped"]
pub struct Launched {
    launch: Arc<Launch>,
    launches: Arc<Launches>,
    is_ending: AtomicBool,
}

/// How long engines that are ended may go on with what they run.
const FINISH: Duration = Duration::from_secs(20);

impl Launched {
    pub(super) fn new(launch: Arc<Launch>, launches: Arc<Launches>) -> Self {
        Self { launch, launches, is_ending: AtomicBool::new(false) }
    }

    /// Returns those of its engines that are in the cluster now.
    pub fn engines(&self) -> Vec<EngineId> {
        self.launch.present()
    }

    /// Waits until all have joined; answered with their ids. In the queue of a batch system that takes as long as it takes.
    ///
    /// Answers [`Error::EngineFailed`] as soon as one has ended before it joined, with how it ended and what it printed last. The others
    /// stay.
    pub fn joined(&self) -> Reply<Vec<EngineId>> {
        let (tell, told) = oneshot::channel();
        let launch = self.launch.clone();
        let look = move || {
            while !tell.is_closed() {
                if let Some(joined) = launch.joined() {
                    // Who asked may have gone away.
                    let _ = tell.send(joined);
                    return;
                }
                std::thread::sleep(LOOK);
            }
        };
        let started = std::thread::Builder::new().name("cb-launch-look".into()).spawn(look);
        if let Err(error) = started {
            let reason = error.to_string();
            return Reply::refused(Error::System { doing: "starting a thread", reason });
        }
        Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) })
    }

    /// Has those that die started again from now on, once all have joined: at once, then after longer and longer pauses, at most
    /// `limits.engine_restarts_max` times in `limits.engine_restart_window_s`, each. The log says so. An engine on a
    /// [host](super::Hosts) that is gone is started on another, as soon as one has room.
    ///
    /// An engine that leaves in good order, as by `SIGTERM` or [`Cluster::remove_engines`](crate::Cluster::remove_engines), has not died.
    /// What one that is started again was before shows no more in [`states`](Self::states) and [`output`](Self::output).
    ///
    /// ```no_run
    /// use callboard::launchers::Ssh;
    /// use callboard::{Listen, prelude::*};
    ///
    /// let cluster = Cluster::without_engines().start()?;
    /// cluster.listen(Listen::at("10.0.0.7:0").directory("run"))?;
    /// let engines = cluster.launch(Ssh::to(["a", "b"]).program("/opt/engine"), 8)?.restarting()?;
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Launch`] where others are to do that: of jobs that wait in the queue of a batch system, and of workers of Dask. Then its
    /// engines end, as when it is dropped.
    pub fn restarting(self) -> Result<Self, Error> {
        self.launch.restart()?;
        Ok(self)
    }

    /// Returns the name and the state of each process or job that was launched.
    pub fn states(&self) -> Vec<(String, JobState)> {
        self.launch.jobs().iter().map(|job| (job.name(), job.state())).collect()
    }

    /// Waits until all have joined, and leaves them to their cluster, with which they end.
    pub(crate) fn until_the_cluster_ends(self) -> Result<(), Error> {
        block_on(self.joined(), None).ok_or(Error::ClusterStopped)??;
        self.is_ending.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns what each has printed, the last 64 KiB of each stream, in the order of [`states`](Self::states).
    pub fn output(&self) -> Vec<JobOutput> {
        self.launch.jobs().iter().map(|job| job.output()).collect()
    }

    /// Ends them: each finishes what it runs, for at most 20 s; what it had not started moves on without having used an attempt.
    /// Answered when nothing is left of them but what they printed.
    pub fn end(&self) -> Reply<()> {
        self.end_within(FINISH)
    }

    /// As [`end`](Self::end), with another time for what they run. A task that is not finished by then is lost.
    pub fn end_within(&self, finish: Duration) -> Reply<()> {
        let (tell, told) = oneshot::channel();
        self.is_ending.store(true, Ordering::Release);
        // Who asked may have gone away.
        self.end_in_background(finish, move || tell.send(()).unwrap_or_default());
        Reply::new(async move { told.await.map_err(|_| Error::ClusterStopped) })
    }

    fn end_in_background(&self, finish: Duration, then: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
        let (launch, launches) = (self.launch.clone(), self.launches.clone());
        let end = move || {
            launches.end(&launch, finish);
            drop((launch, launches));
            then();
        };
        let started = std::thread::Builder::new().name("cb-launch-end".into()).spawn(end);
        started.inspect_err(|error| tracing::error!(%error, "no thread to end engines on")).ok()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.is_ending.load(Ordering::Acquire) {
            return;
        }
        let ending = self.end_in_background(self.launch.stop_wait(), || ());
        if let Some(ending) = ending
            && may_block()
        {
            let _ = ending.join();
        }
    }
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Launched {:?}>", self.states())
    }
}
