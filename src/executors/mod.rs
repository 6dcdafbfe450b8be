//! One interface for everything that runs tasks, so that one can be swapped for another: `concurrent.futures`
//! for Rust.
//!
//! A program has an [`Executor`] and calls [`submit`](ExecutorExt::submit) and [`map`](ExecutorExt::map) on it:
//!
//! ```
//! use callboard::prelude::*;
//! use callboard::ThreadPoolExecutor;
//!
//! #[task]
//! fn to_text(x: u32) -> String { x.to_string() }
//!
//! let cluster = Cluster::threads(2).start()?;
//! let executors: Vec<Box<dyn Executor>> =
//!     vec![Box::new(ThreadPoolExecutor::new(2)?), Box::new(cluster.client().executor())];
//! for ex in &executors {
//!     println!("{}", ex.name()); // ThreadPoolExecutor, ViewExecutor
//!     let texts: Vec<String> = ex.map(to_text, 0..5).collect::<Result<_, _>>()?;
//!     assert_eq!(texts, ["0", "1", "2", "3", "4"]);
//! }
//! # Ok::<(), callboard::Error>(())
//! ```
//!
//! Which one a program uses may be a text, of an argument or the environment: see [`ExecutorSpec`].
//!
//! Whoever writes an executor gets [`Call`]s, turns each into a [`Job`], and has the jobs run where it likes:
//! see [`Executor`].

mod executor;
mod call;
mod job;
mod in_flight;
mod ext;
mod map_options;
mod feed;
mod map;
mod unordered;
mod combined;
mod view;
mod thread_pool;
#[cfg(all(unix, feature = "remote"))]
mod process_pool;
mod spec;
mod open;

pub use call::Call;
pub use combined::{Backoff, Limited, RetryPolicy, Retrying, TimeLimited, WithFallback};
pub use executor::Executor;
pub use ext::ExecutorExt;
pub use in_flight::InFlight;
pub use job::Job;
pub use map::{Map, MapStream};
pub use map_options::MapOptions;
pub use open::OpenExecutor;
#[cfg(all(unix, feature = "remote"))]
pub use process_pool::{ProcessPoolBuilder, ProcessPoolExecutor};
pub use spec::{EXECUTOR_VARIABLE, ExecutorSpec};
pub use thread_pool::{ThreadPoolBuilder, ThreadPoolExecutor};
pub use unordered::{Unordered, UnorderedStream};
pub use view::ViewExecutor;
