//! Parallel computing with futures over engines.
//!
//! A program makes a **task** and gives it to a **view**; an **engine** runs it; the [`AsyncResult`] that the
//! program got at once resolves.
//!
//! **1. A task** is a function with an attribute. Calling it builds the task, as calling an `async fn` builds a
//! future.
//!
//! ```
//! use callboard::prelude::*;
//!
//! #[task]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! assert_eq!(square(7).call(), 49); // here, now
//! ```
//!
//! **2. A cluster** has engines. A [`Client`] is a handle on it, and makes views: of one engine, of all, of the
//! least loaded.
//!
//! ```
//! # use callboard::prelude::*;
//! # #[task] fn square(x: u64) -> u64 { x * x }
//! let cluster = Cluster::threads(4).start()?;
//! let rc = cluster.client();
//! assert_eq!(rc.engine(-1)?.apply(square(7)).get()?, 49);
//! assert_eq!(rc.all().apply(square(2)).get()?, [4, 4, 4, 4]);
//! assert_eq!(rc.load_balanced().apply(square(3)).get()?, 9);
//! # Ok::<(), callboard::Error>(())
//! ```
//!
//! **3. A result** is a future. On a plain thread it blocks; to an actor it is a message.
//!
//! ```
//! # use callboard::prelude::*;
//! # #[task] fn square(x: u64) -> u64 { x * x }
//! # let cluster = Cluster::threads(1).start()?;
//! # let view = cluster.client().load_balanced();
//! let ar = view.apply(square(9));
//! ar.add_done_callback(|ar| println!("{ar:?}"))?; // <AsyncResult square: done>
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let value: u64 = ar.await?;
//! # assert_eq!(value, 81); Ok::<(), callboard::Error>(()) })?;
//! # Ok::<(), callboard::Error>(())
//! ```
//!
//! **4. Many at once.** `map` makes a task of each item; how many travel together is chosen by how long they run.
//! One that fails leaves the others their values and places.
//!
//! ```
//! # use callboard::prelude::*;
//! # #[task] fn square(x: u64) -> u64 { x * x }
//! # let cluster = Cluster::threads(2).start()?;
//! # let view = cluster.client().load_balanced();
//! let ar = view.map(square, 0..10_000);
//! for (position, outcome) in ar.iter().enumerate().take(3) { // as they come, in order
//!     assert_eq!(outcome?, (position * position) as u64);
//! }
//! let squares: Vec<u64> = ar.get()?; // all of them
//! # assert_eq!(squares.len(), 10_000);
//! # Ok::<(), callboard::Error>(())
//! ```
//!
//! **5. An executor** is the interface of `concurrent.futures` over everything that runs tasks: a view, a
//! [`ThreadPoolExecutor`], one of your own; see [`executors`]. [`wait`](fn@wait) and [`as_completed`] take results of
//! any of them.
//!
//! ```
//! # use callboard::prelude::*;
//! # #[task] fn square(x: u64) -> u64 { x * x }
//! # let cluster = Cluster::threads(2).start()?;
//! let ex = cluster.client().executor();
//! let squares: Vec<u64> = ex.map(square, 0..5).collect::<Result<_, _>>()?;
//! assert_eq!(squares, [0, 1, 4, 9, 16]);
//! # Ok::<(), callboard::Error>(())
//! ```
//!
//! **6. What goes wrong** is an [`Error`] where your call was refused, and a [`TaskError`] where a task ended
//! without a value. Inside a task, `?` turns any error into a [`TaskFailure`].
//!
//! The guide in the repository's `docs/` has a page each for tasks, views, results and callbacks, executors, processes,
//! engines on other machines, launchers, hosts, Dask, the command line, and embedding, and a table for those who come from
//! ipyparallel, `concurrent.futures` or rayon.
//!
//! Underneath are actors and messages, open to whoever prefers them: see [`messages`] and [`Addresses`]. How one
//! task travels through them is told in `ARCHITECTURE.md`.
//!
//! # Features
//!
//! - `remote` (default): engines that are child processes or on other machines, the wire to them, TLS.
//! - `cli` (default): the command line, [`cli::main`], and the `callboard` command, which is that.
//! - `dask` (default): [`DaskExecutor`], whose tasks are those of a Dask cluster.
//!
//! With `default-features = false` only what runs in one process is built.

#![forbid(unsafe_code)]
// The words lead to what the features bring; without those there is nothing behind some links.
#![cfg_attr(not(all(feature = "cli", feature = "dask")), allow(rustdoc::broken_intra_doc_links))]

extern crate self as callboard;

pub mod task;
pub mod error;
pub mod limits;
pub mod catch;
mod apart;
pub mod registry;
pub mod ledger;
mod admission;
pub mod messages;
pub mod actors;
mod attempt;
mod async_result;
mod promise;
mod views;
mod controller;
mod engine_events;
pub mod executors;
mod client;
mod cluster;
#[cfg(feature = "remote")]
mod clock;
#[cfg(feature = "remote")]
pub mod wire;
#[cfg(feature = "remote")]
mod remote;
#[cfg(all(unix, feature = "remote"))]
mod process;
#[cfg(all(unix, feature = "remote"))]
mod net;
#[cfg(all(unix, feature = "remote"))]
pub mod launchers;
#[cfg(feature = "remote")]
mod host;
#[cfg(all(unix, feature = "dask"))]
mod dask;
#[cfg(not(all(unix, feature = "remote")))]
mod no_processes;
mod block_on;
#[cfg(all(unix, feature = "cli"))]
pub mod cli;

pub use async_result::{
    AsCompleted, AsCompletedItems, AsCompletedItemsStream, AsCompletedStream, AsyncMapResult, AsyncResult, Awaitable,
    CancelOnDrop, IntoIter, Iter, Reply, ResultStream, ReturnWhen, Waited, Waiting, as_completed, wait,
};
pub use callboard_macros::task;
pub use client::Client;
pub use cluster::{Cluster, ClusterBuilder};
pub use controller::Addresses;
#[cfg(all(unix, feature = "dask"))]
pub use dask::{DaskBuilder, DaskExecutor, Deliver, LocalDask, LocalDaskBuilder};
pub use engine_events::EngineEvents;
pub use error::{Coded, CompositeError, Error, Place, TaskError};
#[cfg(all(unix, feature = "remote"))]
pub use executors::ProcessPoolExecutor;
pub use executors::{Executor, ExecutorExt, ExecutorSpec, MapOptions, ThreadPoolExecutor, ViewExecutor};
#[cfg(all(unix, feature = "remote"))]
pub use host::{Host, OnHosts};
pub use ledger::{EngineStatus, Policy, QueueStatus};
pub use limits::Limits;
pub use messages::{EngineEvent, Pending, TaskDone};
#[cfg(all(unix, feature = "remote"))]
pub use net::{Dial, Listen, Listening, run_engine};
#[cfg(all(unix, feature = "remote"))]
pub use process::init;
pub use promise::Promise;
pub use registry::{Registration, Registry};
pub use task::{
    Attempt, EngineId, Moment, Record, Status, Task, TaskContext, TaskFailure, TaskId, TaskKind, TaskState,
};
pub use task::{Blob, Pulled, Pushable};
pub use views::{DirectView, EngineView, ExecutorView, LoadBalancedView, Selection, With, every_nth};

/// What nearly every program needs: `use callboard::prelude::*;`.
pub mod prelude {
    pub use crate::{
        AsyncMapResult, AsyncResult, Blob, Client, Cluster, Executor, ExecutorExt, Pending, Task, TaskContext,
        TaskDone, TaskError, TaskFailure, With, task,
    };
}

/// What `#[task]` and `register_task!` expand to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::block_on::block_on;
    pub use crate::task::{HeapBytes, ResultLike, UnknownHeapBytes};
    pub use inventory;
    pub use serde;
}

/// The programs of the README and of the guide are compiled and run with the documentation's.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/tasks.md")]
    mod tasks {}
    #[doc = include_str!("../docs/views.md")]
    mod views {}
    #[doc = include_str!("../docs/results-and-callbacks.md")]
    mod results_and_callbacks {}
    #[doc = include_str!("../docs/executors.md")]
    mod executors {}
    #[cfg(feature = "dask")]
    #[doc = include_str!("../docs/dask.md")]
    mod dask {}
    #[cfg(feature = "remote")]
    #[doc = include_str!("../docs/processes.md")]
    mod processes {}
    #[cfg(feature = "remote")]
    #[doc = include_str!("../docs/network.md")]
    mod network {}
    #[cfg(feature = "remote")]
    #[doc = include_str!("../docs/launchers.md")]
    mod launchers {}
    #[cfg(feature = "remote")]
    #[doc = include_str!("../docs/hosts.md")]
    mod hosts {}
    #[cfg(feature = "cli")]
    #[doc = include_str!("../docs/command_line.md")]
    mod command_line {}
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
}
