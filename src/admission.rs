//! How much may be pending at once: counted where tasks are made, so that a limit is an error to the caller
//! and never memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::TaskError;
use crate::limits::Limits;

/// What settled tasks give back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Released {
    pub(crate) tasks: usize,
    pub(crate) bytes: usize,
}

impl Released {
    /// Counts tasks that admission counted with `weight` in all; 0 if they did not pass admission.
    pub(crate) fn add(&mut self, count: u32, weight: u32) {
        self.tasks += if weight > 0 { count as usize } else { 0 };
        self.bytes += weight as usize;
    }
}

/// The tasks and bytes that are pending, of all clients of a cluster in this process.
#[derive(Debug)]
pub(crate) struct Admission {
    tasks: AtomicUsize,
    bytes: AtomicUsize,
    tasks_max: usize,
    bytes_max: usize,
    waiting: AtomicUsize,
    room: Notify,
    is_closed: AtomicBool,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            tasks: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            tasks_max: limits.pending_tasks_max,
            bytes_max: limits.pending_bytes_max,
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Counts `count` tasks of `weight` bytes in all.
    ///
    /// # Errors
    /// [`TaskError::Overloaded`] where that would pass a limit; then nothing is counted.
    pub(crate) fn try_admit(&self, count: u32, weight: u32) -> Result<(), TaskError> {
        let count = count as usize;
        if self.tasks.fetch_add(count, Ordering::AcqRel) + count > self.tasks_max {
            self.tasks.fetch_sub(count, Ordering::AcqRel);
            return Err(TaskError::Overloaded { what: "tasks", limit: self.tasks_max });
        }
        let weight = weight as usize;
        let before = self.bytes.fetch_add(weight, Ordering::AcqRel);
        // One task larger than the whole limit is let in when it is alone: refused, it could never run.
        if before > 0 && before + weight > self.bytes_max {
            self.release(Released { tasks: count, bytes: weight });
            return Err(TaskError::Overloaded { what: "bytes", limit: self.bytes_max });
        }
        Ok(())
    }

    /// Counts `count` tasks as soon as there is room for all of them.
    pub(crate) async fn admit(&self, count: u32, weight: u32) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _leave = Leave(&self.waiting);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Enabled before the attempt, or room made in between would wake nobody.
            room.as_mut().enable();
            if self.is_closed.load(Ordering::Acquire) || self.try_admit(count, weight).is_ok() {
                return;
            }
            room.await;
        }
    }

    /// Lets everybody in: the cluster is gone, and tells them so itself.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    pub(crate) fn release(&self, released: Released) {
        self.tasks.fetch_sub(released.tasks, Ordering::AcqRel);
        self.bytes.fetch_sub(released.bytes, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.room.notify_waiters();
        }
    }
}

/// Counts a caller out, also when its future is dropped.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
