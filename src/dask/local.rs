//! A Dask cluster on this machine that is there for this program, and ends with it.

use std::fmt;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::frames::from_bridge::READY;
use super::python::{Python, interpreter, named};
use super::{DaskBuilder, DaskExecutor};
use crate::async_result::Reply;
use crate::error::Error;
use crate::limits::check_workers;

/// What the process runs that is the scheduler, and starts the workers.
const SOURCE: &str = include_str!("local.py");

/// What tells the process from others in a list of them.
const NAME: &str = "callboard-local-dask";

/// How long it may take to start, by default: an interpreter for each worker, and Dask loaded in each.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end, before it is killed: twice what it gives itself.
const END: Duration = Duration::from_secs(20);

/// A Dask cluster on this machine that was started for this program: `distributed.LocalCluster` in Python.
///
/// A scheduler on loopback, and workers that are processes of one thread each. It ends when this is dropped, and with this
/// program, however that ends. To try what is to run on a cluster elsewhere; for work on one machine a
/// [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) is about a thousand times as fast.
///
/// As with any `LocalCluster`, whoever may connect to ports of this machine's loopback can run code as its user.
///
/// ```no_run
/// use callboard::{LocalDask, prelude::*};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init(); // on a worker this is an engine
///     let dask = LocalDask::start(4)?;
///     let ex = dask.connect()?;
///     assert_eq!(ex.submit(square(7)).get()?, 49);
///     ex.shutdown(Pending::Finish).get()?; // first the executor
///     dask.shutdown().get()
/// }
/// ```
pub struct LocalDask {
    address: Box<str>,
    workers: usize,
    interpreter: Box<str>,
    python: Arc<Python>,
    /// Its end has the cluster end.
    stdin: Option<ChildStdin>,
}

/// What a [`LocalDask`] is to be like; [`start`](Self::start) makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before .start()"]
pub struct LocalDaskBuilder {
    workers: usize,
    python: Option<String>,
    wait: Duration,
}

impl LocalDaskBuilder {
    /// Sets the Python interpreter, by default what the variable `CALLBOARD_PYTHON` names, else `python3`. It needs the package
    /// `distributed`.
    pub fn python(mut self, python: impl Into<String>) -> Self {
        self.python = Some(python.into());
        self
    }

    /// Sets how long the start may take, by default 60 s.
    pub fn start_within(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Starts it; its workers are there when this returns. Takes some seconds; in async code call it on a thread where one may
    /// block.
    ///
    /// # Errors
    /// [`Error::Dask`] says what is missing, and what to do; [`Error::Zero`] for no workers, [`Error::TooMany`] for more than 4096.
    pub fn start(self) -> Result<LocalDask, Error> {
        let Self { workers, python, wait } = self;
        check_workers("workers", workers)?;
        let refused =
            |problem: String| Error::Dask { address: format!("local:{workers}").into(), problem: problem.into() };
        let interpreter = interpreter(python.as_deref());
        let (tell, told) = mpsc::sync_channel(1);
        let ready = tell.clone();
        let on_frame = move |kind, body: Vec<u8>| {
            if kind == READY {
                let _ = ready.try_send(Ok(String::from_utf8_lossy(&body).into_owned()));
            }
        };
        let on_end = move |cause: &str| {
            // The first answer counts.
            let _ = tell.try_send(Err(cause.to_owned()));
        };
        let args = ["-c", SOURCE, NAME, &workers.to_string()];
        let (python, stdin) =
            Python::start("the local Dask cluster", &interpreter, &args, on_frame, on_end).map_err(refused)?;
        let Ok(answer) = told.recv_timeout(wait) else {
            python.kill();
            return Err(refused(too_late(wait, &python.printed())));
        };
        let address = answer.map_err(refused)?.into();
        Ok(LocalDask { address, workers, interpreter: interpreter.into(), python, stdin: Some(stdin) })
    }
}

fn too_late(wait: Duration, printed: &str) -> String {
    let printed = if printed.is_empty() { String::new() } else { format!("; it printed last: {printed}") };
    format!("its workers did not start within {wait:?}{printed}")
}

impl LocalDask {
    /// Starts so many workers; see [`LocalDaskBuilder::start`].
    ///
    /// # Errors
    /// [`Error::Dask`] says what is missing, and what to do; [`Error::Zero`] for no workers, [`Error::TooMany`] for more than 4096.
    pub fn start(workers: usize) -> Result<Self, Error> {
        Self::builder(workers).start()
    }

    /// Describes a cluster of so many workers.
    pub fn builder(workers: usize) -> LocalDaskBuilder {
        LocalDaskBuilder { workers, python: None, wait: START }
    }

    /// Returns the scheduler's address, for whoever connects to it by other means.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Describes an executor on it, with the same interpreter.
    pub fn executor(&self) -> DaskBuilder {
        DaskExecutor::builder(&*self.address).python(&*self.interpreter)
    }

    /// Connects an executor to it.
    ///
    /// # Errors
    /// [`Error::Dask`] says what is missing, and what to do.
    pub fn connect(&self) -> Result<DaskExecutor, Error> {
        self.executor().connect()
    }

    /// Ends it; answered when nothing of it is left. Executors on it are shut down before, or what they have is lost.
    pub fn shutdown(mut self) -> Reply<()> {
        self.stdin = None;
        let (over, python) = (self.python.over(), self.python.clone());
        if let Err(error) = named("cb-dask-end", move || python.ends_within(END)) {
            // Then it ends in its own time.
            tracing::error!(%error, "no thread to see a local Dask cluster end on");
        }
        over
    }
}

impl fmt::Debug for LocalDask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<LocalDask {}: {} workers>", self.address, self.workers)
    }
}
