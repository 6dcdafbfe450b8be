//! Parallel computing with futures over engines.

extern crate self as callboard;

pub mod task;
pub mod error;
pub mod limits;
pub mod catch;
pub mod registry;
pub mod ledger;
mod admission;
pub mod messages;
pub mod actors;
mod async_result;
mod views;
mod controller;
mod client;
mod cluster;
pub mod block_on;

pub use callboard_macros::task;
pub use error::{CompositeError, Error, Place, TaskError};
pub use limits::Limits;
pub use async_result::{AsyncMapResult, AsyncResult, Reply};
pub use client::Client;
pub use cluster::{Cluster, ClusterBuilder};
pub use controller::Addresses;
pub use ledger::{EngineStatus, QueueStatus};
pub use messages::{Pending, TaskDone};
pub use registry::{Registration, Registry};
pub use views::{DirectView, EngineView, LoadBalancedView, With};
pub use task::{Attempt, EngineId, Moment, Record, Status, Task, TaskContext, TaskFailure, TaskId, TaskKind};

/// What nearly every program needs: `use callboard::prelude::*;`.
pub mod prelude {
    pub use crate::{
        AsyncMapResult, AsyncResult, Client, Cluster, Pending, Task, TaskContext, TaskDone, TaskError, TaskFailure, With,
        task,
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
