//! What a caller asks for beside the call itself: where it may run, how often, under which name.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::EngineId;

/// The engines that may run a task.
///
/// ```
/// use callboard::{EngineId, task::Target};
///
/// let either = Target::Of([EngineId(0), EngineId(3)].into());
/// assert_ne!(either, Target::Any);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any engine, now or later: the whole cluster.
    Any,
    /// This engine and no other.
    One(EngineId),
    /// Any of these.
    Of(Arc<[EngineId]>),
}

/// How many more attempts a task may have, by what ended the last one.
///
/// A task starts at most `1 + max(errors, losses)` times.
///
/// ```
/// use callboard::task::Retries;
///
/// // What `view.with().retries_on_error(2)` asks for.
/// let retries = Retries { errors: 2, ..Retries::default() };
/// assert_eq!(retries.losses, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// After the task's own code failed or panicked.
    pub errors: u16,
    /// After its engine was lost while it ran.
    pub losses: u16,
}

impl Retries {
    /// Returns as many of them as attempts can be counted for: all but one of 65 535.
    pub(crate) fn counted(self) -> Self {
        let most = u16::MAX - 1;
        Self { errors: self.errors.min(most), losses: self.losses.min(most) }
    }
}

/// What few callers ask for, kept off the path of those who do not.
///
/// ```
/// use callboard::task::Extras;
///
/// let named = Extras { label: Some("night run".into()), ..Extras::default() };
/// assert_eq!((named.deadline, named.keep), (None, false));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// A name of the caller's own, found again in the record and the context.
    pub label: Option<Arc<str>>,
    /// How long after its submission the task is worth anything; then it settles as `TimedOut`.
    pub deadline: Option<Duration>,
    /// Whether the result store keeps the encoded value for whoever asks by id.
    pub keep: bool,
    /// How many items of a map travel together; chosen by measured run time if `None`.
    pub chunksize: Option<NonZeroU32>,
}
