//! An executor of plain threads, on rayon's pool: no cluster, no actors.

mod builder;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Call, Executor, InFlight};
use crate::admission::Admission;
use crate::async_result::Reply;
use crate::error::Error;
use crate::messages::Pending;

pub use builder::ThreadPoolBuilder;

/// Runs tasks on `n` threads of this process; `concurrent.futures.ThreadPoolExecutor`.
///
/// A task may use `rayon::join` and parallel iterators: they run on the same threads. Beyond
/// `limits.pending_tasks_max` and `pending_bytes_max` tasks are refused as `Overloaded`. A cancelled task that runs
/// settles at once; its thread is free when it returns.
///
/// Dropping it is `shutdown(Pending::Finish)` without waiting: results that are held elsewhere still come.
///
/// ```
/// use callboard::{ThreadPoolExecutor, prelude::*};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let ex = ThreadPoolExecutor::builder(2).thread_name("squares").stack_size(1 << 20).start()?;
/// assert_eq!(ex.submit(square(12)).get()?, 144);
/// ex.shutdown(Pending::Finish).get()?;
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct ThreadPoolExecutor {
    shared: Arc<Shared>,
    workers: usize,
    pending_max: usize,
    pending_bytes_max: usize,
}

struct Shared {
    /// `None` once the threads are told to end.
    pool: RwLock<Option<rayon::ThreadPool>>,
    in_flight: InFlight,
    admission: Arc<Admission>,
    /// Taken by the thread that ends them.
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
    is_over: watch::Sender<bool>,
}

impl ThreadPoolExecutor {
    /// Starts `n` threads.
    ///
    /// # Errors
    /// As [`ThreadPoolBuilder::start`].
    pub fn new(n: usize) -> Result<Self, Error> {
        Self::builder(n).start()
    }

    /// Describes an executor of `n` threads.
    pub fn builder(n: usize) -> ThreadPoolBuilder {
        ThreadPoolBuilder::of(n)
    }
}

impl Executor for ThreadPoolExecutor {
    fn name(&self) -> &'static str {
        "ThreadPoolExecutor"
    }

    fn max_workers(&self) -> usize {
        self.workers
    }

    fn pending_max(&self) -> usize {
        self.pending_max
    }

    fn pending_bytes_max(&self) -> usize {
        self.pending_bytes_max
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        let Shared { pool, in_flight, admission, .. } = &*self.shared;
        for call in calls {
            // Until the pool has no trace of the job: what is cancelled leaves its place in the queue there.
            let place = match admission.place(call.weight()) {
                Ok(place) => place,
                Err(error) => {
                    call.refuse(error);
                    continue;
                }
            };
            let Some(job) = in_flight.admit(call) else { continue };
            // While a job is in flight only a shutdown that cancelled it takes the pool away.
            if let Some(pool) = &*pool.read() {
                // Given back before anybody is woken: whoever then submits finds room.
                pool.spawn_fifo(move || job.run_then(|| drop(place)));
            }
        }
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.shared.in_flight.close(pending);
        self.shared.end();
        let mut is_over = self.shared.is_over.subscribe();
        let shared = self.shared.clone();
        Reply::new(async move {
            let waited = is_over.wait_for(|&is_over| is_over).await;
            drop(shared);
            waited.map(drop).map_err(|_| Error::ClusterStopped)
        })
    }
}

impl Shared {
    /// Has the threads end once nothing is in flight: on a thread that waits for them, for whoever shuts the
    /// executor down need not.
    fn end(self: &Arc<Self>) {
        let Some(threads) = self.threads.lock().take() else { return };
        let shared = self.clone();
        let wait = move || {
            // Cannot fail: this thread drives no runtime.
            let _ = shared.in_flight.ended().get();
            // Dropped on this thread and not under the lock. What was queued still comes to nothing there.
            let pool = shared.pool.write().take();
            drop(pool);
            for thread in threads {
                // Tasks run behind the door; what else panics there is a bug and was printed.
                let _ = thread.join();
            }
            shared.is_over.send_replace(true);
        };
        if let Err(error) = std::thread::Builder::new().name("cb-shutdown".into()).spawn(wait) {
            // The pool ends with its executor then.
            tracing::error!(%error, "no thread to shut a thread pool down on");
            self.is_over.send_replace(true);
        }
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.shared.in_flight.close(Pending::Finish);
        self.shared.end();
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<ThreadPoolExecutor {}>", self.workers)
    }
}
