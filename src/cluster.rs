//! A cluster of this program's own: starts the controller and its engines, and ends them.

use std::fmt;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::async_result::{Reply, may_block};
use crate::client::Client;
use crate::controller::{Addresses, Controller, Plan};
use crate::error::Error;
use crate::ledger::Policy;
use crate::limits::Limits;
use crate::messages::{Pending, Retire};
#[cfg(not(all(unix, feature = "remote")))]
use crate::no_processes::Children;
#[cfg(all(unix, feature = "remote"))]
use crate::process::Children;
use crate::registry::Registry;
use crate::task::EngineId;

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

/// What a cluster is to be made of; [`start`](ClusterBuilder::start) makes it.
///
/// ```
/// use callboard::{Limits, Policy, prelude::*};
///
/// let mut limits = Limits::default();
/// limits.pending_tasks_max = 10_000;
/// let cluster = Cluster::threads(2).limits(limits).policy(Policy::Lru).start()?;
/// assert_eq!(cluster.client().len(), 2);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a cluster starts with .start()"]
pub struct ClusterBuilder {
    threads: usize,
    processes: usize,
    /// It is meant to have none of these.
    is_empty: bool,
    #[cfg(all(unix, feature = "remote"))]
    hosts: Option<(usize, crate::Listen)>,
    children: Children,
    limits: Limits,
    registry: Option<Registry>,
    policy: Policy,
}

impl Cluster {
    /// Describes a cluster of `n` engines, each a thread of this process that runs one task at a time.
    pub fn threads(n: usize) -> ClusterBuilder {
        ClusterBuilder { threads: n, ..ClusterBuilder::default() }
    }

    /// Describes a cluster of `n` engines, each a child process that runs one task at a time.
    ///
    /// A child is this very program, which turns into an engine where its `main` calls [`init`](crate::init). What
    /// crashes there ends one engine and nothing else. Tasks and values go to it and come back as bytes, so closures
    /// do not run there.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// fn main() -> Result<(), callboard::Error> {
    ///     callboard::init();
    ///     let cluster = Cluster::processes(4).start()?;
    ///     assert_eq!(cluster.client().load_balanced().apply(square(7)).get()?, 49);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(all(unix, feature = "remote"))]
    pub fn processes(n: usize) -> ClusterBuilder {
        ClusterBuilder { processes: n, ..ClusterBuilder::default() }
    }

    /// Describes a cluster without engines of its own, for those that join from elsewhere: see [`listen`](Self::listen).
    #[cfg(all(unix, feature = "remote"))]
    pub fn without_engines() -> ClusterBuilder {
        ClusterBuilder { is_empty: true, ..ClusterBuilder::default() }
    }

    /// Describes a cluster of `n` engines on [hosts](crate::Host): machines that run this very program, which is shipped to them.
    ///
    /// The cluster listens as it is told, and hosts dial with the file that it writes for engines; so an address that stays the same, and a
    /// directory that stays, let the same hosts serve one run of a program after the other. Hosts with enough room are waited for
    /// as [`launchers::Hosts`](crate::launchers::Hosts) does.
    ///
    /// ```no_run
    /// use callboard::{Listen, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// fn main() -> Result<(), callboard::Error> {
    ///     callboard::init();
    ///     let cluster = Cluster::hosts(8, Listen::at("10.0.0.7:4700").directory("run")).start()?;
    ///     assert_eq!(cluster.client().load_balanced().apply(square(7)).get()?, 49);
    ///     Ok(())
    /// }
    /// ```
    #[cfg(all(unix, feature = "remote"))]
    pub fn hosts(n: usize, listen: crate::Listen) -> ClusterBuilder {
        ClusterBuilder { hosts: Some((n, listen)), is_empty: true, ..ClusterBuilder::default() }
    }

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
        match &self.controller {
            Some(controller) => controller.add_threads(n),
            None => Reply::new(async { Err(Error::ClusterStopped) }),
        }
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
        match &self.controller {
            Some(controller) => controller.add_processes(n),
            None => Reply::new(async { Err(Error::ClusterStopped) }),
        }
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
    /// Answers [`Error::NoSuchEngine`] if one is not there; then none goes.
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
        match &self.controller {
            Some(controller) => controller.restart(engines.into_iter().collect()),
            None => Reply::new(async { Err(Error::ClusterStopped) }),
        }
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
}

impl ClusterBuilder {
    /// Adds `n` engines that are threads of this process.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(1).threads(2).start()?;
    /// assert_eq!(cluster.client().len(), 3);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn threads(mut self, n: usize) -> Self {
        self.threads += n;
        self
    }

    /// Adds `n` engines that are child processes, as [`Cluster::processes`].
    #[cfg(all(unix, feature = "remote"))]
    pub fn processes(mut self, n: usize) -> Self {
        self.processes += n;
        self
    }

    /// Sets the program that engines run that are processes, by default this one.
    ///
    /// Its `main` calls [`init`](crate::init) first, and it contains the tasks that it is to run: a task that it has not, or
    /// with other arguments, is refused as [`UnknownTask`](crate::TaskError::UnknownTask) where no other engine may take it.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::processes(4).engine_program("target/release/my-engine").start()?;
    /// # Ok::<(), callboard::Error>(())
    /// ```
    #[cfg(all(unix, feature = "remote"))]
    pub fn engine_program(mut self, program: impl Into<std::path::PathBuf>) -> Self {
        self.children.program = Some(program.into());
        self
    }

    /// Sets the arguments that engines get that are processes; by default none.
    ///
    /// So a test of `cargo test` may launch its own program as engines: as one of its tests, which calls
    /// [`init`](crate::init) and does nothing else.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// #[test]
    /// fn engine() {
    ///     callboard::init(); // in a test run it returns at once
    /// }
    ///
    /// #[test]
    /// fn squares() {
    ///     let cluster = Cluster::processes(2).engine_args(["engine", "--exact", "--nocapture"]).start().unwrap();
    ///     assert_eq!(cluster.client().load_balanced().apply(square(7)).get(), Ok(49));
    /// }
    /// ```
    #[cfg(all(unix, feature = "remote"))]
    pub fn engine_args(mut self, args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Self {
        self.children.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Has each engine that is a process replaced when it has run `n` tasks: whatever its tasks leak ends with it.
    ///
    /// What waits for that engine and no other then settles as `EngineLost`.
    ///
    /// `maxtasksperchild` in `multiprocessing`, `max_tasks_per_child` in `concurrent.futures`.
    #[cfg(all(unix, feature = "remote"))]
    pub fn max_tasks_per_engine(mut self, n: u32) -> Self {
        self.children.tasks_max = Some(n);
        self
    }

    /// Sets what each engine that is a process runs before anything else.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn first(mut self, first: crate::process::First) -> Self {
        self.children.first = Some(first);
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how the scheduler chooses among the engines that may take a task.
    ///
    /// ```
    /// use callboard::{Policy, prelude::*};
    ///
    /// let cluster = Cluster::threads(4).policy(Policy::TwoBin).start()?;
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the tasks that engines find by name; by default those that are linked into this program.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Starts the cluster. Its engines have joined when this returns.
    ///
    /// # Errors
    /// [`Error::Zero`] for no engines or a limit of zero, [`Error::DuplicateTask`] if two tasks of this
    /// program have one name, [`Error::System`] if there is no thread or process to be had,
    /// [`Error::EngineFailed`] if a child has not joined, [`Error::InitForgotten`] in a child.
    pub fn start(self) -> Result<Cluster, Error> {
        #[cfg(all(unix, feature = "remote"))]
        if crate::process::is_child() {
            return Err(Error::InitForgotten);
        }
        if self.threads + self.processes == 0 && !self.is_empty {
            return Err(Error::Zero { what: "the number of engines" });
        }
        #[cfg(all(unix, feature = "remote"))]
        if self.children.tasks_max == Some(0) {
            return Err(Error::Zero { what: "max_tasks_per_engine" });
        }
        self.limits.check()?;
        let registry = match self.registry {
            Some(registry) => registry,
            None => Registry::auto()?,
        };
        let plan = Plan {
            thread_engines: self.threads,
            process_engines: self.processes,
            children: self.children,
            limits: self.limits,
            registry,
            policy: self.policy,
        };
        let controller = Controller::start(plan)?;
        let (client, addresses) = (Client::new(controller.link.clone()), controller.addresses.clone());
        let cluster = Cluster { client, addresses, controller: Some(controller) };
        #[cfg(all(unix, feature = "remote"))]
        if let Some((n, listen)) = self.hosts {
            cluster.listen(listen)?;
            cluster.launch(crate::launchers::Hosts::any(), n)?.until_the_cluster_ends()?;
        }
        Ok(cluster)
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
