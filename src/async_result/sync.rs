//! The lock and the flags of the hand-over. The model checker's tests put its own in their place.

use std::cell::RefCell;

use parking_lot::ReentrantMutex;

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A value that one thread at a time may look at or change.
///
/// Reentrant, because looking runs code of the user's, which may look again.
#[derive(Debug)]
pub(super) struct Guarded<T>(ReentrantMutex<RefCell<T>>);

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(ReentrantMutex::new(RefCell::new(value)))
    }

    /// Looks at the value.
    pub(super) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.lock().borrow())
    }

    /// Changes the value. `change` must not run code of the user's.
    pub(super) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock().borrow_mut())
    }
}
