//! Who does it, in the order in which one task meets them.
//!
//! The actors are shells: each handler asks pure code (`ledger`, `waiting`, `records`) and carries out the
//! answer. They share one arbiter; code of the user's runs on none.

mod scheduler;
mod engine;
mod tray;
mod witness;
mod worker;
mod result_store;
mod waiting;
mod records;
mod callbacks;
mod dispatcher;
mod pool;
mod lane;
mod spin;
mod roster;
mod subscribers;
mod barrier;
mod asked;
mod threads;
mod end;

#[cfg(all(unix, feature = "remote"))]
pub(crate) use asked::ToAsk;
pub(crate) use asked::{Asked, Questions, ask};
pub use callbacks::Callbacks;
pub(crate) use dispatcher::{CallbackCounts, Dispatcher};
pub(crate) use end::End;
pub use engine::Engine;
pub(crate) use engine::EngineParts;
pub(crate) use lane::Lane;
#[cfg(feature = "remote")]
pub(crate) use lane::{Counted, LaneStream};
pub use result_store::ResultStore;
pub(crate) use result_store::ResultStoreParts;
pub(crate) use roster::Roster;
pub use scheduler::Scheduler;
pub(crate) use scheduler::SchedulerParts;
#[cfg(all(unix, feature = "remote"))]
pub(crate) use scheduler::WhyItGoes;
pub(crate) use spin::Spin;
pub(crate) use subscribers::Subscribers;
#[cfg(feature = "remote")]
pub(crate) use subscribers::tell;
pub(crate) use threads::Threads;
#[cfg(feature = "remote")]
pub(crate) use witness::Witness;
#[cfg(all(unix, feature = "dask"))]
pub(crate) use worker::encode_for_another;
