//! Lends the parts that have come to whoever looks at values, outside of the lock: a look runs code of the user's.

use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::{Many, State};
use crate::async_result::part::Parts;
use crate::catch;

impl<T: Send + 'static> Many<T> {
    /// Lends the settled parts to `look`, outside of the lock. `None` if the caller is within a look already.
    pub(in crate::async_result) fn look<R>(&self, look: impl FnOnce(&mut Parts<T>) -> R) -> Option<R> {
        let mut loan = self.lend()?;
        Some(look(&mut loan.parts))
    }

    /// As `look`, for a task: it is woken once another thread's look is over.
    pub(in crate::async_result) fn poll_look<R>(
        &self,
        waker: &Waker,
        look: impl FnOnce(&mut Parts<T>) -> R,
    ) -> Poll<Option<R>> {
        let mut loan = match self.try_lend() {
            Ok(loan) => loan,
            Err((mut state, true)) => {
                state.waiting = Some(waker.clone());
                return Poll::Pending;
            }
            Err((_, false)) => return Poll::Ready(None),
        };
        Poll::Ready(Some(look(&mut loan.parts)))
    }

    /// Lends the parts, or tells whether it is another thread that has them.
    fn try_lend(&self) -> Result<Loan<'_, T>, (MutexGuard<'_, State<T>>, bool)> {
        let mut state = self.state.lock();
        if let Some(borrower) = state.lent_to {
            let is_another = borrower != thread::current().id();
            return Err((state, is_another));
        }
        state.lent_to = Some(thread::current().id());
        let parts = std::mem::take(&mut state.parts);
        Ok(Loan { many: self, parts })
    }

    fn lend(&self) -> Option<Loan<'_, T>> {
        loop {
            match self.try_lend() {
                Ok(loan) => return Some(loan),
                Err((_, false)) => return None,
                Err((state, true)) => drop(state),
            }
            // Only callbacks share a result with its owner, and a look is short.
            thread::sleep(LENT_POLL);
        }
    }
}

/// How long a thread sleeps before it asks again for parts that another thread looks at.
const LENT_POLL: Duration = Duration::from_micros(20);

/// The parts while somebody looks at them; put back when this is dropped, also by a panic.
struct Loan<'a, T: Send + 'static> {
    many: &'a Many<T>,
    parts: Parts<T>,
}

impl<T: Send + 'static> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        let mut state = self.many.state.lock();
        let came = std::mem::replace(&mut state.parts, std::mem::take(&mut self.parts));
        state.parts.extend(came);
        state.lent_to = None;
        let waiting = state.waiting.take();
        drop(state);
        // Outside the lock: whoever wakes may come back at once.
        waiting.into_iter().for_each(catch::wake);
    }
}
