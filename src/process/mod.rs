//! Engines that are child processes of this program, or of another: launched, spoken to over a socket, watched.

mod processes;
mod launch;
mod start;
mod attend;
mod halt;
mod restarts;
mod tally;
mod hand_down;
mod first;
mod forward;
mod child;
mod capture;
mod readable;

#[cfg(feature = "dask")]
pub(crate) use child::end_group;
pub use child::init;
pub(crate) use child::is_child;
pub(crate) use first::First;
pub(crate) use processes::{Children, Processes};
pub(crate) use restarts::{Died, Restarts};
