//! Tasks on a Dask cluster: each is a Dask task, made by an engine that is this program once more.
//!
//! ```text
//! ex.submit(task)    executor.rs   admission, a job
//!   | connection.rs                a bridge, or another one where that was lost
//!   | pending.rs, entry.rs         which task is where, and as which attempt; outcomes and cancels meet here
//!   | CALL           bridge.rs     encoded once, written to a child process
//! client.map         bridge/*.py   a client of the cluster, by Dask's documented interface
//!   | ..Dask..                     places it, retries it, shows it
//! make(call)         plugin/*.py   a plugin on each worker: hands it to an engine that is free
//!   | ENGINE_CALL
//! attempt            resident.rs   the engine: decodes, makes the attempt, encodes the value
//!   '-> report.rs                  back the same way; nobody between reads it
//! ```
//!
//! Or Dask starts engines on its workers that dial a cluster of ours: `launcher.rs`, by the same bridge and plugin. A cluster of
//! this machine that is started for this program is `local.rs`.

mod executor;
mod builder;
mod connection;
mod launcher;
mod local;
mod pending;
mod entry;
mod bridge;
mod python;
mod frames;
mod report;
mod resident;

pub use builder::{DaskBuilder, Deliver};
pub use executor::DaskExecutor;
pub use launcher::Dask;
pub use local::{LocalDask, LocalDaskBuilder};
pub(crate) use resident::{RESIDENT_ARGUMENT, serve as resident};
