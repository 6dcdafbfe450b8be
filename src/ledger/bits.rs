//! A set of small numbers as a bitmap with a summary above it: finding the first common member of two sets
//! of 10 000 engines reads a handful of words.

use crate::limits::TARGET_SETS_MAX;

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    /// Bit `w` is set where `words[w]` is not zero.
    summary: Vec<u64>,
}

/// How many members a word has room for.
pub(super) const WORD: usize = 64;

impl Bits {
    pub(super) fn insert(&mut self, i: usize) {
        let word = i / WORD;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.summary.resize(word / WORD + 1, 0);
        }
        self.words[word] |= 1 << (i % WORD);
        self.summary[word / WORD] |= 1 << (word % WORD);
    }

    pub(super) fn remove(&mut self, i: usize) {
        let word = i / WORD;
        if word >= self.words.len() {
            return;
        }
        self.words[word] &= !(1 << (i % WORD));
        if self.words[word] == 0 {
            self.summary[word / WORD] &= !(1 << (word % WORD));
        }
    }

    pub(super) fn contains(&self, i: usize) -> bool {
        self.words.get(i / WORD).is_some_and(|word| word & (1 << (i % WORD)) != 0)
    }

    /// Returns how many words there are.
    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    /// Returns a word of the bitmap; none is set beyond its end.
    pub(super) fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.summary.iter().all(|&s| s == 0)
    }

    /// Returns the members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let found = self.first_from(next, None)?;
            next = found + 1;
            Some(found)
        })
    }

    /// Returns the first member of this set, and of `other` if there is one, that is not below `from`.
    pub(super) fn first_from(&self, from: usize, other: Option<&Self>) -> Option<usize> {
        let common = |word: usize| match other {
            None => self.words[word],
            Some(other) => self.words[word] & other.words.get(word).copied().unwrap_or(0),
        };
        let first_word = from / WORD;
        if first_word >= self.words.len() {
            return None;
        }
        let bits = common(first_word) & (u64::MAX << (from % WORD));
        if bits != 0 {
            return Some(first_word * WORD + bits.trailing_zeros() as usize);
        }
        let after = first_word + 1;
        for s in after / WORD..self.summary.len() {
            let mut words = self.summary[s];
            if let Some(other) = other {
                words &= other.summary.get(s).copied().unwrap_or(0);
            }
            if s == after / WORD {
                words &= u64::MAX << (after % WORD);
            }
            while words != 0 {
                let word = s * WORD + words.trailing_zeros() as usize;
                words &= words - 1;
                let bits = common(word);
                if bits != 0 {
                    return Some(word * WORD + bits.trailing_zeros() as usize);
                }
            }
        }
        None
    }
}

/// A set of target sets: few enough to be in one place, beside what it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Mask([u64; TARGET_SETS_MAX / WORD]);

impl Default for Mask {
    fn default() -> Self {
        Self([0; TARGET_SETS_MAX / WORD])
    }
}

impl Mask {
    pub(super) fn insert(&mut self, i: usize) {
        self.0[i / WORD] |= 1 << (i % WORD);
    }

    pub(super) fn remove(&mut self, i: usize) {
        self.0[i / WORD] &= !(1 << (i % WORD));
    }

    /// Returns the members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..TARGET_SETS_MAX).filter(|&i| self.0[i / WORD] & (1 << (i % WORD)) != 0)
    }

    /// Returns the first member of this set and of `other` that is not below `from`.
    pub(super) fn first_from(&self, from: usize, other: &Self) -> Option<usize> {
        let first = from / WORD;
        let mut above = u64::MAX << (from % WORD);
        for word in first..self.0.len() {
            let bits = self.0[word] & other.0[word] & above;
            if bits != 0 {
                return Some(word * WORD + bits.trailing_zeros() as usize);
            }
            above = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree_set(
            adds in prop::collection::vec(0_usize..9_000, 0..60),
            removes in prop::collection::vec(0_usize..9_000, 0..30),
            others in prop::collection::vec(0_usize..9_000, 0..60),
            from in 0_usize..9_000,
        ) {
            let (mut bits, mut model) = (Bits::default(), BTreeSet::new());
            for i in adds {
                bits.insert(i);
                model.insert(i);
            }
            for i in removes {
                bits.remove(i);
                model.remove(&i);
            }
            let mut other = Bits::default();
            others.iter().for_each(|&i| other.insert(i));

            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.is_empty(), model.is_empty());
            prop_assert_eq!(bits.first_from(from, None), model.range(from..).next().copied());
            let common = model.range(from..).find(|i| others.contains(i)).copied();
            prop_assert_eq!(bits.first_from(from, Some(&other)), common);

            let mut masks = [Mask::default(), Mask::default()];
            for (mask, bits) in masks.iter_mut().zip([&bits, &other]) {
                bits.iter().filter(|&i| i < TARGET_SETS_MAX).for_each(|i| mask.insert(i));
            }
            let common = bits.iter().find(|&i| i >= from && i < TARGET_SETS_MAX && others.contains(&i));
            prop_assert_eq!(masks[0].first_from(from.min(TARGET_SETS_MAX), &masks[1]), common);
            prop_assert!(masks[0].iter().eq(bits.iter().filter(|&i| i < TARGET_SETS_MAX)));
        }
    }
}
