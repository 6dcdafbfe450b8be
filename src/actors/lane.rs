//! A lane: how many threads hand items to one actor.
//!
//! What is pushed while the actor is busy rides in its next batch, so batches grow with the load and an
//! idle lane adds no delay. The actor takes its batches from a [`LaneStream`]; it is woken only when it
//! sleeps.
//!
//! Bound: an item is a task that admission counted, or the outcome of a task that was sent to an engine.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use parking_lot::Mutex;

use super::spin::Spin;
use crate::catch;
use crate::limits::BATCH_TASKS_MAX;

/// The sending side. Shared by as many threads as like.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    /// Whether there is something to take; read without the lock by an actor that looks for work.
    has_items: AtomicBool,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    /// There while the actor sleeps.
    sleeper: Option<Waker>,
    is_closed: bool,
}

impl<T> Lane<T> {
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner { items: VecDeque::new(), sleeper: None, is_closed: false };
        Arc::new(Self { has_items: AtomicBool::new(false), inner: Mutex::new(inner) })
    }

    /// Hands over items.
    ///
    /// # Errors
    /// Gives them back if the actor is gone.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = T>) -> Result<(), Vec<T>> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(items.into_iter().collect());
        }
        inner.items.extend(items);
        self.has_items.store(true, Ordering::Release);
        let sleeper = inner.sleeper.take();
        drop(inner);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        Ok(())
    }

    /// Takes the next batch, if there is one.
    pub(super) fn take(&self) -> Option<Vec<T>> {
        if !self.has_items.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.inner.lock();
        let count = inner.items.len().min(BATCH_TASKS_MAX);
        let batch: Vec<T> = inner.items.drain(..count).collect();
        if inner.items.is_empty() {
            self.has_items.store(false, Ordering::Release);
            // A burst's capacity is given back, or memory would not return to where it was.
            inner.items.shrink_to(4 * BATCH_TASKS_MAX);
        }
        Some(batch)
    }

    /// Goes to sleep, unless something came meanwhile.
    fn sleep(&self, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if inner.items.is_empty() {
            inner.sleeper = Some(waker.clone());
            return true;
        }
        false
    }

    fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        inner.sleeper = None;
        let left = std::mem::take(&mut inner.items);
        drop(inner);
        left.into_iter().for_each(catch::discard);
    }
}

/// The receiving side: batches of at most [`BATCH_TASKS_MAX`] items. Never ends; closes the lane when dropped.
pub(crate) struct LaneStream<T> {
    lane: Arc<Lane<T>>,
    spin: Spin,
    is_asleep: bool,
}

impl<T> LaneStream<T> {
    pub(crate) fn new(lane: Arc<Lane<T>>, patience: Duration) -> Self {
        Self { lane, spin: Spin::new(patience), is_asleep: false }
    }
}

impl<T> Stream for LaneStream<T> {
    type Item = Vec<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        let this = self.get_mut();
        loop {
            if std::mem::take(&mut this.is_asleep) {
                this.lane.inner.lock().sleeper = None;
            }
            if let Some(batch) = this.lane.take() {
                this.spin.reset();
                return Poll::Ready(Some(batch));
            }
            if this.spin.again() {
                // Back to the arbiter, which polls its other actors before it comes here again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if this.lane.sleep(cx.waker()) {
                this.is_asleep = true;
                return Poll::Pending;
            }
        }
    }
}

impl<T> Drop for LaneStream<T> {
    fn drop(&mut self) {
        self.lane.close();
    }
}
