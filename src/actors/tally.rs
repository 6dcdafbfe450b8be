//! What a worker has begun last, noted where another process can read it when this one is gone.
//!
//! One small write a task to a file without a name, before the task's code: so whoever survives knows for sure what
//! had not started, and may run it elsewhere.

use std::fs::File;

use crate::task::{Attempt, TaskId};

/// The file, which both processes have open.
#[derive(Debug)]
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "there is no other process"))]
pub(crate) struct Tally(File);

/// Client, sequence, attempt.
#[cfg(all(unix, feature = "remote"))]
const BYTES: usize = 8 + 8 + 4;

#[cfg(all(unix, feature = "remote"))]
impl Tally {
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }

    /// Notes that a task begins.
    pub(super) fn note(&self, task: TaskId, attempt: Attempt) {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&task.client.to_le_bytes());
        bytes[8..16].copy_from_slice(&task.seq.to_le_bytes());
        bytes[16..].copy_from_slice(&attempt.0.to_le_bytes());
        if let Err(error) = self.0.write_all_at(&bytes, 0) {
            tracing::error!(%error, "it cannot be noted which task has begun");
        }
    }

    /// Returns what began last; `None` if nothing did.
    pub(crate) fn last(&self) -> Option<(TaskId, Attempt)> {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; BYTES];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let attempt = u32::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
        Some((TaskId { client: number(0), seq: number(8) }, Attempt(attempt)))
    }
}

#[cfg(not(all(unix, feature = "remote")))]
impl Tally {
    /// There is nobody to note it for.
    pub(super) fn note(&self, _: TaskId, _: Attempt) {}
}
