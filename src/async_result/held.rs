//! A settled outcome that is looked at without a lock: it is lent out meanwhile, and put back.
//!
//! What looks is code of the user's (a closure, a `Clone`); under a lock it could stop other threads, and
//! itself if it came back to the same result.

use std::task::Waker;
use std::thread::{self, ThreadId};

use crate::error::TaskError;
use crate::task::WireValue;

/// The outcome of a task, or the bytes that its value came as: whoever wants it reads them, on its own thread.
#[derive(Debug)]
pub(super) enum Content<T> {
    Read(Result<T, TaskError>),
    Bytes(Box<WireValue>),
}

impl<T> Content<T> {
    /// Reads the value, if that was not done. `read` runs the user's `Deserialize`, behind `catch`.
    pub(super) fn read(self, read: impl FnOnce(&WireValue) -> Result<T, TaskError>) -> Result<T, TaskError> {
        match self {
            Self::Read(outcome) => outcome,
            Self::Bytes(value) => read(&value),
        }
    }
}

/// The outcome of a task, or where it is instead.
#[derive(Debug)]
pub(super) enum Held<T> {
    Here(Content<T>),
    /// This thread looks at it, and this task waits until it is put back.
    Lent(ThreadId, Option<Waker>),
    /// It was moved out, for good.
    Taken,
}

/// Why an outcome cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHere {
    /// Another thread looks at it: soon again.
    Lent,
    /// The caller itself is within a look at it.
    LentToCaller,
    Taken,
}

impl<T> Held<T> {
    /// Moves the outcome out and leaves `instead`.
    pub(super) fn replace(&mut self, instead: Self) -> Result<Content<T>, NotHere> {
        match std::mem::replace(self, instead) {
            Self::Here(outcome) => Ok(outcome),
            Self::Lent(thread, waker) => {
                *self = Self::Lent(thread, waker);
                Err(if thread == thread::current().id() { NotHere::LentToCaller } else { NotHere::Lent })
            }
            Self::Taken => {
                *self = Self::Taken;
                Err(NotHere::Taken)
            }
        }
    }

    /// Lends the outcome to this thread.
    pub(super) fn lend(&mut self) -> Result<Content<T>, NotHere> {
        self.replace(Self::Lent(thread::current().id(), None))
    }

    /// Puts a lent outcome back; returns who waits for it.
    pub(super) fn put_back(&mut self, outcome: Option<Result<T, TaskError>>) -> Option<Waker> {
        match std::mem::replace(self, outcome.map_or(Self::Taken, |outcome| Self::Here(Content::Read(outcome)))) {
            Self::Lent(_, waker) => waker,
            Self::Here(_) | Self::Taken => None,
        }
    }

    /// Moves the outcome out, or has `waker` woken once another thread has put it back.
    pub(super) fn poll_take(&mut self, waker: &Waker) -> Result<Content<T>, NotHere> {
        let outcome = self.replace(Self::Taken);
        if let (Err(NotHere::Lent), Self::Lent(_, place)) = (&outcome, self) {
            *place = Some(waker.clone());
        }
        outcome
    }
}
