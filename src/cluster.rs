//! A cluster of this program's own: the owner of its controller and of the engines that it launched.

mod builder;

use std::fmt;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::async_result::{Reply, may_block};
use crate::client::Client;
use crate::controller::{Addresses, Controller};
use crate::error::Error;
use crate::messages::{Pending, Retire};
use crate::task::EngineId;

pub use builder::ClusterBuilder;

/// A controller and the engines that it launched. Owns them: dropping it ends them.
///
/// Starts inside the current actix `System` if there is one, else in one of its own, on a background thread:
/// so it works from a plain `main`, from `#[tokio::main]` and inside an actix-web service.
///
/// Dropping it cancels what is pending. On a plain thread it waits until the tasks that run have returned
/// and every thread has ended, for at most `limits.stop_wait_ms_max`; on a thread that drives a runtime it
/// does not wait, and the end comes in the background: there, prefer `cluster.shutdown(..).await`.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(2).start()?;
/// assert_eq!(cluster.client().load_balanced().apply(square(3)).get()?, 9);
/// cluster.shutdown(Pending::Finish).get()?; // or drop it
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct Cluster {
    client: Client,
    addresses: Addresses,
    controller: Option<Controller>,
}

impl Cluster {
    /// Returns a client of the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the addresses of the cluster's actors.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Starts `n` more engines, each a thread of this process; answered with their ids when they have joined.
    ///
    /// Work that waits goes to them at once, and so does what was sent ahead to others.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(1).start()?;
    /// let added = cluster.add_threads(2).get()?;
    /// assert_eq!(cluster.client().ids()[1..], added);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn add_threads(&self, n: usize) -> Reply<Vec<EngineId>> {
        self.ask(|controller| controller.add_threads(n))
    }

    /// Launches `n` more engines, each a child process as those of [`processes`](Self::processes); answered with their
    /// ids when they have joined.
    ///
    /// Answers [`Error::EngineFailed`] if one has not joined.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    ///
    /// fn main() -> Result<(), callboard::Error> {
    ///     callboard::init();
    ///     let cluster = Cluster::threads(2).start()?;
    ///     let added = cluster.add_processes(2).get()?;
    ///     assert_eq!(cluster.client().ids()[2..], added);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(all(unix, feature = "remote"))]
    pub fn add_processes(&self, n: usize) -> Reply<Vec<EngineId>> {
        self.ask(|controller| controller.add_processes(n))
    }

    /// Listens for engines and clients that run elsewhere, and writes the files with which they come; until the cluster ends.
    ///
    /// A program joins as an engine by [`run_engine`](crate::run_engine), and connects as a client by [`Client::connect`]. What it
    /// needs is a file that only this cluster can have written, one for engines and one for clients: both sides show
    /// certificates, of an authority that the cluster has for itself, and speak TLS 1.3.
    ///
    /// # Errors
    /// [`Error::Listen`] if it cannot listen there, [`Error::ConnectionFile`] if the files cannot be written or those that are
    /// there cannot be used, [`Error::ClusterStopped`].
    #[cfg(all(unix, feature = "remote"))]
    pub fn listen(&self, listen: crate::Listen) -> Result<crate::Listening, Error> {
        self.controller.as_ref().ok_or(Error::ClusterStopped)?.network.listen(listen)
    }

    /// Launches `n` engines on machines that are already there: see [`launchers`](crate::launchers). They dial where this cluster listens.
    ///
    /// Returns when they are started, or in the queue of a batch system; [`Launched::joined`](crate::launchers::Launched::joined) waits until they have
    /// joined. They end with what this returns, and with the cluster.
    ///
    /// # Errors
    /// [`Error::Launch`] if the cluster does not listen, a program is not there, or whoever starts them refused;
    /// [`Error::ConnectionFile`]; [`Error::Zero`] for no engines.
    #[cfg(all(unix, feature = "remote"))]
    pub fn launch(
        &self,
        launcher: impl crate::launchers::Launcher,
        n: usize,
    ) -> Result<crate::launchers::Launched, Error> {
        self.controller.as_ref().ok_or(Error::ClusterStopped)?.launches.launch(&launcher, n)
    }

    /// Lets engines go as [`remove_engines`](Self::remove_engines), then starts as many of the same kinds; answered with
    /// the ids of these when they have joined.
    ///
    /// What engines keep (`push`) is gone with them.
    ///
    /// Answers [`Error::NoSuchEngine`] if one is not there, and [`Error::StartedElsewhere`] if one dialled in; then none goes.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(2).start()?;
    /// let rc = cluster.client();
    /// let fresh = cluster.restart_engines(rc.ids()).get()?;
    /// assert_eq!(rc.ids(), fresh);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn restart_engines(&self, engines: impl IntoIterator<Item = EngineId>) -> Reply<Vec<EngineId>> {
        self.ask(|controller| controller.restart(engines.into_iter().collect()))
    }

    /// Lets engines go, in good order: each finishes what it runs; what it had not started moves on without having
    /// used an attempt, if another engine may run it, else settles as `EngineLost`. Answered when they have left.
    ///
    /// What waits for a cluster without engines waits for the next to join.
    ///
    /// Answers [`Error::NoSuchEngine`] if one is not there; then none goes.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(3).start()?;
    /// let rc = cluster.client();
    /// cluster.remove_engines(rc.ids().into_iter().take(2)).get()?;
    /// assert_eq!(rc.len(), 1);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn remove_engines(&self, engines: impl IntoIterator<Item = EngineId>) -> Reply<()> {
        Reply::ask_for(
            &self.addresses.scheduler.clone().recipient(),
            Retire { engines: engines.into_iter().collect(), cause: "it was removed from the cluster".into() },
        )
    }

    /// Ends the cluster; answered when every task is settled and every thread has ended.
    ///
    /// With [`Pending::Finish`] it waits also for tasks that no engine runs; [`Client::shutdown`](crate::Client::shutdown) with
    /// [`Pending::Cancel`] settles those.
    ///
    /// A callback may wait for the end of its own cluster, and a task too with [`Pending::Cancel`]; a task that waits
    /// with [`Pending::Finish`] waits for itself.
    ///
    /// Answers [`Error::StillRunning`] with the names of engines whose task did not return within
    /// `limits.stop_wait_ms_max`.
    pub fn shutdown(mut self, pending: Pending) -> Reply<()> {
        let (tell, ended) = oneshot::channel();
        match self.controller.take() {
            Some(controller) => drop(stop_in_background(controller, pending, tell)),
            None => drop(tell.send(Ok(()))),
        }
        Reply::new(async move { ended.await.unwrap_or(Err(Error::ClusterStopped)) })
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Controller) -> Reply<T>) -> Reply<T> {
        self.controller.as_ref().map_or_else(|| Reply::refused(Error::ClusterStopped), question)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(controller) = self.controller.take() else { return };
        let (tell, _) = oneshot::channel();
        // Always on a thread of its own: this one may be ending, and the actors cannot be spoken to once its
        // thread-locals are gone.
        let stopping = stop_in_background(controller, Pending::Cancel, tell);
        if let Some(stopping) = stopping
            && may_block()
        {
            let _ = stopping.join();
        }
    }
}

/// Ends a cluster on a thread of its own, which waits for all threads but the one that asks.
fn stop_in_background(
    controller: Controller,
    pending: Pending,
    tell: oneshot::Sender<Result<(), Error>>,
) -> Option<JoinHandle<()>> {
    let asker = std::thread::current().id();
    let stop = move || {
        let ended = controller.stop(pending, asker);
        if let Err(Err(error)) = tell.send(ended) {
            tracing::warn!(%error, "a cluster was shut down");
        }
    };
    let started = std::thread::Builder::new().name("cb-shutdown".into()).spawn(stop);
    started.inspect_err(|error| tracing::error!(%error, "no thread to shut the cluster down on")).ok()
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Cluster {:?}>", self.client.ids())
    }
}
