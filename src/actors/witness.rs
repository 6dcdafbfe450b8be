//! Who is told what a worker does, where another process has to know: before a task's code runs, and after.

use crate::task::{Attempt, TaskId};

/// Whoever is told.
pub(crate) trait Witness: Send + Sync {
    /// The worker has started, and takes tasks when this has returned.
    fn on_start(&self) {}

    /// A task begins. Its code runs when this has returned.
    fn on_begin(&self, task: TaskId, attempt: Attempt);

    /// The task that began last has ended. Its outcome is told when this has returned.
    fn on_end(&self);
}
