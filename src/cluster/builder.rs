//! What a cluster is to be made of, and its start.

use super::Cluster;
use crate::client::Client;
use crate::controller::{Controller, Plan};
use crate::error::Error;
use crate::ledger::Policy;
use crate::limits::{Limits, check_workers};
#[cfg(not(all(unix, feature = "remote")))]
use crate::no_processes::Children;
#[cfg(all(unix, feature = "remote"))]
use crate::process::Children;
use crate::registry::Registry;

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
    pub fn without_engines() -> ClusterBuilder {
        ClusterBuilder { is_empty: true, ..ClusterBuilder::default() }
    }

    /// Describes a cluster of `n` engines on [hosts](crate::Host): machines that run this very program, which is shipped to them.
    ///
    /// The cluster listens as it is told, and hosts dial with the file that it writes for engines; so an address that stays the same, and a
    /// directory that stays, let the same hosts serve one run of a program after the other. Hosts with enough room are waited for
    /// as [`launchers::Hosts`](crate::launchers::Hosts) does. An engine that dies is started again, where its host is gone on another.
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
        self.threads = self.threads.saturating_add(n);
        self
    }

    /// Adds `n` engines that are child processes, as [`Cluster::processes`].
    #[cfg(all(unix, feature = "remote"))]
    pub fn processes(mut self, n: usize) -> Self {
        self.processes = self.processes.saturating_add(n);
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
    /// [`Error::Zero`] for no engines or a limit of zero, [`Error::TooMany`] for more than 4096, [`Error::DuplicateTask`] if two tasks of this
    /// program have one name, [`Error::System`] if there is no thread or process to be had,
    /// [`Error::EngineFailed`] if a child has not joined, [`Error::InitForgotten`] in a child.
    pub fn start(self) -> Result<Cluster, Error> {
        #[cfg(all(unix, feature = "remote"))]
        if crate::process::is_child() {
            return Err(Error::InitForgotten);
        }
        let engines = self.threads.saturating_add(self.processes);
        if engines > 0 || !self.is_empty {
            check_workers("the number of engines", engines)?;
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
            cluster.launch(crate::launchers::Hosts::any(), n)?.restarting()?.until_the_cluster_ends()?;
        }
        Ok(cluster)
    }
}
