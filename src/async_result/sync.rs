//! The lock, the flags and the wake-up of the hand-over. The model checker's tests put its own in their place.

use parking_lot::Mutex;

pub(super) use crate::catch::wake;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A value that one thread at a time may look at or change. No code of the user's runs meanwhile.
#[derive(Debug)]
pub(super) struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Looks at the value.
    pub(super) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.lock())
    }

    /// Changes the value.
    pub(super) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock())
    }
}
