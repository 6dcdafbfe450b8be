//! What a worker has begun last, noted where another process can read it when this one is gone.
//!
//! Both processes have one file open, and nothing is in it: the note is the position in it, which they share. Setting it is
//! the cheapest thing that a process can do that survives it without a thread that listens, and it is done before each
//! task's code. So whoever survives knows for sure what had not started, and may run it elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{SeekFrom, seek};

use crate::remote::Mark;

/// The position of who is prepared and has begun nothing. No mark of a task has an even number.
const PREPARED: u64 = 2;

/// The file, which both processes have open.
#[derive(Debug)]
pub(crate) struct Tally(File);

impl Tally {
    /// Makes a file without a name.
    pub(super) fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let file = rustix::fs::memfd_create("callboard-tally", rustix::fs::MemfdFlags::CLOEXEC)?;
        #[cfg(not(target_os = "linux"))]
        let file = tempfile::tempfile()?;
        Ok(Self(file.into()))
    }

    /// Notes that a task begins.
    pub(super) fn note(&self, mark: Mark) {
        self.set(mark.number());
    }

    /// Notes that what comes before the first task has returned.
    pub(super) fn note_prepared(&self) {
        self.set(PREPARED);
    }

    fn set(&self, position: u64) {
        if let Err(error) = seek(&self.0, SeekFrom::Start(position)) {
            tracing::error!(%error, "it cannot be noted what has begun");
        }
    }

    /// Returns what began last; `None` if nothing did.
    pub(super) fn last(&self) -> Option<Mark> {
        let position = seek(&self.0, SeekFrom::Current(0)).ok()?;
        if position == PREPARED { None } else { Mark::from_number(position) }
    }

    /// Returns whether what comes before the first task has returned, or that cannot be read any more.
    pub(super) fn is_prepared(&self) -> bool {
        seek(&self.0, SeekFrom::Current(0)) != Ok(0)
    }
}

impl From<OwnedFd> for Tally {
    fn from(file: OwnedFd) -> Self {
        Self(file.into())
    }
}

impl AsFd for Tally {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Attempt, TaskId};

    #[test]
    fn what_is_noted_by_one_is_read_by_the_other() {
        let ours = Tally::new().unwrap();
        let theirs = Tally::from(ours.as_fd().try_clone_to_owned().unwrap());
        assert_eq!((ours.last(), ours.is_prepared()), (None, false));
        theirs.note_prepared();
        assert_eq!((ours.last(), ours.is_prepared()), (None, true));
        for seq in 0..1_000 {
            let mark = Mark::of(TaskId { client: u64::MAX, seq }, Attempt(1));
            theirs.note(mark);
            assert_eq!(ours.last(), Some(mark));
        }
    }
}
