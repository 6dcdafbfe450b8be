//! What becomes of an engine, as its gateway and whoever launched it tell each other.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::mark::Mark;
use crate::task::{Attempt, EngineId, TaskId};

/// What an engine has come to, for whoever launches another if it is lost.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// Which engine it is, once it has joined.
    pub(crate) joined: OnceLock<EngineId>,
    pub(crate) is_stopped: AtomicBool,
    /// It has returned a task.
    pub(crate) has_returned: AtomicBool,
    /// It has run as many tasks as it may, and goes to be replaced.
    pub(crate) is_worn_out: AtomicBool,
    /// It was killed because this attempt was cancelled by force.
    pub(crate) killed_for: Mutex<Option<(TaskId, Attempt)>>,
}

/// An engine's process.
pub(crate) trait Process: Send + Sync {
    /// Returns how far it has come.
    fn begun(&self) -> Begun;

    /// Kills it, and those that it has started.
    fn kill(&self);
}

/// How far an engine has come with what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It has begun nothing.
    Nothing,
    /// It has begun this last, and all that was sent before.
    UpTo(Mark),
    /// Nobody knows: it may have begun all of it.
    Unknown,
}
