//! Engines and clients on other machines: a controller listens, and they dial it.
//!
//! Both sides have certificates of an authority that the cluster has for itself, and speak TLS 1.3. What either needs is
//! in one file. Above TLS everything is as with a child process: a session, a gateway.

mod connection_file;
mod authority;
mod tls;
mod gate;
mod listen;
mod directory;
mod held;
mod network;
mod vigil;
mod peers;
mod arrivals;
mod way;
mod dial;
mod dialler;
mod backoff;
mod stay;
mod told;
mod client;
mod clients;
mod home;
mod folder;
#[cfg(test)]
mod simulation;

pub(crate) use arrivals::Arrivals;
pub(crate) use connection_file::ConnectionFile;
#[cfg(feature = "cli")]
pub(crate) use directory::CLIENT_FILE;
pub(crate) use folder::LAUNCH_FILES;
#[cfg(feature = "cli")]
pub(crate) use folder::{FACTS_FILE, Folder, Holder, LOG_FILE, Life, OLD_LOG_FILE, open_log};
#[cfg(feature = "cli")]
pub(crate) use home::{ClusterName, Home, Take};
pub(crate) use network::Network;
pub(crate) use stay::Serve;
pub(crate) use way::Connection;

pub use dial::{Dial, run_engine};
pub use listen::{Listen, Listening};
