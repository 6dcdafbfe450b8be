//! Which task is where, and which engine comes next: plain data and functions, no actix, no clock, no I/O.
//!
//! The Scheduler tells the [`Ledger`] what happened, with the present moment, and carries out the
//! [`Order`]s it gets back.

mod orders;
mod entry;
mod events;
mod index;
mod status;
mod pieces;
mod knowing;
mod shares;
mod holds;
mod targets;
mod dispatch;
mod endings;
mod recall;
mod whereabouts;
mod retirement;
mod engine;
mod fleet;
mod placement;
mod candidates;
mod ages;
mod policy;
mod queues;
mod estimates;
mod deadlines;
mod bits;

pub use events::Ledger;
pub use orders::{Assignment, EngineOffer, EngineStatus, HandBack, Order, QueueStatus, Request, SettledTask};
pub use policy::Policy;
pub use whereabouts::Whereabouts;
