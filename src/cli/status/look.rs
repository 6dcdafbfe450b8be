//! A look at a cluster; two of them make a report.

use serde::Serialize;
use tokio::time::Instant;

use super::super::cluster::Facts;
use crate::ledger::EngineStatus;
use crate::{Client, Error, QueueStatus};

/// Where the tasks were at one moment.
pub(super) struct Look {
    at: Instant,
    status: QueueStatus,
}

/// A cluster between two looks, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What it was started as, if it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<Facts>,
    /// For how long it has run, if it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) up_s: Option<u64>,
    pub(super) engines: Vec<Engine>,
    /// Tasks accepted and not settled; of these, in the scheduler.
    pub(super) pending: usize,
    pub(super) queued: usize,
    /// Tasks settled since the start.
    pub(super) settled: u64,
    pub(super) settled_per_s: f64,
    pub(super) late_outcomes: u64,
    pub(super) undeliverable_callbacks: u64,
    pub(super) panicked_callbacks: u64,
}

/// One engine.
#[derive(Debug, Serialize)]
pub(super) struct Engine {
    pub(super) id: u32,
    /// A thread of the controller, or a process.
    pub(super) is: &'static str,
    pub(super) slots: u32,
    pub(super) sent: u32,
    pub(super) queued: usize,
}

impl Look {
    /// Asks a cluster.
    pub(super) async fn at(client: &Client) -> Result<Self, Error> {
        let status = client.queue_status().await?;
        Ok(Self { at: Instant::now(), status })
    }

    /// Returns what there is to show, with the rate since a look before.
    pub(super) fn report(&self, before: &Self, facts: Option<&Facts>) -> Report {
        let status = &self.status;
        let settled = status.settled.saturating_sub(before.status.settled);
        let s = self.at.duration_since(before.at).as_secs_f64();
        Report {
            cluster: facts.cloned(),
            up_s: facts.map(|facts| facts.age().as_secs()),
            engines: status.engines.iter().map(engine).collect(),
            pending: status.pending,
            queued: status.queued,
            settled: status.settled,
            settled_per_s: (settled as f64 / s * 10.0).round() / 10.0,
            late_outcomes: status.late_outcomes,
            undeliverable_callbacks: status.undeliverable_callbacks,
            panicked_callbacks: status.panicked_callbacks,
        }
    }
}

fn engine(engine: &EngineStatus) -> Engine {
    let EngineStatus { id, slots, is_local, outstanding, queued } = *engine;
    Engine { id: id.0, is: if is_local { "thread" } else { "process" }, slots, sent: outstanding, queued }
}
