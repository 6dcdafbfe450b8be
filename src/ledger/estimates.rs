//! How long a task of each kind is expected to run: a moving mean of what engines reported.

use hashbrown::HashMap;
use std::time::Duration;

/// What is expected of each kind of task.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    /// Mean run time in nanoseconds, by the key of the kind. As many entries as the programs of the engines have tasks.
    mean_ns: HashMap<u64, u64>,
}

/// No task is cheaper than the way to its engine, so none counts for less than this, in nanoseconds.
const CHEAPEST_NS: u64 = 120;

/// How much of the mean a new measurement replaces, as a power of two: 1/8 follows a change within some
/// twenty tasks, and one outlier among many does not move it far.
const WEIGHT_SHIFT: u32 = 3;

impl Estimates {
    /// Returns the expected run time in nanoseconds; `None` for a kind that never ran.
    pub(super) fn expected_ns(&self, key: u64) -> Option<u32> {
        let mean = *self.mean_ns.get(&key)?;
        Some(u32::try_from(mean.max(CHEAPEST_NS)).unwrap_or(u32::MAX))
    }

    pub(super) fn on_measured(&mut self, key: u64, ran: Duration) {
        let ran = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX);
        self.mean_ns
            .entry(key)
            .and_modify(|mean| *mean = *mean - (*mean >> WEIGHT_SHIFT) + (ran >> WEIGHT_SHIFT))
            .or_insert(ran);
    }
}
