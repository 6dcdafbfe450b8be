//! Which items of a map have come: a set of numbers, as the intervals that it consists of.
//!
//! Items come in pieces, mostly in order, so the intervals are few.

use std::collections::BTreeMap;

/// The set: each interval by its start, with its end, which is not in it.
#[derive(Debug, Default)]
pub(super) struct Intervals(BTreeMap<u32, u32>);

impl Intervals {
    /// Adds `count` numbers from `start` on, which are not in it yet.
    pub(super) fn add(&mut self, start: u32, count: u32) {
        let (mut start, mut end) = (start, start + count);
        if let Some((&before, &until)) = self.0.range(..start).next_back()
            && until == start
        {
            start = before;
        }
        if let Some(after) = self.0.remove(&end) {
            end = after;
        }
        self.0.insert(start, end);
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &end)| number < end)
    }

    /// Returns what is missing below `len`: starts and counts, in order.
    pub(super) fn gaps(&self, len: u32) -> Vec<(u32, u32)> {
        let (mut gaps, mut next) = (Vec::new(), 0);
        for (&start, &end) in self.0.iter().chain([(&len, &len)]) {
            if start > next {
                gaps.push((next, start - next));
            }
            next = end;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_flags(lengths in prop::collection::vec(1..9_u32, 0..12), order: u64) {
            let len = lengths.iter().sum::<u32>();
            let starts = lengths.iter().scan(0, |next, &count| Some((std::mem::replace(next, *next + count), count)));
            let mut pieces: Vec<(u32, u32)> = starts.collect();
            // Any order will do.
            pieces.sort_by_key(|(start, _)| (u64::from(*start) + 1).wrapping_mul(order | 1).rotate_left(17));
            let (mut set, mut flags) = (Intervals::default(), vec![false; len as usize]);
            for (start, count) in pieces {
                set.add(start, count);
                flags[start as usize..][..count as usize].fill(true);
                prop_assert!((0..len).all(|number| set.contains(number) == flags[number as usize]));
                let mut missing = vec![true; len as usize];
                for (start, count) in set.gaps(len) {
                    prop_assert!(count > 0);
                    missing[start as usize..][..count as usize].fill(false);
                }
                prop_assert_eq!(&missing, &flags);
            }
            prop_assert!(set.0.len() <= 1 && !set.contains(len), "neighbours are one");
        }
    }
}
