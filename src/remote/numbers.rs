//! The numbers that a client has given its tasks. Pure.
//!
//! Each is for one task. If two had the same, or some of the items of two maps, an outcome would be of one as well as of the
//! other, and one of them would wait for ever: so a number that was used is not taken again. A client counts up, though not
//! all that is counted comes, nor in order; so what was used is a few ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::task::{Span, TaskId};

/// Gaps between numbers that are remembered, at most: 2 MB. Of more the lowest counts as used. Whoever counts up has left it
/// long ago.
const GAPS_MAX: usize = 1 << 16;

/// The numbers that were used: ranges by where they begin, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Notes that `count` numbers are used from the first on; returns false if one was before, or is none.
    pub(super) fn try_use(&mut self, first: u64, count: u32) -> bool {
        let Some(end) = first.checked_add(count.into()) else { return false };
        let before = self.0.range(..=first).next_back().map(|(&from, &to)| from..to);
        let after = self.0.range(first..).next().map(|(&from, &to)| from..to);
        if before.as_ref().is_some_and(|before| before.end > first)
            || after.as_ref().is_some_and(|after| after.start < end)
        {
            return false;
        }
        let begin = before.filter(|before| before.end == first).map_or(first, |before| before.start);
        let end = match after.filter(|after| after.start == end) {
            Some(after) => {
                self.0.remove(&after.start);
                after.end
            }
            None => end,
        };
        self.0.insert(begin, end);
        if self.0.len() > GAPS_MAX + 1
            && let Some((lowest, _)) = self.0.pop_first()
            && let Some((_, end)) = self.0.pop_first()
        {
            self.0.insert(lowest, end);
        }
        true
    }

    /// Returns those of the tasks whose numbers were used, each once and in order: what is claimed beyond costs nothing.
    pub(super) fn used_of(&self, mut tasks: Vec<Span>) -> Vec<Span> {
        tasks.sort_unstable_by_key(|span| span.first);
        let (mut used, mut next) = (Vec::new(), 0);
        for Span { first: TaskId { client, seq }, count } in tasks {
            let (from, to) = (seq.max(next), seq.saturating_add(count.into()));
            next = next.max(to);
            for part in self.within(from..to) {
                // Not longer than the span that it is of.
                let count = (part.end - part.start) as u32;
                used.push(Span { first: TaskId { client, seq: part.start }, count });
            }
        }
        used
    }

    fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let Range { start, end } = range;
        let begin = self.0.range(..=start).next_back().map_or(start, |(&from, _)| from);
        let touched = if start < end { Some(self.0.range(begin..end)) } else { None };
        let parts = touched.into_iter().flatten().map(move |(&from, &to)| from.max(start)..to.min(end));
        parts.filter(|part| part.start < part.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(seq: u64, count: u32) -> Span {
        Span { first: TaskId { client: 7, seq }, count }
    }

    proptest! {
        #[test]
        fn each_number_is_used_once(uses in prop::collection::vec((0..60_u64, 1..6_u32), 0..40),
            asked in prop::collection::vec((0..60_u64, 0..20_u32), 0..6)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for (first, count) in uses {
                let new: BTreeSet<u64> = (first..first + u64::from(count)).collect();
                prop_assert_eq!(numbers.try_use(first, count), model.is_disjoint(&new));
                if model.is_disjoint(&new) {
                    model.extend(new);
                }
            }
            let asked: Vec<Span> = asked.into_iter().map(|(first, count)| span(first, count)).collect();
            let expected: Vec<u64> =
                model.iter().copied().filter(|&seq| asked.iter().any(|span| span.count > 0 && span.contains(TaskId { client: 7, seq }))).collect();
            let used = numbers.used_of(asked);
            let used: Vec<u64> = used.iter().flat_map(|used| used.first.seq..=used.last().seq).collect();
            prop_assert_eq!(used, expected);
        }
    }

    #[test]
    fn who_counts_up_with_gaps_costs_little_and_what_is_claimed_beyond_costs_nothing() {
        let mut numbers = Numbers::default();
        assert!((0..1_000_000).all(|n| numbers.try_use(2 * n, 1)));
        assert_eq!(numbers.0.len(), GAPS_MAX + 1);
        assert!(!numbers.try_use(1, 1), "the gap was given up");
        assert!(numbers.try_use(1_999_997, 1), "it is remembered");
        assert!(!numbers.try_use(u64::MAX, 2) && !numbers.try_use(u64::MAX - 5, u32::MAX));
        assert!(numbers.try_use(u64::MAX - 1, 1));
        let mut numbers = Numbers::default();
        assert!(numbers.try_use(10, 5));
        let absurd = vec![span(0, u32::MAX); 100_000];
        assert_eq!(numbers.used_of(absurd), [span(10, 5)]);
        assert_eq!(numbers.used_of(vec![span(u64::MAX, u32::MAX)]), []);
    }
}
