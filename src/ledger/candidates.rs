//! The engines that may be chosen for a task, as words of a bitmap: choosing among 10 000, or among a few of these,
//! reads a few hundred words.

use super::bits::{Bits, WORD};
use super::engine::LEVELS;
use super::fleet::Fleet;

/// Engines by their places: the words that have some, in order, each with its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates(Vec<(usize, u64)>);

impl Candidates {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, bits)| bits.count_ones() as usize).sum()
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.0.first().map(|&(word, bits)| place_of(word, bits.trailing_zeros()))
    }

    /// Returns the `n`th, counted from 0; there must be more than that.
    pub(super) fn nth(&self, n: usize) -> u32 {
        let mut before = n;
        for &(word, mut bits) in &self.0 {
            let here = bits.count_ones() as usize;
            if before >= here {
                before -= here;
                continue;
            }
            for _ in 0..before {
                bits &= bits - 1;
            }
            return place_of(word, bits.trailing_zeros());
        }
        unreachable!("there are more candidates than {n}")
    }

    pub(super) fn remove(&mut self, place: u32) {
        self.retain(|word| if word == place as usize / WORD { !(1 << (place as usize % WORD)) } else { u64::MAX });
    }

    /// Keeps those that are in the mask of their word, too.
    pub(super) fn retain(&mut self, mask: impl Fn(usize) -> u64) {
        self.0.retain_mut(|(word, bits)| {
            *bits &= mask(*word);
            *bits != 0
        });
    }

    /// Returns whether some are in the mask of their word.
    pub(super) fn any(&self, mask: impl Fn(usize) -> u64) -> bool {
        self.0.iter().any(|&(word, bits)| bits & mask(word) != 0)
    }
}

impl Fleet {
    /// Returns the engines of `members` (all, if `None`) that have an idle slot; each may take any task.
    pub(super) fn idle(&self, members: Option<&Bits>) -> Candidates {
        self.listed_under(1, members)
    }

    /// Returns the engines of `members` (all, if `None`) that may take a task of this cost, but for some that it may
    /// just not fit on.
    pub(super) fn candidates(&self, members: Option<&Bits>, cost_ns: u32) -> Candidates {
        self.listed_under(if self.is_short(cost_ns) { LEVELS } else { 1 }, members)
    }

    fn listed_under(&self, levels: usize, members: Option<&Bits>) -> Candidates {
        let all = self.places().div_ceil(WORD);
        let words = members.map_or(all, |members| members.words().min(all));
        let listed = |word| (0..levels).fold(0, |bits, level| bits | self.listed(level).word(word));
        let chosen = (0..words).filter_map(|word| {
            let among = members.map_or(u64::MAX, |members| members.word(word));
            // Words without members are most of them, in a small set.
            let bits = if among == 0 { 0 } else { among & listed(word) };
            (bits != 0).then_some((word, bits))
        });
        Candidates(chosen.collect())
    }
}

fn place_of(word: usize, bit: u32) -> u32 {
    (word * WORD) as u32 + bit
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Candidates {
        /// Makes the candidates at these places.
        pub(in super::super) fn at(places: impl IntoIterator<Item = u32>) -> Self {
            let mut words = std::collections::BTreeMap::<usize, u64>::new();
            for place in places {
                *words.entry(place as usize / WORD).or_default() |= 1 << (place as usize % WORD);
            }
            Self(words.into_iter().collect())
        }
    }

    proptest! {
        #[test]
        fn they_are_counted_and_found_as_in_a_tree_set(places in prop::collection::btree_set(0..9_000_u32, 0..80)) {
            let (mut candidates, mut model) = (Candidates::at(places.clone()), places);
            prop_assert_eq!(candidates.first(), model.first().copied());
            let in_order: Vec<u32> = (0..candidates.len()).map(|n| candidates.nth(n)).collect();
            prop_assert!(in_order.iter().eq(&model));
            let gone: BTreeSet<u32> = model.iter().copied().step_by(2).collect();
            for &place in &gone {
                candidates.remove(place);
                model.remove(&place);
            }
            prop_assert_eq!(candidates, Candidates::at(model));
        }
    }
}
