//! What is told of where the tasks are.

use std::time::Duration;

use super::Ledger;
use super::orders::{EngineStatus, QueueStatus};
use super::queues::LOCAL;

impl Ledger {
    /// Returns where the tasks are.
    pub fn status(&self) -> QueueStatus {
        let mut engines: Vec<EngineStatus> = self
            .fleet
            .iter()
            .map(|engine| EngineStatus {
                id: engine.id,
                slots: engine.slots,
                is_local: engine.is_local,
                outstanding: engine.outstanding,
                queued: engine.direct.len(),
                settled: engine.settled,
                up: Duration::ZERO,
            })
            .collect();
        engines.sort_unstable_by_key(|engine| engine.id);
        let mut in_sets = 0;
        for (number, set) in self.sets.iter() {
            let mut members = set.members.iter();
            let only = members.next().filter(|_| members.next().is_none() && !set.is_open() && number != LOCAL);
            let only = only.map(|place| self.fleet.get(place as u32).id);
            match engines.iter_mut().find(|engine| Some(engine.id) == only) {
                Some(engine) => engine.queued += set.queue.len(),
                None => in_sets += set.queue.len(),
            }
        }
        let in_pieces = self.count_pieces(&mut engines);
        QueueStatus {
            pending: self.pending(),
            queued: in_sets + in_pieces + engines.iter().map(|engine| engine.queued).sum::<usize>(),
            engines,
            settled: self.settled,
            late_outcomes: self.late,
            ..QueueStatus::default()
        }
    }
}
