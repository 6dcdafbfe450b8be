//! How many tasks end of which some have no value.

use std::fmt;

use super::TaskError;

/// Some tasks of many ended without a value; the others' values are in the result they came from.
///
/// ```
/// use callboard::{CompositeError, Error, prelude::*};
/// # #[task] fn half(x: u32) -> Result<u32, String> { if x % 2 == 0 { Ok(x / 2) } else { Err("odd".into()) } }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().load_balanced().map(half, [2, 3, 4]);
/// let Err(Error::Composite(CompositeError { errors, total })) = ar.get() else { panic!("3 is odd") };
/// assert_eq!((errors[0].0, errors.len(), total), (1, 1, 3));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositeError {
    /// The position of each failed task among all, and how it ended.
    pub errors: Vec<(usize, TaskError)>,
    /// How many tasks there were.
    pub total: usize,
}

impl fmt::Display for CompositeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tasks failed", self.errors.len(), self.total)?;
        const SHOWN: usize = 4;
        for (position, error) in self.errors.iter().take(SHOWN) {
            write!(f, "; [{position}] {error}")?;
        }
        if self.errors.len() > SHOWN {
            write!(f, "; and {} more", self.errors.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompositeError {}
