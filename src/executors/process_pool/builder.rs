//! What a pool of processes is to be like.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ProcessPoolExecutor;
use super::demand::Demand;
use super::keeper::{Shared, keep};
use crate::cluster::Cluster;
use crate::error::{Coded, Error, TaskError};
use crate::limits::{Limits, WAIT_MAX, check_workers};
use crate::process::First;
use crate::task::Task;

/// What a [`ProcessPoolExecutor`] is to be like; [`start`](Self::start) makes it.
///
/// ```no_run
/// use callboard::{ProcessPoolExecutor, prelude::*};
/// use std::sync::OnceLock;
/// use std::time::Duration;
///
/// static GREETING: OnceLock<String> = OnceLock::new();
///
/// /// Runs once in each worker, before any task.
/// #[task]
/// fn prepare(greeting: String) -> Result<(), String> { GREETING.set(greeting) }
///
/// #[task]
/// fn greet(name: String) -> String { format!("{} {name}", GREETING.get().map_or("", |text| text)) }
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init();
///     let ex = ProcessPoolExecutor::builder(4)
///         .initializer(prepare("hello".into()))
///         .max_tasks_per_child(1_000)
///         .idle_timeout(Duration::from_secs(60))
///         .start()?;
///     assert_eq!(ex.submit(greet("you".into())).get()?, "hello you");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "the workers start with .start()"]
pub struct ProcessPoolBuilder {
    max_workers: usize,
    initializer: Option<Initializer>,
    max_tasks_per_child: Option<u32>,
    idle_timeout: Option<Duration>,
    limits: Limits,
    program: Option<PathBuf>,
    args: Vec<OsString>,
}

/// Makes the call that workers begin with, once there is somebody to tell if it fails.
struct Initializer(Box<dyn FnOnce(Arc<Shared>) -> Result<First, TaskError> + Send>);

impl std::fmt::Debug for Initializer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<Initializer>")
    }
}

impl ProcessPoolBuilder {
    pub(super) fn new(max_workers: usize) -> Self {
        Self {
            max_workers,
            initializer: None,
            max_tasks_per_child: None,
            idle_timeout: None,
            limits: Limits::default(),
            program: None,
            args: Vec::new(),
        }
    }

    /// Sets how many workers there are at most: what `builder` was given.
    pub fn max_workers(mut self, n: usize) -> Self {
        self.max_workers = n;
        self
    }

    /// Sets a task that each worker runs before anything else, on the thread of its tasks; also one that takes the place of
    /// another.
    ///
    /// A worker in which it fails or panics ends, and another is not launched for a second. Where none is left, everything
    /// that waits settles as [`WorkersFailed`](crate::TaskError::WorkersFailed) with the reason; what is submitted then
    /// has workers launched again. Python's pool is broken for good then.
    pub fn initializer<T: Task>(mut self, task: T) -> Self {
        let make = |shared: Arc<Shared>| {
            First::new(task, move |reason| shared.on_unfit(&reason))
                .map_err(|error| TaskError::undecodable(Coded::Arguments, T::kind().name, &error.to_string()))
        };
        self.initializer = Some(Initializer(Box::new(make)));
        self
    }

    /// Has each worker replaced when it has run `n` tasks: whatever they leak ends with it.
    pub fn max_tasks_per_child(mut self, n: u32) -> Self {
        self.max_tasks_per_child = Some(n);
        self
    }

    /// Has workers end that were not needed for so long, all of them if nothing is done; they come back when there is work.
    ///
    /// How many are needed is the largest number of tasks in flight at once, so they end after this time at the soonest, and
    /// after twice as long at the latest.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout.min(WAIT_MAX));
        self
    }

    /// Sets how much may be pending; the other limits are a cluster's. How often a worker is launched again has no limit here.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the program that workers run, as [`ClusterBuilder::engine_program`](crate::ClusterBuilder::engine_program).
    pub fn worker_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Sets the arguments that workers get, as [`ClusterBuilder::engine_args`](crate::ClusterBuilder::engine_args).
    pub fn worker_args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Launches the workers. They have joined when this returns; initializers may still run.
    ///
    /// # Errors
    /// [`Error::Zero`] for no workers, tasks, time or a limit of zero; [`Error::TooMany`] for more than 4096; [`Error::EngineFailed`] if a worker has not joined;
    /// [`Error::Task`] if the initializer cannot be encoded; [`Error::System`], [`Error::InitForgotten`].
    pub fn start(self) -> Result<ProcessPoolExecutor, Error> {
        check_workers("the number of workers", self.max_workers)?;
        if self.max_tasks_per_child == Some(0) {
            return Err(Error::Zero { what: "max_tasks_per_child" });
        }
        if self.idle_timeout == Some(Duration::ZERO) {
            return Err(Error::Zero { what: "idle_timeout" });
        }
        let mut limits = self.limits;
        // Whatever becomes of workers, the pool goes on; those that die at once come back after longer and longer.
        limits.engine_restarts_max = u32::MAX;
        let mut cluster = Cluster::processes(self.max_workers).limits(limits).engine_args(self.args);
        if let Some(program) = self.program {
            cluster = cluster.engine_program(program);
        }
        if let Some(n) = self.max_tasks_per_child {
            cluster = cluster.max_tasks_per_engine(n);
        }
        let shared = Shared::new(Demand::new(self.max_workers, self.idle_timeout));
        if let Some(Initializer(make)) = self.initializer {
            cluster = cluster.first(make(shared.clone())?);
        }
        let cluster = cluster.start()?;
        let inner = cluster.client().executor();
        keep(cluster, &shared, inner.in_flight())?;
        Ok(ProcessPoolExecutor { inner, shared })
    }
}
