//! An executor of child processes: a cluster of its own, and a keeper who sees to its workers.

mod demand;
mod keeper;
mod builder;

use std::fmt;
use std::sync::Arc;

use super::{Call, Executor, ViewExecutor};
use crate::async_result::Reply;
use crate::error::Error;
use crate::messages::Pending;
use crate::views::LoadBalancedView;

pub use builder::ProcessPoolBuilder;
use keeper::Shared;

/// Runs tasks in `n` child processes; `concurrent.futures.ProcessPoolExecutor`, and `multiprocessing.Pool`.
///
/// A worker is this very program, which turns into one where its `main` calls [`init`](crate::init). One that dies, by a
/// signal, an abort or for want of memory, costs the task that it ran and nothing else: that one settles as
/// [`EngineLost`](crate::TaskError::EngineLost), or starts again if it is `#[task(idempotent)]`; what waited goes on, and another
/// worker takes its place, for ever. Python's pool is broken for good then.
///
/// Dropping it is `shutdown(Pending::Finish)` without waiting: results that are held elsewhere still come.
///
/// ```no_run
/// use callboard::{ProcessPoolExecutor, prelude::*};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init();
///     let ex = ProcessPoolExecutor::new(4)?;
///     assert_eq!(ex.submit(square(12)).get()?, 144);
///     ex.shutdown(Pending::Finish).get()
/// }
/// ```
pub struct ProcessPoolExecutor {
    inner: ViewExecutor<LoadBalancedView>,
    shared: Arc<Shared>,
}

impl ProcessPoolExecutor {
    /// Launches `n` workers.
    ///
    /// # Errors
    /// As [`ProcessPoolBuilder::start`].
    pub fn new(n: usize) -> Result<Self, Error> {
        Self::builder(n).start()
    }

    /// Describes an executor of `n` workers.
    pub fn builder(n: usize) -> ProcessPoolBuilder {
        ProcessPoolBuilder::new(n)
    }

    /// Returns how many workers there are now: fewer than [`max_workers`](Executor::max_workers) where some were idle for too
    /// long, or one that died is not back yet.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), callboard::Error> {
    /// # callboard::init();
    /// assert_eq!(callboard::ProcessPoolExecutor::new(4)?.workers(), 4);
    /// # Ok(()) }
    /// ```
    pub fn workers(&self) -> usize {
        self.inner.max_workers()
    }

    /// Has `n` workers from now on. Answered when those that are new have joined; of those that go each finishes what it
    /// runs, which is not waited for, and what it had not started moves on to others.
    ///
    /// Answers [`Error::Zero`] for none, [`Error::TooMany`] for more than 4096, [`Error::EngineFailed`] if one cannot be launched, [`Error::ClusterStopped`] after the
    /// shutdown.
    ///
    /// ```no_run
    /// use callboard::{ProcessPoolExecutor, prelude::*};
    ///
    /// # fn main() -> Result<(), callboard::Error> {
    /// # callboard::init();
    /// let ex = ProcessPoolExecutor::new(2)?;
    /// ex.resize(8).get()?;
    /// assert_eq!(ex.max_workers(), 8);
    /// # Ok(()) }
    /// ```
    pub fn resize(&self, n: usize) -> Reply<()> {
        self.shared.resize(n)
    }
}

impl Executor for ProcessPoolExecutor {
    fn name(&self) -> &'static str {
        "ProcessPoolExecutor"
    }

    fn max_workers(&self) -> usize {
        self.shared.workers_max()
    }

    fn pending_max(&self) -> usize {
        self.inner.pending_max()
    }

    fn pending_bytes_max(&self) -> usize {
        self.inner.pending_bytes_max()
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        self.inner.execute(calls);
        self.shared.on_submit();
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.inner.in_flight().close(pending);
        self.shared.ended()
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.inner.in_flight().close(Pending::Finish);
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<ProcessPoolExecutor {}>", self.max_workers())
    }
}
