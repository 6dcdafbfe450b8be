//! Engines that are elsewhere: a gateway stands for one here, and takes what an engine of this process takes; on the
//! far side the same engine runs as in a process of its own.

mod gateway;
mod mark;
mod sent;
mod engine;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod simulation;

pub(crate) use engine::{Serving, serve};
pub(crate) use gateway::{Begun, Fate, Gateway, GatewayParts, Lost, Process, Said};
pub(crate) use mark::Mark;
