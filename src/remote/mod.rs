//! Engines that are elsewhere: a gateway stands for one here, and takes what an engine of this process takes; on the
//! far side the same engine runs as in a process of its own.

mod attend;
mod gateway;
mod allowance;
mod force;
mod calls;
mod fate;
mod mark;
mod sent;
mod looks;
mod early;
mod engine;
mod departure;
mod log_lines;
// Only the command line tells anything.
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub(crate) mod log_uplink;
mod functions;
mod numbers;
mod claims;
mod behind;
mod answers;
mod conversation;
mod ids_here;
mod trouble;
mod slowness;
mod client_proxy;
mod on_hosts;
mod controller_proxy;
mod client_actors;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod lying_clients;
#[cfg(test)]
mod lying_controllers;
#[cfg(test)]
pub(crate) mod simulation;

/// Why a session ends in good order: the engine may go, or the cluster has ended.
pub(crate) const STOPPED: &str = "it was stopped";

/// Why a session ends whose peer takes too little of what it is told. It may begin another.
pub(crate) const TOO_SLOW: &str = "too little was taken of what was said, and more would have filled the memory";

/// Why a session ends whose peer has not come back in time.
pub(crate) const NOT_RESUMED: &str = "it was not resumed in time";

pub(crate) use allowance::WORN_OUT;
pub(crate) use attend::{Said, attend};
pub(crate) use client_actors::ClientActors;
pub(crate) use client_proxy::{ClientProxy, ClientProxyParts, Goodbye};
pub(crate) use controller_proxy::{Away, Connected, ControllerProxy, Gone, Leave};
pub(crate) use departure::{Departure, TellDeparture};
#[cfg(test)]
pub(crate) use engine::back;
pub(crate) use engine::{Desk, Serving, serve};
pub(crate) use fate::{Begun, Fate, Process};
pub(crate) use gateway::{Gateway, GatewayParts, Lost};
pub(crate) use mark::Mark;
pub(crate) use on_hosts::HostParts;
