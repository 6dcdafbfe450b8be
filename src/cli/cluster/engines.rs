//! What kinds of engines a cluster can be started with.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{Cluster, EngineId, Reply};

/// Where engines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engines {
    /// Child processes: what crashes one ends that one, and it is launched again
    Processes,
    /// Threads of the controller: the cheapest; what crashes one ends the cluster
    Threads,
    /// On other machines, by the ssh that you use
    Ssh,
    /// In Slurm's queue, a job each; inside an allocation, in that
    Slurm,
    /// Wherever mpiexec starts them
    Mpi,
    /// On hosts that have come to the cluster, to which this program is shipped
    Hosts,
}

impl Engines {
    /// Adds `n` of them to a cluster, if they are this machine's; answered when they have joined.
    pub(super) fn add(self, cluster: &Cluster, n: usize) -> Option<Reply<Vec<EngineId>>> {
        match self {
            Self::Processes => Some(cluster.add_processes(n)),
            Self::Threads => Some(cluster.add_threads(n)),
            Self::Ssh | Self::Slurm | Self::Mpi | Self::Hosts => None,
        }
    }

    /// Returns whether another program starts them, and they dial.
    pub(super) fn are_launched(self) -> bool {
        matches!(self, Self::Ssh | Self::Slurm | Self::Mpi | Self::Hosts)
    }

    /// Returns how many of them there are, in words.
    pub(super) fn counted(self, n: usize) -> String {
        match self {
            Self::Processes if n == 1 => "1 process".into(),
            Self::Threads if n == 1 => "1 thread".into(),
            Self::Processes | Self::Threads => format!("{n} {}", self.name()),
            Self::Ssh | Self::Slurm | Self::Mpi => format!("{n} by {}", self.name()),
            Self::Hosts => format!("{n} on hosts"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Threads => "threads",
            Self::Ssh => "ssh",
            Self::Slurm => "slurm",
            Self::Mpi => "mpi",
            Self::Hosts => "hosts",
        }
    }
}
