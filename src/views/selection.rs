//! Choosing engines as one chooses items of a Python list: `rc[0:2]`, `rc[[0, -1]]`, `rc[::2]`.

use std::collections::HashSet;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::error::Error;
use crate::task::EngineId;

/// Which of a client's engines: what [`Client::engines`](crate::Client::engines) takes.
///
/// | Python          | here                                  |
/// |-----------------|---------------------------------------|
/// | `rc[:]`         | `rc.engines(..)?`, or `rc.all()`      |
/// | `rc[1:3]`       | `rc.engines(1..3)?`                   |
/// | `rc[:-1]`       | `rc.engines(..-1)?`                   |
/// | `rc[::2]`       | `rc.engines(every_nth(.., 2))?`       |
/// | `rc[[0, -1]]`   | `rc.engines([0, -1])?`                |
///
/// A range is of places in [`Client::ids`](crate::Client::ids), as of a list's: negative ones count from the end,
/// and what is beyond the end is left out. A list is of engines, as [`Client::engine`](crate::Client::engine)
/// takes them: the one with this id, or, if negative, counted from the end; each must be there.
///
/// ```
/// use callboard::{Error, Selection, prelude::*};
///
/// let cluster = Cluster::threads(3).start()?;
/// let rc = cluster.client();
/// let last_two = Selection::from(-2..);
/// assert_eq!(format!("{:?}", rc.engines(last_two)?), "<DirectView [1, 2]>");
/// assert!(matches!(rc.engines([0, 7]), Err(Error::NoSuchEngine { asked: 7, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    chosen: Chosen,
    step: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Chosen {
    /// From this place to before that one.
    Places { from: Option<i64>, to: Option<i64> },
    /// These, by id or from the end.
    Indices(Vec<i64>),
}

/// Returns every `step`th of a selection, from its first on: `rc[::2]` is `rc.engines(every_nth(.., 2))?`.
///
/// ```
/// use callboard::{EngineId, every_nth, prelude::*};
///
/// let cluster = Cluster::threads(5).start()?;
/// let even = cluster.client().engines(every_nth(.., 2))?;
/// assert_eq!(*even.targets(), [EngineId(0), EngineId(2), EngineId(4)]);
/// # Ok::<(), callboard::Error>(())
/// ```
pub fn every_nth(selection: impl Into<Selection>, step: usize) -> Selection {
    let selection = selection.into();
    Selection { step: selection.step.saturating_mul(step), ..selection }
}

impl Selection {
    fn places(from: Option<i64>, to: Option<i64>) -> Self {
        Self { chosen: Chosen::Places { from, to }, step: 1 }
    }

    fn indices(indices: impl IntoIterator<Item = i64>) -> Self {
        Self { chosen: Chosen::Indices(indices.into_iter().collect()), step: 1 }
    }

    /// Returns the engines among those there are.
    pub(crate) fn among(&self, have: &[EngineId]) -> Result<Vec<EngineId>, Error> {
        if self.step == 0 {
            return Err(Error::Zero { what: "the step of a selection of engines" });
        }
        let chosen: Vec<EngineId> = match &self.chosen {
            Chosen::Places { from, to } => {
                let (from, to) = (place(*from, 0, have.len()), place(*to, have.len(), have.len()));
                have.get(from..to).unwrap_or_default().to_vec()
            }
            Chosen::Indices(indices) => indices.iter().map(|&index| find(index, have)).collect::<Result<_, _>>()?,
        };
        let mut seen = HashSet::new();
        if let Some(&twice) = chosen.iter().find(|&&engine| !seen.insert(engine)) {
            return Err(Error::EngineTwice { engine: twice });
        }
        Ok(chosen.into_iter().step_by(self.step).collect())
    }
}

/// Finds one engine: the one with this id, or, if negative, counted from the end.
pub(crate) fn find(index: i64, have: &[EngineId]) -> Result<EngineId, Error> {
    let found = match usize::try_from(index) {
        Ok(id) => have.iter().find(|engine| engine.0 as usize == id),
        Err(_) => usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| have.len().checked_sub(back))
            .and_then(|at| have.get(at)),
    };
    found.copied().ok_or_else(|| Error::NoSuchEngine { asked: index, have: have.to_vec() })
}

/// Returns a bound as a place in a list of `len`, as Python does: from the end if negative, never beyond an end.
fn place(bound: Option<i64>, default: usize, len: usize) -> usize {
    match bound {
        None => default,
        Some(bound) if bound < 0 => len.saturating_sub(usize::try_from(bound.unsigned_abs()).unwrap_or(usize::MAX)),
        Some(bound) => usize::try_from(bound).unwrap_or(usize::MAX).min(len),
    }
}

/// Returns the place after one; nothing is after the last, which is -1.
fn after(place: i64) -> Option<i64> {
    if place == -1 { None } else { Some(place.saturating_add(1)) }
}

impl From<RangeFull> for Selection {
    fn from(_: RangeFull) -> Self {
        Self::places(None, None)
    }
}

impl From<Range<i64>> for Selection {
    fn from(range: Range<i64>) -> Self {
        Self::places(Some(range.start), Some(range.end))
    }
}

impl From<RangeFrom<i64>> for Selection {
    fn from(range: RangeFrom<i64>) -> Self {
        Self::places(Some(range.start), None)
    }
}

impl From<RangeTo<i64>> for Selection {
    fn from(range: RangeTo<i64>) -> Self {
        Self::places(None, Some(range.end))
    }
}

impl From<RangeInclusive<i64>> for Selection {
    fn from(range: RangeInclusive<i64>) -> Self {
        Self::places(Some(*range.start()), after(*range.end()))
    }
}

impl From<RangeToInclusive<i64>> for Selection {
    fn from(range: RangeToInclusive<i64>) -> Self {
        Self::places(None, after(range.end))
    }
}

impl<const N: usize> From<[i64; N]> for Selection {
    fn from(indices: [i64; N]) -> Self {
        Self::indices(indices)
    }
}

impl From<&[i64]> for Selection {
    fn from(indices: &[i64]) -> Self {
        Self::indices(indices.iter().copied())
    }
}

impl From<Vec<i64>> for Selection {
    fn from(indices: Vec<i64>) -> Self {
        Self::indices(indices)
    }
}

impl<const N: usize> From<[EngineId; N]> for Selection {
    fn from(ids: [EngineId; N]) -> Self {
        Self::indices(ids.map(|id| id.0.into()))
    }
}

impl From<&[EngineId]> for Selection {
    fn from(ids: &[EngineId]) -> Self {
        Self::indices(ids.iter().map(|id| id.0.into()))
    }
}

impl From<Vec<EngineId>> for Selection {
    fn from(ids: Vec<EngineId>) -> Self {
        Self::from(&ids[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as they are after engines have come and gone.
    const HAVE: [u32; 5] = [2, 3, 5, 8, 13];

    #[track_caller]
    fn check(selection: impl Into<Selection>, expected: &[u32]) {
        let have = HAVE.map(EngineId);
        let chosen = selection.into().among(&have).unwrap();
        assert_eq!(chosen.iter().map(|id| id.0).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ranges_are_places_as_in_a_python_list() {
        check(.., &HAVE);
        check(0..2, &[2, 3]);
        check(3.., &[8, 13]);
        check(..-1, &[2, 3, 5, 8]);
        check(-2.., &[8, 13]);
        check(-3..-1, &[5, 8]);
        check(1..=2, &[3, 5]);
        check(..=-1, &HAVE);
        check(..=-2, &[2, 3, 5, 8]);
        check(Selection::places(Some(3), Some(1)), &[]);
        check(7..9, &[]);
        check(-99..99, &HAVE);
        check(i64::MIN..i64::MAX, &HAVE);
        check(0..=i64::MAX, &HAVE);
        check(every_nth(.., 2), &[2, 5, 13]);
        check(every_nth(1.., 3), &[3, 13]);
        check(every_nth(..-3, 1), &[2, 3]);
        check(every_nth(.., usize::MAX), &[2]);
    }

    #[test]
    fn every_slice_is_what_python_makes_of_it() {
        let have = HAVE.map(EngineId);
        let bounds: Vec<Option<i64>> = (-7..8).map(Some).chain([None]).collect();
        for (&from, &to) in bounds.iter().flat_map(|from| bounds.iter().map(move |to| (from, to))) {
            // The rule of Python's reference: a negative bound has the length added, then both are clamped.
            let clamp = |bound: i64| (if bound < 0 { bound + 5 } else { bound }).clamp(0, 5) as usize;
            let (start, end) = (from.map_or(0, clamp), to.map_or(5, clamp));
            let expected = if start < end { &have[start..end] } else { &[] };
            assert_eq!(Selection::places(from, to).among(&have).unwrap(), expected, "{from:?}:{to:?}");
        }
    }

    #[test]
    fn lists_are_ids_or_counted_from_the_end_and_each_must_be_there() {
        check([5, -1, 2], &[5, 13, 2]);
        check(vec![8], &[8]);
        check(&[-5_i64][..], &[2]);
        check([EngineId(13), EngineId(3)], &[13, 3]);
        check(vec![EngineId(3)], &[3]);
        check(Vec::<EngineId>::new(), &[]);
        check(every_nth([2, 3, 5], 2), &[2, 5]);
        for asked in [0, 4, -6, i64::MAX, i64::MIN] {
            let error = Selection::from([2, asked]).among(&HAVE.map(EngineId)).unwrap_err();
            assert!(matches!(&error, Error::NoSuchEngine { asked: a, have } if *a == asked && have.len() == 5));
        }
        let zero = every_nth(.., 0).among(&[]).unwrap_err();
        assert_eq!(zero.to_string(), "the step of a selection of engines is zero; it must be at least 1");
    }
}
