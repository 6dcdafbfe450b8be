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
}

impl Engines {
    /// Adds `n` of them to a cluster; answered when they have joined.
    pub(super) fn add(self, cluster: &Cluster, n: usize) -> Reply<Vec<EngineId>> {
        match self {
            Self::Processes => cluster.add_processes(n),
            Self::Threads => cluster.add_threads(n),
        }
    }

    /// Returns how many of them there are, in words.
    pub(super) fn counted(self, n: usize) -> String {
        match self {
            Self::Processes if n == 1 => "1 process".into(),
            Self::Threads if n == 1 => "1 thread".into(),
            _ => format!("{n} {}", self.name()),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Threads => "threads",
        }
    }
}
