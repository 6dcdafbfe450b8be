//! One number for an attempt, to be noted where there is room for no more.

use crate::task::{Attempt, TaskId};

/// A number that stands for an attempt of a task: 62 bits of a hash, so that two which one engine has at a time are never
/// alike in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn of(task: TaskId, attempt: Attempt) -> Self {
        let hash = mixed(task.client ^ mixed(task.seq ^ mixed(attempt.0.into())));
        // Positions in files are positive. It is odd: even ones say what is no task, 0 that nothing was noted.
        Self((hash >> 2) | 1)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Reads a number back; 0 stands for none.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

/// The finisher of SplitMix64: each bit of the result depends on each of the argument.
pub(super) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_have_marks_of_their_own() {
        let ids = (0..4).flat_map(|client| (0..50_000).map(move |seq| TaskId { client, seq }));
        let marks = ids.flat_map(|id| (1..4).map(move |attempt| Mark::of(id, Attempt(attempt)).number()));
        assert_eq!(marks.collect::<HashSet<_>>().len(), 600_000);
        assert!(Mark::of(TaskId { client: 0, seq: 0 }, Attempt(0)).number() > 0);
        assert_eq!(Mark::from_number(0), None);
    }
}
