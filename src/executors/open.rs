//! From a text to an executor, with what must live as long as it does.

use std::fmt;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Call, Executor, ExecutorSpec, ThreadPoolExecutor};
use crate::async_result::Reply;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::messages::Pending;

/// An executor that was opened by an [`ExecutorSpec`], and what it lives on. Itself an executor.
///
/// Dropping it lets what was submitted finish, and then ends the workers that were started for it; a cluster elsewhere goes
/// on.
///
/// ```
/// use callboard::executors::ExecutorSpec;
/// use callboard::prelude::*;
///
/// let ex = ExecutorSpec::Engines(2).open()?;
/// assert_eq!(format!("{ex:?}"), "<ViewExecutor <LoadBalancedView all>>");
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct OpenExecutor {
    executor: Box<dyn Executor>,
    own: Mutex<Option<Own>>,
    is_over: watch::Sender<bool>,
}

/// What was started for an executor, and ends after it.
enum Own {
    Threads(Cluster),
    /// A cluster, and the engines that were launched for it.
    #[cfg(all(unix, feature = "remote"))]
    Launched(Cluster, crate::launchers::Launched),
    #[cfg(all(unix, feature = "dask"))]
    Dask(crate::LocalDask),
}

impl ExecutorSpec {
    /// Makes the executor. Its workers are there when this returns; those of a cluster elsewhere may join later. It waits for that, also
    /// on a thread that drives a runtime: up to some seconds where a Dask cluster starts, or where a cluster is far or gone.
    ///
    /// # Errors
    /// [`Error::Spec`] if this build cannot make it; else as that executor is started: [`Error::EngineFailed`],
    /// [`Error::Unreachable`], [`Error::ConnectionFile`], [`Error::System`], ..
    pub fn open(&self) -> Result<OpenExecutor, Error> {
        match self {
            Self::Threads(n) => Ok(OpenExecutor::of(ThreadPoolExecutor::new(*n)?)),
            Self::Engines(n) => {
                let cluster = Cluster::threads(*n).start()?;
                Ok(OpenExecutor::on(cluster.client().executor(), Own::Threads(cluster)))
            }
            Self::Processes(n) => processes(self, *n),
            Self::Tcp(n) => tcp(self, *n),
            Self::Cluster(which) => cluster(self, which),
            Self::Dask(address) => dask(self, address),
            Self::DaskLocal(n) => dask_local(self, *n),
        }
    }

    /// Says why this build cannot make it.
    #[cfg(not(all(unix, feature = "dask")))]
    fn refused(&self, problem: &str) -> Error {
        Error::Spec { place: "executor", text: self.to_string().into(), problem: problem.into() }
    }
}

#[cfg(all(unix, feature = "remote"))]
fn processes(_: &ExecutorSpec, n: usize) -> Result<OpenExecutor, Error> {
    Ok(OpenExecutor::of(super::ProcessPoolExecutor::new(n)?))
}

#[cfg(all(unix, feature = "remote"))]
fn tcp(_: &ExecutorSpec, n: usize) -> Result<OpenExecutor, Error> {
    on_a_thread(move || tcp_here(n))
}

#[cfg(all(unix, feature = "remote"))]
fn tcp_here(n: usize) -> Result<OpenExecutor, Error> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("callboard-tcp-{}-{number}", std::process::id()));
    let cluster = Cluster::without_engines().start()?;
    cluster.listen(crate::Listen::at("127.0.0.1:0").directory(&directory))?;
    let launched = cluster.launch(crate::launchers::Local::new(), n);
    let joined = launched
        .and_then(|launched| launched.joined().get().map(|_| launched))
        .and_then(crate::launchers::Launched::restarting);
    // Nobody else is to join, and what has dialled keeps what it read.
    let _ = std::fs::remove_dir_all(directory);
    let joined = joined.map_err(|error| match error {
        Error::EngineFailed { cause } => {
            Error::EngineFailed { cause: format!("{cause}; its main has to call callboard::init() first").into() }
        }
        other => other,
    })?;
    Ok(OpenExecutor::on(cluster.client().executor(), Own::Launched(cluster, joined)))
}

#[cfg(all(unix, feature = "remote"))]
fn cluster(_: &ExecutorSpec, which: &str) -> Result<OpenExecutor, Error> {
    let is_file = which.ends_with(".json") || which.contains('/');
    let client = if is_file { crate::Client::connect(which) } else { crate::Client::connect_to(which) };
    on_a_thread(|| Ok(OpenExecutor::of(client.get()?.executor())))
}

/// Waits for it on a thread of its own: this one may drive a runtime, where the answers would be refused.
#[cfg(all(unix, feature = "remote"))]
fn on_a_thread(open: impl FnOnce() -> Result<OpenExecutor, Error> + Send) -> Result<OpenExecutor, Error> {
    std::thread::scope(|scope| {
        let opening = std::thread::Builder::new().name("cb-open".into()).spawn_scoped(scope, open);
        let opening =
            opening.map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })?;
        opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(not(all(unix, feature = "remote")))]
const NO_REMOTE: &str = "this build has no engines in other processes; build callboard with feature remote, on Unix";

#[cfg(not(all(unix, feature = "remote")))]
fn processes(spec: &ExecutorSpec, _: usize) -> Result<OpenExecutor, Error> {
    Err(spec.refused(NO_REMOTE))
}

#[cfg(not(all(unix, feature = "remote")))]
fn tcp(spec: &ExecutorSpec, _: usize) -> Result<OpenExecutor, Error> {
    Err(spec.refused(NO_REMOTE))
}

#[cfg(not(all(unix, feature = "remote")))]
fn cluster(spec: &ExecutorSpec, _: &str) -> Result<OpenExecutor, Error> {
    Err(spec.refused(NO_REMOTE))
}

#[cfg(all(unix, feature = "dask"))]
fn dask(_: &ExecutorSpec, address: &str) -> Result<OpenExecutor, Error> {
    Ok(OpenExecutor::of(crate::DaskExecutor::connect(address)?))
}

#[cfg(all(unix, feature = "dask"))]
fn dask_local(_: &ExecutorSpec, n: usize) -> Result<OpenExecutor, Error> {
    let dask = crate::LocalDask::start(n)?;
    Ok(OpenExecutor::on(dask.connect()?, Own::Dask(dask)))
}

#[cfg(not(all(unix, feature = "dask")))]
const NO_DASK: &str = "this build cannot speak with a Dask scheduler; it would have to have feature dask";

#[cfg(not(all(unix, feature = "dask")))]
fn dask(spec: &ExecutorSpec, _address: &str) -> Result<OpenExecutor, Error> {
    Err(spec.refused(NO_DASK))
}

#[cfg(not(all(unix, feature = "dask")))]
fn dask_local(spec: &ExecutorSpec, _: usize) -> Result<OpenExecutor, Error> {
    Err(spec.refused(NO_DASK))
}

impl OpenExecutor {
    fn of(executor: impl Executor + 'static) -> Self {
        Self { executor: Box::new(executor), own: Mutex::new(None), is_over: watch::Sender::new(true) }
    }

    fn on(executor: impl Executor + 'static, own: Own) -> Self {
        Self { executor: Box::new(executor), own: Mutex::new(Some(own)), is_over: watch::Sender::new(false) }
    }

    /// Has the cluster end behind the executor, if it is there for it: on a thread that waits for both.
    fn end(&self, executor: Reply<()>) -> Reply<()> {
        let Some(own) = self.own.lock().take() else { return executor };
        let is_over = self.is_over.clone();
        let end = move || {
            // Cannot fail: this thread drives no runtime.
            let _ = executor.get();
            own.end();
            is_over.send_replace(true);
        };
        if let Err(error) = std::thread::Builder::new().name("cb-shutdown".into()).spawn(end) {
            // What is its own ends with the closure then, and cancels what is left.
            tracing::error!(%error, "no thread to shut an executor's cluster down on");
            self.is_over.send_replace(true);
        }
        Reply::new(async { Ok(()) })
    }
}

impl Own {
    /// Ends it, and waits for that. This thread drives no runtime, so no answer is missed.
    fn end(self) {
        let _ = match self {
            Self::Threads(cluster) => cluster.shutdown(Pending::Finish).get(),
            #[cfg(all(unix, feature = "remote"))]
            Self::Launched(cluster, launched) => {
                let ended = cluster.shutdown(Pending::Finish).get();
                drop(launched);
                ended
            }
            #[cfg(all(unix, feature = "dask"))]
            Self::Dask(dask) => dask.shutdown().get(),
        };
    }
}

impl Executor for OpenExecutor {
    fn name(&self) -> &'static str {
        self.executor.name()
    }

    fn max_workers(&self) -> usize {
        self.executor.max_workers()
    }

    fn pending_max(&self) -> usize {
        self.executor.pending_max()
    }

    fn pending_bytes_max(&self) -> usize {
        self.executor.pending_bytes_max()
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        self.executor.execute(calls);
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        let executor = self.end(self.executor.shutdown(pending));
        let mut is_over = self.is_over.subscribe();
        Reply::new(async move {
            executor.await?;
            // An `Err` is an executor that is gone, and its cluster with it.
            let _ = is_over.wait_for(|&is_over| is_over).await;
            Ok(())
        })
    }
}

impl Drop for OpenExecutor {
    fn drop(&mut self) {
        if self.own.get_mut().is_some() {
            drop(self.shutdown(Pending::Finish));
        }
    }
}

impl fmt::Debug for OpenExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.executor.fmt(f)
    }
}
