//! One task in the ledger, and the places where it can be.

use std::sync::Arc;

use super::queues::Ticket;
use crate::task::{Attempt, Extras, Payload, Retries, Span, TaskId, TaskKind};

/// Where a task is.
///
/// | place      | entered from        | when                                              | who holds the call |
/// |------------|---------------------|---------------------------------------------------|--------------------|
/// | `Waiting`  | submission, `At`    | no engine may take it yet; handed back            | the ledger         |
/// | `At`       | submission, `Waiting` | sent to an engine                               | the engine         |
/// | `Lingering`| `At`                | cancelled or overdue: an outcome was ordered, the engine has not returned it | the engine |
/// | `Ghost`    | `Lingering`, `At`   | the store confirmed an outcome that is not this engine's | the engine  |
/// | `Settling` | any but `Ghost`     | an outcome was ordered, no engine has it          | nobody             |
///
/// It leaves the ledger when an outcome is confirmed and no engine has it. The slot that it holds is free
/// when the engine returns it, whatever its outcome was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Waiting,
    At(u32),
    Lingering(u32),
    Ghost(u32),
    Settling,
}

/// The queue that a task waits in, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// That of one engine, by its place in the fleet.
    Direct(u32),
    /// That of a target set.
    Set(u32),
    /// None: the task was refused.
    None,
}

/// One task, or a piece of a map: several that wait, travel and come back together; see `pieces.rs`.
///
/// Kept small: there may be a million.
#[derive(Debug)]
pub(super) struct Entry {
    /// The task, or the first of the piece.
    pub(super) id: TaskId,
    /// How many tasks, counted up from `id`.
    pub(super) count: u32,
    pub(super) kind: &'static TaskKind,
    pub(super) payload: Option<Payload>,
    pub(super) extras: Option<Arc<Extras>>,
    pub(super) place: Place,
    pub(super) line: Line,
    /// Some of its tasks were given up by themselves after they were sent: they may still run, for nobody.
    pub(super) is_thinned: bool,
    pub(super) retries: Retries,
    /// What was used of them.
    pub(super) used: Retries,
    /// How often it was sent and not handed back unstarted.
    pub(super) starts: u16,
    /// What all of it was expected to take when it was sent, in nanoseconds.
    pub(super) cost_ns: u32,
    /// Tells this task's tickets from those of earlier tasks in the same slot.
    pub(super) stamp: u32,
}

impl Entry {
    /// Returns the tasks.
    pub(super) fn span(&self) -> Span {
        Span { first: self.id, count: self.count }
    }

    /// Returns how many of its tasks might run on another engine than the one they are at.
    pub(super) fn movable(&self) -> u32 {
        if matches!(self.line, Line::Set(_)) { self.count } else { 0 }
    }

    pub(super) fn is_waiting_with(&self, ticket: Ticket) -> bool {
        self.place == Place::Waiting && self.stamp == ticket.stamp
    }

    /// Returns the attempt that was last sent.
    pub(super) fn attempt(&self) -> Attempt {
        Attempt(self.starts.into())
    }

    /// Returns whether an attempt that ends in an error may be followed by another.
    pub(super) fn may_retry_errors(&self) -> bool {
        self.used.errors < self.retries.errors && self.has_attempts_left()
    }

    /// Returns whether an attempt whose engine is lost may be followed by another.
    pub(super) fn may_retry_losses(&self) -> bool {
        self.used.losses < self.retries.losses && self.has_attempts_left()
    }

    fn has_attempts_left(&self) -> bool {
        self.used.errors + self.used.losses < self.retries.errors.max(self.retries.losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 96, "{}", size_of::<Entry>());
    }
}
