//! Engines that are elsewhere: a gateway stands for one here, and takes what an engine of this process takes; on the
//! far side the same engine runs as in a process of its own.

mod gateway;
mod calls;
mod fate;
mod mark;
mod sent;
mod engine;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod simulation;

/// Why a session ends in good order.
pub(crate) const STOPPED: &str = "the engine was stopped";

pub(crate) use engine::{Serving, serve};
pub(crate) use fate::{Begun, Fate, Process};
pub(crate) use gateway::{Gateway, GatewayParts, Lost, attend};
pub(crate) use mark::Mark;
