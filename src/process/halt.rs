//! The end of launching, for all children of a cluster.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

/// The end of launching, for all children of a cluster.
#[derive(Debug)]
pub(crate) struct Halt {
    is_over: Mutex<bool>,
    wake: Condvar,
    /// Closed when it is over.
    launching: Semaphore,
}

impl Default for Halt {
    fn default() -> Self {
        Self { is_over: Mutex::default(), wake: Condvar::new(), launching: Semaphore::new(0) }
    }
}

impl Halt {
    /// Waits until it is over.
    pub(super) async fn over(&self) {
        // There are no permits.
        let _ = self.launching.acquire().await;
    }

    /// Has no engine launched any more.
    pub(crate) fn halt(&self) {
        *self.is_over.lock() = true;
        self.wake.notify_all();
        self.launching.close();
    }

    /// Waits, unless it is over before; returns whether it is.
    pub(super) fn wait(&self, wait: Duration) -> bool {
        let mut is_over = self.is_over.lock();
        self.wake.wait_while_for(&mut is_over, |is_over| !*is_over, wait);
        *is_over
    }
}
