//! When each engine was last given a task, so that the one of a set that was given none for the longest time is
//! found in a few word scans.
//!
//! The counts are kept in slices: one bitmap of engines for each binary digit of a count. Of some engines those with
//! the lowest count are, from the highest digit down, those that have a zero there, if any have. So a set of
//! thousands costs its words for each of a few digits, whoever else is in line before them.

use super::bits::WORD;
use super::candidates::Candidates;

/// The count at which each engine was last given a task; 0 if it never was.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// For each binary digit, lowest first, the engines whose count has a one there.
    slices: Vec<Vec<u64>>,
}

impl Ages {
    /// Notes that the count of the engine at this place changed.
    pub(super) fn change(&mut self, place: u32, from: u64, to: u64) {
        let (word, bit) = (place as usize / WORD, 1 << (place as usize % WORD));
        let mut changed = from ^ to;
        while changed != 0 {
            let digit = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            if digit >= self.slices.len() {
                self.slices.resize_with(digit + 1, Vec::new);
            }
            let slice = &mut self.slices[digit];
            if word >= slice.len() {
                slice.resize(word + 1, 0);
            }
            slice[word] ^= bit;
        }
    }

    /// Returns the one with the lowest count; of equals the first.
    pub(super) fn oldest(&self, mut among: Candidates) -> Option<u32> {
        for slice in self.slices.iter().rev() {
            let zeros = |word: usize| !slice.get(word).copied().unwrap_or(0);
            if among.any(zeros) {
                among.retain(zeros);
            }
        }
        among.first()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_oldest_of_a_set_is_the_one_with_the_lowest_count(
            changes in prop::collection::vec((0..300_u32, 0..9_u64, 0..40_u32), 0..200),
            among in prop::collection::btree_set(0..300_u32, 0..20),
        ) {
            let (mut ages, mut model) = (Ages::default(), vec![0; 300]);
            for (place, count, shift) in changes {
                let count = count << shift;
                ages.change(place, model[place as usize], count);
                model[place as usize] = count;
            }
            let lowest = among.iter().copied().min_by_key(|&place| (model[place as usize], place));
            prop_assert_eq!(ages.oldest(Candidates::at(among)), lowest);
        }
    }
}
