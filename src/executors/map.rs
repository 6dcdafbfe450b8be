//! The outcomes of a `map`, in the order of its items.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_core::Stream;
use tokio::runtime::Handle;

use super::feed::Feed;
use super::{Executor, MapOptions};
use crate::async_result::AsyncResult;
use crate::error::{Error, TaskError};
use crate::task::Task;

type OutputOf<S> = <<S as Iterator>::Item as Task>::Output;
type Outcome<S> = Result<OutputOf<S>, TaskError>;

/// The outcomes of [`map`](super::ExecutorExt::map): a blocking iterator; a stream by
/// [`into_stream`](Self::into_stream). Dropping it cancels what was not read.
///
/// ```
/// use callboard::{ThreadPoolExecutor, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// let ex = ThreadPoolExecutor::new(2)?;
/// let mut squares = ex.map(square, 1..);
/// assert_eq!(squares.next(), Some(Ok(1)));
/// drop(squares); // the rest is cancelled
/// # Ok::<(), callboard::Error>(())
/// ```
#[must_use = "dropping it cancels its tasks"]
pub struct Map<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    feed: Feed<'e, E, S>,
    /// Submitted and not read.
    unread: VecDeque<AsyncResult<OutputOf<S>>>,
}

impl<'e, E, S> Map<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    pub(super) fn start(executor: &'e E, options: MapOptions, tasks: S) -> Result<Self, Error> {
        let plan = options.plan(executor)?;
        let mut map = Self { feed: Feed::new(executor, plan, tasks), unread: VecDeque::new() };
        map.fill();
        Ok(map)
    }

    /// Returns the same outcomes as a `Stream`, for async code.
    ///
    /// Items are taken where it is polled. A `timeout` needs tokio's timer: in a runtime that has not enabled it, it
    /// panics, as `tokio::time` does; outside of tokio it is only looked at when something is settled.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// use futures_util::StreamExt;
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// let mut squares = ex.map(square, 1..=3).into_stream();
    /// let mut sum = 0;
    /// while let Some(square) = squares.next().await {
    ///     sum += square?;
    /// }
    /// assert_eq!(sum, 14);
    /// # Ok::<(), callboard::Error>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_stream(self) -> MapStream<'e, E, S> {
        MapStream { map: self, alarm: None }
    }

    fn fill(&mut self) {
        let Self { feed, unread } = self;
        feed.fill(unread.len(), |result| unread.push_back(result));
    }

    /// Waits for the first unread outcome.
    fn wait(&mut self) -> Option<Outcome<S>> {
        let Some(first) = self.unread.front_mut() else {
            return self.feed.has_more().then(|| self.give_up(self.feed.too_late()));
        };
        let waited = match self.feed.deadline() {
            None => first.wait(),
            Some(deadline) => first.wait_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match waited {
            Ok(()) => self.unread.pop_front().map(|mut first| first.take()),
            Err(TaskError::NotReady { .. }) => Some(self.give_up(self.feed.too_late())),
            Err(error) => Some(self.give_up(error)),
        }
    }

    /// Ends with an error: cancels the rest.
    fn give_up(&mut self, error: TaskError) -> Outcome<S> {
        self.feed.stop();
        self.cancel();
        Err(error)
    }

    fn cancel(&mut self) {
        // From the end, so that no worker starts the next while the one before is cancelled.
        while let Some(result) = self.unread.pop_back() {
            result.cancel("its map was dropped, or ran out of time");
        }
    }
}

impl<E, S> Iterator for Map<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    type Item = Outcome<S>;

    fn next(&mut self) -> Option<Outcome<S>> {
        // What was returned before is read now; so there is never more than the look-ahead.
        self.fill();
        self.wait()
    }
}

impl<E, S> Drop for Map<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<E, S> fmt::Debug for Map<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Map {}: {} ahead>", <S::Item as Task>::kind().short_name(), self.unread.len())
    }
}

/// The outcomes of [`map`](super::ExecutorExt::map) as a stream; see [`Map::into_stream`].
#[must_use = "dropping it cancels its tasks"]
pub struct MapStream<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    map: Map<'e, E, S>,
    alarm: Option<Alarm>,
}

/// Wakes at the deadline.
pub(super) type Alarm = Pin<Box<tokio::time::Sleep>>;

/// Returns whether the deadline has passed, or has the task woken then. Without a tokio runtime nobody wakes it, and
/// the deadline is only seen where something else does.
pub(super) fn is_time_up(alarm: &mut Option<Alarm>, deadline: Option<Instant>, cx: &mut Context<'_>) -> bool {
    let Some(deadline) = deadline else { return false };
    if Handle::try_current().is_err() {
        return Instant::now() >= deadline;
    }
    let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
    alarm.as_mut().poll(cx).is_ready()
}

/// Nothing in it is pinned: results are polled where they are, and items are plain values.
impl<E, S> Unpin for MapStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
}

impl<E, S> Stream for MapStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    type Item = Outcome<S>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome<S>>> {
        let Self { map, alarm } = &mut *self;
        map.fill();
        let Some(first) = map.unread.front_mut() else { return Poll::Ready(map.wait()) };
        if let Poll::Ready(outcome) = Pin::new(first).poll(cx) {
            map.unread.pop_front();
            return Poll::Ready(Some(outcome));
        }
        if is_time_up(alarm, map.feed.deadline(), cx) {
            let error = map.feed.too_late();
            return Poll::Ready(Some(map.give_up(error)));
        }
        Poll::Pending
    }
}

impl<E, S> fmt::Debug for MapStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}
