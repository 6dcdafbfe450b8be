//! Launchers: engines on machines that are already there, started by what starts programs there.
//!
//! Each starts programs that dial the cluster with a connection file, and gives back what it started, so that it can be looked at and
//! ended. What runs there is an engine as any other that dials.
//!
//! ```no_run
//! use callboard::launchers::Ssh;
//! use callboard::{Listen, prelude::*};
//!
//! let cluster = Cluster::without_engines().start()?;
//! cluster.listen(Listen::at("10.0.0.7:0").directory("run"))?;
//! let engines = cluster.launch(Ssh::to(["a", "b"]).program("/opt/engine"), 8)?;
//! println!("{:?} have joined", engines.joined().get()?);
//! # Ok::<(), callboard::Error>(())
//! ```

mod launcher;
mod engine_file;
mod launched;
mod launches;
mod restarting;
mod process;
mod tail;
mod program;
mod local;
mod template;
mod ssh;
mod quote;
mod slurm;
mod slurm_queue;
mod mpi;
mod hosts;

#[cfg(feature = "cli")]
pub(crate) use hosts::Packed;
pub(crate) use launches::Launches;
pub(crate) use process::{ProcessJob, Start};
pub(crate) use program::DIAL_ARGUMENT;
pub(crate) use tail::KEPT_BYTES_MAX;

#[cfg(feature = "dask")]
pub use crate::dask::Dask;
pub use engine_file::EngineFile;
pub use hosts::Hosts;
pub use launched::Launched;
pub use launcher::{JobOutput, JobState, LaunchedJob, Launcher};
pub use local::Local;
pub use mpi::Mpi;
pub use slurm::Slurm;
pub use ssh::Ssh;
pub use template::Template;
