//! Which tasks a program contains, as far as another needs to know: their keys and fingerprints.

use serde::{Deserialize, Serialize};

use super::TaskKind;

/// The tasks of a program: by key, sorted, each with its fingerprint.
///
/// ```
/// use callboard::task::{Lack, TaskKind, TaskTable};
/// use callboard::{Task, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # #[task] fn cube(x: u64) -> u64 { x * x * x }
///
/// let table = TaskTable::of([square::kind()]);
/// assert_eq!(table.lack(square::kind()), None);
/// assert_eq!(table.lack(cube::kind()), Some(Lack::Missing));
/// let other = TaskKind { fingerprint: 0, ..*square::kind() }; // the same name, other arguments
/// assert_eq!(table.lack(&other), Some(Lack::Differs));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTable(Vec<(u64, u64)>);

/// Why a program cannot run a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lack {
    /// It has none of this name and version.
    Missing,
    /// It has one with other arguments or another result.
    Differs,
}

impl TaskTable {
    /// Makes the table of these functions.
    pub fn of<'a>(kinds: impl IntoIterator<Item = &'a TaskKind>) -> Self {
        let mut tasks: Vec<_> = kinds.into_iter().map(|kind| (kind.key, kind.fingerprint)).collect();
        tasks.sort_unstable();
        Self(tasks)
    }

    /// Returns why a function cannot be called there; `None` if it can.
    pub fn lack(&self, kind: &TaskKind) -> Option<Lack> {
        match self.0.binary_search_by_key(&kind.key, |(key, _)| *key) {
            Ok(at) if self.0[at].1 == kind.fingerprint => None,
            Ok(_) => Some(Lack::Differs),
            Err(_) => Some(Lack::Missing),
        }
    }

    /// Returns whether it is in order, as one that a peer sent may not be.
    #[cfg(feature = "remote")]
    pub(crate) fn is_sound(&self) -> bool {
        self.0.is_sorted_by(|a, b| a.0 < b.0)
    }
}
