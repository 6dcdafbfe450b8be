//! Engines on the workers of a Dask cluster, which dial: Dask starts them, and has nothing to do with what they run.

use std::fmt;

use super::DaskBuilder;
use super::bridge::Bridge;
use super::pending::Say;
use crate::DaskExecutor;
use crate::error::Error;
use crate::launchers::{EngineFile, JobOutput, JobState, LaunchedJob, Launcher};

/// Launches engines on the workers of a Dask cluster, for each worker as many as it has threads for, more or less.
///
/// They dial this cluster, and are engines as any other: views, callbacks and cancels are ours, and a task costs microseconds and not
/// milliseconds. Dask provides the machines, and does not know that they are busy. Where a worker ends, or this program does, they are
/// told to leave. They are not launched again when they die, nor on workers that join later.
///
/// What they dial with goes to them through the Dask cluster: whoever can run code there can join here.
///
/// ```no_run
/// use callboard::launchers::Dask;
/// use callboard::{Listen, prelude::*};
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init(); // this program is its own engines
///     let cluster = Cluster::without_engines().start()?;
///     cluster.listen(Listen::at("10.0.0.7:0").directory("run"))?;
///     let engines = cluster.launch(Dask::at("tcp://10.0.0.7:8786"), 16)?;
///     println!("{:?} have joined", engines.joined().get()?);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Dask {
    builder: DaskBuilder,
}

impl Dask {
    /// Launches on the workers of this scheduler.
    pub fn at(address: impl Into<String>) -> Self {
        Self::with(DaskExecutor::builder(address))
    }

    /// Launches as this says: interpreter, TLS, workers by address, host or name, program and its arguments, and how it is delivered. What it says of
    /// tasks does not matter.
    pub fn with(builder: DaskBuilder) -> Self {
        Self { builder }
    }
}

impl Launcher for Dask {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let name = format!("Dask {}", self.builder.address());
        let bridge = self.builder.start(Some((n, file.leashed())))?;
        Ok(vec![Box::new(DaskJob { name, engines: n, bridge })])
    }
}

/// The engines of one launch. Dropping it has them leave: the bridge ends.
struct DaskJob {
    name: String,
    engines: usize,
    bridge: Bridge,
}

impl LaunchedJob for DaskJob {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn engines(&self) -> usize {
        self.engines
    }

    fn state(&self) -> JobState {
        match self.bridge.pending.lost() {
            Some(cause) => JobState::Ended { cause },
            None => JobState::Running,
        }
    }

    /// Returns what the bridge printed. What the engines print is in the logs of their workers.
    fn output(&self) -> JobOutput {
        JobOutput { stdout: String::new(), stderr: self.bridge.printed() }
    }

    fn leave(&self) {
        self.bridge.pending.say(Say::Leave);
    }

    fn kill(&self) {
        self.bridge.pending.say(Say::KillEngines);
    }
}

impl Drop for DaskJob {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for DaskJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}: {} engines>", self.name, self.engines)
    }
}
