//! The executor whose tasks are tasks of a Dask cluster.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::DaskBuilder;
use super::connection::Connection;
use crate::admission::Admission;
use crate::async_result::Reply;
use crate::error::Error;
use crate::executors::{Call, Executor, InFlight};
use crate::limits::Limits;
use crate::messages::Pending;

/// Runs tasks on a Dask cluster that is already there; `client.get_executor()` in Python.
///
/// Each task is a Dask task: its scheduler places it, runs it again where a worker is lost, and shows it on its
/// dashboard under the name of its function. What makes the call on a worker is this very program, which is there once
/// for each of the worker's threads, and turns into an engine where its `main` calls [`init`](crate::init).
///
/// A cancelled task that waits never runs, and one that runs is asked to stop, or ended by
/// [`cancel_by_force`](crate::AsyncResult::cancel_by_force): it settles when no worker begins it any more. A task that
/// crashes ends its engine and not the worker, and settles as [`EngineLost`](crate::TaskError::EngineLost), or starts again if it is
/// `#[task(idempotent)]`, as [`retries`](DaskBuilder::retries) says. Where the scheduler
/// or the way to it is lost, all that is pending settles as [`ExecutorLost`](crate::TaskError::ExecutorLost), and so does what
/// comes until there is another: whatever is submitted has one tried, every two seconds at most.
///
/// Dropping it is `shutdown(Pending::Finish)` without waiting: results that are held elsewhere still come.
///
/// ```no_run
/// use callboard::{DaskExecutor, prelude::*};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init(); // on a worker this is an engine
///     let ex = DaskExecutor::connect("tcp://10.0.0.7:8786")?;
///     assert_eq!(ex.submit(square(7)).get()?, 49);
///     Ok(())
/// }
/// ```
pub struct DaskExecutor {
    shared: Arc<Shared>,
    address: Box<str>,
    limits: Limits,
}

struct Shared {
    connection: Arc<Connection>,
    in_flight: InFlight,
    admission: Arc<Admission>,
    /// Somebody sees to the end.
    is_ending: Mutex<bool>,
    is_over: watch::Sender<bool>,
}

impl DaskExecutor {
    /// Connects to a scheduler: `tcp://host:8786`, or `tls://host:8786` where it needs no certificate.
    ///
    /// Starts `python3`, which needs the package `distributed`, or the interpreter that the variable `CALLBOARD_PYTHON` names. Takes
    /// a second or two; in async code call it on a thread where one may block.
    ///
    /// # Errors
    /// [`Error::Dask`] says what is missing, and what to do.
    pub fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder(address).connect()
    }

    /// Describes an executor on the cluster of this scheduler.
    pub fn builder(address: impl Into<String>) -> DaskBuilder {
        DaskBuilder::new(address.into())
    }

    pub(super) fn over(connection: Arc<Connection>, address: String, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            connection,
            in_flight: InFlight::new(),
            admission: Arc::new(Admission::new(&limits)),
            is_ending: Mutex::new(false),
            is_over: watch::Sender::new(false),
        });
        Self { shared, address: address.into(), limits }
    }

    /// Returns how many workers the cluster has that may run the tasks, as was last heard.
    pub fn workers(&self) -> usize {
        self.shared.connection.last().workers()
    }

    /// Asks the cluster anew how many workers and threads it has; answered when what was submitted and cancelled before is known
    /// there.
    ///
    /// Answers [`Error::Dask`] if the cluster is lost, and has it tried anew.
    pub fn refresh(&self) -> Reply<()> {
        let (told, address) = (self.shared.connection.bridge().pending.ask(), self.address.clone());
        Reply::new(async move {
            told.await.map_err(|_| Error::Dask { address, problem: "the connection to it was lost".into() })
        })
    }
}

impl Executor for DaskExecutor {
    fn name(&self) -> &'static str {
        "DaskExecutor"
    }

    /// Returns how many threads the workers have that may run the tasks, as was last heard: at least 1, since more may come.
    fn max_workers(&self) -> usize {
        self.shared.connection.last().threads().max(1)
    }

    fn pending_max(&self) -> usize {
        self.limits.pending_tasks_max
    }

    fn pending_bytes_max(&self) -> usize {
        self.limits.pending_bytes_max
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        let Shared { connection, in_flight, admission, .. } = &*self.shared;
        for call in calls {
            match admission.place(call.weight()) {
                Ok(place) => {
                    if let Some(job) = in_flight.admit(call) {
                        connection.bridge().pending.take(job, place);
                    }
                }
                Err(error) => call.refuse(error),
            }
        }
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        // Asked first: where a cancel is on its way, the end comes behind it.
        drop(self.shared.in_flight.shutdown(pending));
        self.shared.end();
        let (mut is_over, shared) = (self.shared.is_over.subscribe(), self.shared.clone());
        Reply::new(async move {
            let waited = is_over.wait_for(|&is_over| is_over).await;
            drop(shared);
            waited.map(drop).map_err(|_| Error::ClusterStopped)
        })
    }
}

impl Shared {
    /// Has the bridge end once nothing is in flight: on a thread that waits for it.
    fn end(self: &Arc<Self>) {
        if std::mem::replace(&mut *self.is_ending.lock(), true) {
            return;
        }
        let shared = self.clone();
        let wait = move || {
            // Cannot fail: this thread drives no runtime.
            let _ = shared.in_flight.shutdown(Pending::Finish).get();
            shared.connection.finish();
            shared.is_over.send_replace(true);
        };
        if let Err(error) = std::thread::Builder::new().name("cb-shutdown".into()).spawn(wait) {
            // The bridge ends with this program then.
            tracing::error!(%error, "no thread to end the bridge to Dask on");
            self.is_over.send_replace(true);
        }
    }
}

impl Drop for DaskExecutor {
    fn drop(&mut self) {
        drop(self.shared.in_flight.shutdown(Pending::Finish));
        self.shared.end();
    }
}

impl fmt::Debug for DaskExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<DaskExecutor {}: {} workers>", self.address, self.workers())
    }
}
