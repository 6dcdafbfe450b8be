//! How much may be pending at once: counted where tasks are made, so that a limit is an error to the caller
//! and never memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
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
    /// Both under one lock: if each was counted by itself, what is refused for the one would be in the way of
    /// others for a moment, who would then wait for room that nobody gives back.
    admitted: Mutex<Released>,
    tasks_max: usize,
    bytes_max: usize,
    waiting: AtomicUsize,
    room: Notify,
    is_closed: AtomicBool,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            admitted: Mutex::default(),
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
        let (count, weight) = (count as usize, weight as usize);
        let mut admitted = self.admitted.lock();
        if admitted.tasks + count > self.tasks_max {
            return Err(TaskError::Overloaded { what: "tasks", limit: self.tasks_max });
        }
        // One task larger than the whole limit is let in when it is alone: refused, it could never run.
        let is_alone = admitted.bytes == 0 && count <= 1;
        if !is_alone && admitted.bytes + weight > self.bytes_max {
            return Err(TaskError::Overloaded { what: "bytes", limit: self.bytes_max });
        }
        admitted.tasks += count;
        admitted.bytes += weight;
        Ok(())
    }

    /// Counts a task as soon as there is room for it.
    pub(crate) async fn admit(&self, weight: u32) {
        self.admit_some(&[weight]).await;
    }

    /// Counts as many tasks of these weights, from the first on, as there is room for, as soon as there is for one;
    /// returns how many.
    pub(crate) async fn admit_some(&self, weights: &[u32]) -> usize {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _leave = Leave(&self.waiting);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Enabled before the attempt, or room made in between would wake nobody.
            room.as_mut().enable();
            if self.is_closed.load(Ordering::Acquire) {
                return weights.len();
            }
            let count = self.try_admit_some(weights);
            if count > 0 {
                return count;
            }
            room.await;
        }
    }

    fn try_admit_some(&self, weights: &[u32]) -> usize {
        let mut admitted = self.admitted.lock();
        let room = self.tasks_max.saturating_sub(admitted.tasks);
        let mut count = 0;
        for &weight in weights.iter().take(room) {
            let bytes = admitted.bytes + weight as usize;
            if admitted.bytes > 0 && bytes > self.bytes_max {
                break;
            }
            admitted.bytes = bytes;
            count += 1;
        }
        admitted.tasks += count;
        count
    }

    /// Lets everybody in: the cluster is gone, and tells them so itself.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    pub(crate) fn release(&self, released: Released) {
        {
            let mut admitted = self.admitted.lock();
            admitted.tasks -= released.tasks;
            admitted.bytes -= released.bytes;
        }
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

/// Room that one task takes; given back when this is dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    weight: u32,
}

impl Place {
    /// Takes room for a task.
    ///
    /// # Errors
    /// As [`Admission::try_admit`].
    pub(crate) fn take(admission: &Arc<Admission>, weight: u32) -> Result<Self, TaskError> {
        admission.try_admit(1, weight)?;
        Ok(Self { admission: admission.clone(), weight })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut released = Released::default();
        released.add(1, self.weight);
        self.admission.release(released);
    }
}
