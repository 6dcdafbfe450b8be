//! Hosts: machines that run the programs that are shipped to them, as engines.
//!
//! On the machine itself: the [`daemon`], what it runs (`jobs`) and what it has (`cache`). At the controller: each host (`attached`), and
//! all of them (`hosts`). Between the two travels a `program`, which runs where the `machine` has what it needs.

mod machine;
mod program;
mod cache;
mod jobs;
mod daemon;
mod attached;
mod hosts;
mod ask;

pub use ask::OnHosts;
pub(crate) use ask::{LeaveHosts, RunOnHosts, Running};
pub(crate) use attached::{Attached, HostJob, HostProxy, Shipment};
pub use daemon::Host;
pub(crate) use hosts::{Hosts, NotNow};
pub use machine::{Machine, Needs};
pub use program::{Program, ProgramHash};

/// Longest name of a host, in bytes.
const NAME_BYTES_MAX: usize = 256;
