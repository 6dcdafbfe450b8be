//! Engines that are child processes of this program, or of another: launched, spoken to over a socket, watched.

mod child;
mod launch;
mod restarts;

pub use child::init;
pub(crate) use child::is_child;
pub(crate) use launch::{Halt, Launcher, launch};
