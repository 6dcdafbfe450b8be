//! What an engine has been sent and has not started: shared by its control lane, which always answers, and
//! its worker, which may be busy for hours.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::spin::Spin;
use crate::ledger::Assignment;
use crate::task::{CancelFlag, TaskId};

/// One worker's tray.
#[derive(Debug, Default)]
pub(super) struct Tray {
    /// Whether there is something to look at; read without the lock by a worker that looks for work.
    is_ready: AtomicBool,
    inner: Mutex<Inner>,
    wake: Condvar,
    cancel: Arc<CancelFlag>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: VecDeque<Assignment>,
    running: Option<TaskId>,
    is_asleep: bool,
    is_stopped: bool,
}

/// Where a revoked task was.
pub(super) enum Revoked {
    NotStarted(Assignment),
    Running,
    NotHere,
}

impl Tray {
    pub(super) fn put(&self, batch: Vec<Assignment>) {
        let mut inner = self.inner.lock();
        inner.tasks.extend(batch);
        self.notify(&mut inner);
    }

    /// Takes the next task and notes that it runs; `None` when the engine stops.
    pub(super) fn next(&self, spin: &mut Spin) -> Option<Assignment> {
        loop {
            while !self.is_ready.load(Ordering::Acquire) {
                if !spin.again() {
                    break;
                }
            }
            let mut inner = self.inner.lock();
            inner.running = None;
            if let Some(task) = inner.tasks.pop_front() {
                spin.reset();
                if inner.tasks.is_empty() && !inner.is_stopped {
                    self.is_ready.store(false, Ordering::Release);
                }
                inner.running = Some(task.id);
                // Under the lock: a revocation meant for the task before does not hit this one.
                self.cancel.reset();
                return Some(task);
            }
            if inner.is_stopped {
                return None;
            }
            if inner.tasks.capacity() > 4 * crate::limits::BATCH_TASKS_MAX {
                inner.tasks.shrink_to(0);
            }
            inner.is_asleep = true;
            self.wake.wait(&mut inner);
            inner.is_asleep = false;
        }
    }

    /// Takes a task back, or asks it to stop if it runs.
    pub(super) fn revoke(&self, task: TaskId) -> Revoked {
        let mut inner = self.inner.lock();
        if inner.running == Some(task) {
            self.cancel.request();
            return Revoked::Running;
        }
        let position = inner.tasks.iter().position(|assignment| assignment.id == task);
        match position.and_then(|at| inner.tasks.remove(at)) {
            Some(assignment) => Revoked::NotStarted(assignment),
            None => Revoked::NotHere,
        }
    }

    /// Takes everything back and ends the worker after what it runs.
    pub(super) fn stop(&self) -> Vec<Assignment> {
        let mut inner = self.inner.lock();
        inner.is_stopped = true;
        self.notify(&mut inner);
        inner.tasks.drain(..).collect()
    }

    pub(super) fn cancel_flag(&self) -> Arc<CancelFlag> {
        self.cancel.clone()
    }

    fn notify(&self, inner: &mut Inner) {
        self.is_ready.store(true, Ordering::Release);
        if inner.is_asleep {
            self.wake.notify_one();
        }
    }
}
