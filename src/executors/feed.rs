//! The sending half of a `map`: takes items and submits them, never further ahead than it may.

use std::iter::Fuse;
use std::time::{Duration, Instant};

use super::call::ResultOf;
use super::{Call, Executor};
use crate::async_result::AsyncResult;
use crate::error::TaskError;
use crate::limits::MAP_BATCH_US_MAX;
use crate::task::Task;

/// How far ahead a `map` works, and until when.
#[derive(Debug)]
pub(super) struct Plan {
    /// Items submitted and not read, at most.
    pub(super) ahead: usize,
    /// Bytes of their arguments, at most.
    pub(super) bytes_ahead: usize,
    pub(super) hand_over: HandOver,
    /// The end, and the time there was from the call to it.
    pub(super) deadline: Option<(Instant, Duration)>,
}

/// How items go to the executor.
#[derive(Debug)]
pub(super) enum HandOver {
    /// So many at once, but for the last.
    Together(usize),
    /// As they come, once there is room for `refill`.
    AsTheyCome { refill: usize },
}

/// The sending half.
pub(super) struct Feed<'e, E: ?Sized, S: Iterator> {
    executor: &'e E,
    tasks: Fuse<S>,
    /// The next one, which there was no room for.
    held: Option<S::Item>,
    /// The most bytes that one of them had: so much each is counted as.
    largest: usize,
    plan: Plan,
    is_exhausted: bool,
}

impl<'e, E, S, T> Feed<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item = T>,
    T: Task,
{
    pub(super) fn new(executor: &'e E, plan: Plan, tasks: S) -> Self {
        Self { executor, tasks: tasks.fuse(), held: None, largest: 1, plan, is_exhausted: false }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.plan.deadline.map(|(end, _)| end)
    }

    fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|end| Instant::now() >= end)
    }

    /// Returns the error of an item that was not done in time.
    pub(super) fn too_late(&self) -> TaskError {
        TaskError::TimedOut { deadline: self.plan.deadline.map(|(_, time)| time).unwrap_or_default() }
    }

    /// Takes no more items.
    pub(super) fn stop(&mut self) {
        self.is_exhausted = true;
    }

    /// Returns whether items are left that were never submitted, which only happens when time is up.
    pub(super) fn has_more(&mut self) -> bool {
        !self.is_exhausted && (self.held.is_some() || self.tasks.next().is_some())
    }

    /// Submits what there is room for beside the `unread`.
    pub(super) fn fill(&mut self, mut unread: usize, mut keep: impl FnMut(AsyncResult<T::Output>)) {
        let least = match self.plan.hand_over {
            HandOver::Together(chunk) => chunk,
            HandOver::AsTheyCome { refill } => refill,
        };
        // Where few fit, no more than these can be waited for.
        while !self.is_exhausted && self.room(unread) >= least.min(self.fit()) && !self.is_overdue() {
            let tasks = self.take(unread);
            if tasks.is_empty() {
                return;
            }
            unread += tasks.len();
            self.submit(tasks).for_each(&mut keep);
        }
    }

    fn room(&self, unread: usize) -> usize {
        self.plan.ahead.min(self.fit()).saturating_sub(unread)
    }

    /// Returns how many fit into the bytes that may be pending; one that is larger than that goes alone.
    fn fit(&self) -> usize {
        (self.plan.bytes_ahead / self.largest).max(1)
    }

    /// Takes items for one hand-over, as many as there is room for beside the `unread`.
    fn take(&mut self, unread: usize) -> Vec<T> {
        let room = self.room(unread);
        let (most, until) = match self.plan.hand_over {
            HandOver::Together(chunk) => (chunk, None),
            HandOver::AsTheyCome { refill } => {
                (refill.min(room), Some(Instant::now() + Duration::from_micros(MAP_BATCH_US_MAX)))
            }
        };
        let mut tasks = Vec::new();
        while tasks.len() < most {
            match self.held.take().or_else(|| self.tasks.next()) {
                Some(task) => {
                    self.largest = self.largest.max(task.size_hint());
                    if unread + tasks.len() >= self.fit() {
                        self.held = Some(task);
                        break;
                    }
                    tasks.push(task);
                }
                None => {
                    self.is_exhausted = true;
                    break;
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        tasks
    }

    fn submit(&self, tasks: Vec<T>) -> impl Iterator<Item = AsyncResult<T::Output>> + use<E, S, T> {
        let mut places: Vec<ResultOf<T>> = tasks.iter().map(|_| ResultOf::empty()).collect();
        if !tasks.is_empty() {
            let calls = tasks.into_iter().zip(&mut places).map(|(task, place)| Call::new(task, place)).collect();
            self.executor.execute(calls);
        }
        places.into_iter().map(ResultOf::into_result)
    }
}
