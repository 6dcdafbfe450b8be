//! A look at a cluster; two of them make a report.

use std::time::Duration;

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
    /// Tasks settled by what it returned, since it joined.
    pub(super) settled: u64,
    /// The same in a second.
    pub(super) settled_per_s: f64,
}

/// Since when an engine's rate is told.
#[derive(Clone, Copy)]
pub(super) enum Since<'a> {
    /// It joined.
    Joined,
    /// The look before; it joined, if it was not there then.
    Before(&'a Look),
}

impl Look {
    /// Asks a cluster.
    pub(super) async fn at(client: &Client) -> Result<Self, Error> {
        let status = client.queue_status().await?;
        Ok(Self { at: Instant::now(), status })
    }

    /// Returns what there is to show, with the rate since a look before, and each engine's.
    pub(super) fn report(&self, before: &Self, since: Since<'_>, facts: Option<&Facts>) -> Report {
        let status = &self.status;
        let settled = status.settled.saturating_sub(before.status.settled);
        let passed = self.at.duration_since(before.at);
        Report {
            cluster: facts.cloned(),
            up_s: facts.map(|facts| facts.age().as_secs()),
            engines: status.engines.iter().map(|engine| self.engine(engine, since)).collect(),
            pending: status.pending,
            queued: status.queued,
            settled: status.settled,
            settled_per_s: rate(settled, passed),
            late_outcomes: status.late_outcomes,
            undeliverable_callbacks: status.undeliverable_callbacks,
            panicked_callbacks: status.panicked_callbacks,
        }
    }

    fn engine(&self, engine: &EngineStatus, since: Since<'_>) -> Engine {
        let EngineStatus { id, slots, is_local, outstanding, queued, settled, up } = *engine;
        let earlier = match since {
            Since::Joined => None,
            Since::Before(look) => {
                let engines = &look.status.engines;
                let found = engines.binary_search_by_key(&id, |engine| engine.id).ok();
                found.map(|at| (engines[at].settled, self.at.duration_since(look.at)))
            }
        };
        let (before, passed) = earlier.unwrap_or((0, up));
        let settled_per_s = rate(settled.saturating_sub(before), passed);
        let is = if is_local { "thread" } else { "process" };
        Engine { id: id.0, is, slots, sent: outstanding, queued, settled, settled_per_s }
    }
}

/// Returns how many that is in a second, with one digit behind the point.
fn rate(count: u64, passed: Duration) -> f64 {
    if passed.is_zero() { 0.0 } else { (count as f64 / passed.as_secs_f64() * 10.0).round() / 10.0 }
}
