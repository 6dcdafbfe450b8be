//! Who waits until tasks are settled that were pending at some moment, and how many of these are left.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::task::{Span, TaskId};

/// One who waits. Dropped when nothing is left, which tells them.
#[derive(Debug)]
pub(super) struct Barrier {
    /// The tasks that are left, by the first of those in a row; how many.
    left: BTreeMap<TaskId, u32>,
    told: oneshot::Sender<()>,
}

impl Barrier {
    /// Waits for these tasks; nobody if there are none.
    pub(super) fn new(tasks: impl IntoIterator<Item = Span>, told: oneshot::Sender<()>) -> Option<Self> {
        let left: BTreeMap<_, _> = tasks.into_iter().map(|span| (span.first, span.count)).collect();
        (!left.is_empty()).then_some(Self { left, told })
    }

    /// Returns whether nothing is left.
    pub(super) fn is_open(&self) -> bool {
        self.left.is_empty()
    }

    /// Returns whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.told.is_closed()
    }

    /// Notes that tasks are settled.
    pub(super) fn on_settled(&mut self, gone: Span) {
        let is_in_it = |(&first, &count): (&TaskId, &u32)| Span { first, count }.common(gone).map(|_| first);
        // At most one begins before what is gone; the others begin in it.
        let before = self.left.range(..gone.first).next_back().and_then(is_in_it);
        let within = self.left.range(gone.first..=gone.last()).filter_map(is_in_it);
        let touched: Vec<TaskId> = before.into_iter().chain(within).collect();
        for first in touched {
            let Some(count) = self.left.remove(&first) else { continue };
            let span = Span { first, count };
            if first < gone.first {
                self.left.insert(first, (gone.first.seq - first.seq) as u32);
            }
            if span.last() > gone.last() {
                self.left.insert(gone.last().plus(1), (span.last().seq - gone.last().seq) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(seq: u64) -> TaskId {
        TaskId { client: 1, seq }
    }

    #[test]
    fn it_is_abandoned_when_nobody_waits_any_more() {
        let (tell, told) = oneshot::channel();
        let barrier = Barrier::new([Span { first: id(1), count: 2 }], tell).expect("there are some");
        assert!(!barrier.is_abandoned());
        drop(told);
        assert!(barrier.is_abandoned());
    }

    proptest! {
        #[test]
        fn it_opens_with_the_last_of_its_tasks(
            lengths in prop::collection::vec((1..9_u32, 0..3_u64), 1..8),
            settled in prop::collection::vec((0..60_u64, 1..12_u32), 0..40),
        ) {
            let (mut spans, mut left, mut next) = (Vec::new(), BTreeSet::new(), 0);
            for (count, gap) in lengths {
                spans.push(Span { first: id(next), count });
                left.extend(next..next + u64::from(count));
                next += u64::from(count) + gap;
            }
            let (tell, mut told) = oneshot::channel();
            let mut barrier = Barrier::new(spans, tell).expect("there are some");
            for (first, count) in settled {
                barrier.on_settled(Span { first: id(first), count });
                (first..first + u64::from(count)).for_each(|seq| _ = left.remove(&seq));
                prop_assert_eq!(barrier.is_open(), left.is_empty());
            }
            prop_assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            drop(barrier);
            prop_assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
