//! The outcomes of a `map` as they come, each with the position of its item.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;

use super::feed::Feed;
use super::map::{Alarm, is_time_up};
use super::{Executor, MapOptions};
use crate::async_result::{AsyncResult, block_on, may_block};
use crate::error::{Error, TaskError};
use crate::task::Task;

type OutputOf<S> = <<S as Iterator>::Item as Task>::Output;
type Placed<S> = (usize, Result<OutputOf<S>, TaskError>);

/// The outcomes of [`map_unordered`](super::ExecutorExt::map_unordered): a blocking iterator; a stream by
/// [`into_stream`](Self::into_stream). Dropping it cancels what was not read.
///
/// Where it ends with `TimedOut` or `WouldBlock`, the position is that of the first item that was not read.
///
/// ```
/// use callboard::{ThreadPoolExecutor, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// let ex = ThreadPoolExecutor::new(2)?;
/// let mut positions: Vec<usize> = ex.map_unordered(square, 0..3).map(|(position, _)| position).collect();
/// positions.sort_unstable();
/// assert_eq!(positions, [0, 1, 2]);
/// # Ok::<(), callboard::Error>(())
/// ```
#[must_use = "dropping it cancels its tasks"]
pub struct Unordered<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    feed: Feed<'e, E, S>,
    unread: FuturesUnordered<At<OutputOf<S>>>,
    submitted: usize,
}

/// A result and the position of its item.
struct At<T: Send + 'static> {
    position: usize,
    result: AsyncResult<T>,
}

impl<T: Send + 'static> Future for At<T> {
    type Output = (usize, Result<T, TaskError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let position = self.position;
        Pin::new(&mut self.result).poll(cx).map(|outcome| (position, outcome))
    }
}

impl<'e, E, S> Unordered<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    pub(super) fn start(executor: &'e E, options: MapOptions, tasks: S) -> Result<Self, Error> {
        let plan = options.plan(executor)?;
        let feed = Feed::new(executor, plan, tasks);
        let mut map = Self { feed, unread: FuturesUnordered::new(), submitted: 0 };
        map.fill();
        Ok(map)
    }

    /// Returns the same outcomes as a `Stream`; as [`Map::into_stream`](super::Map::into_stream).
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// use futures_util::StreamExt;
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// let mut squares = ex.map_unordered(square, 1..=3).into_stream();
    /// while let Some((position, square)) = squares.next().await {
    ///     println!("{position}: {}", square?);
    /// }
    /// # Ok::<(), callboard::Error>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_stream(self) -> UnorderedStream<'e, E, S> {
        UnorderedStream { map: self, alarm: None }
    }

    fn fill(&mut self) {
        let Self { feed, unread, submitted } = self;
        feed.fill(unread.len(), |result| {
            unread.push(At { position: *submitted, result });
            *submitted += 1;
        });
    }

    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Option<Placed<S>>> {
        Pin::new(&mut self.unread).poll_next(cx)
    }

    /// What follows where nothing is unread.
    fn end(&mut self) -> Option<Placed<S>> {
        self.feed.has_more().then(|| self.give_up(self.feed.too_late()))
    }

    /// Ends with an error: cancels the rest.
    fn give_up(&mut self, error: TaskError) -> Placed<S> {
        self.feed.stop();
        let first = self.unread.iter().map(|at| at.position).min().unwrap_or(self.submitted);
        self.cancel();
        (first, Err(error))
    }

    fn cancel(&mut self) {
        for at in std::mem::take(&mut self.unread) {
            at.result.cancel("its map was dropped, or ran out of time");
        }
    }
}

impl<E, S> Iterator for Unordered<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    type Item = Placed<S>;

    fn next(&mut self) -> Option<Placed<S>> {
        self.fill();
        // Outcomes that are there are read also where waiting is not possible, or not any more.
        let mut next = self.poll_unread(&mut Context::from_waker(Waker::noop()));
        if next.is_pending() {
            if !may_block() {
                return Some(self.give_up(TaskError::WouldBlock));
            }
            let deadline = self.feed.deadline();
            next = match block_on(poll_fn(|cx| self.poll_unread(cx)), deadline) {
                Some(next) => Poll::Ready(next),
                None => return Some(self.give_up(self.feed.too_late())),
            };
        }
        match next {
            Poll::Ready(Some(outcome)) => Some(outcome),
            Poll::Ready(None) | Poll::Pending => self.end(),
        }
    }
}

impl<E, S> Drop for Unordered<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<E, S> fmt::Debug for Unordered<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Unordered {}: {} ahead>", <S::Item as Task>::kind().short_name(), self.unread.len())
    }
}

/// The outcomes of [`map_unordered`](super::ExecutorExt::map_unordered) as a stream.
#[must_use = "dropping it cancels its tasks"]
pub struct UnorderedStream<'e, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    map: Unordered<'e, E, S>,
    alarm: Option<Alarm>,
}

/// Nothing in it is pinned: results are polled where they are, and items are plain values.
impl<E, S> Unpin for UnorderedStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
}

impl<E, S> Stream for UnorderedStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    type Item = Placed<S>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Placed<S>>> {
        let Self { map, alarm } = &mut *self;
        map.fill();
        match map.poll_unread(cx) {
            Poll::Ready(Some(outcome)) => Poll::Ready(Some(outcome)),
            Poll::Ready(None) => Poll::Ready(map.end()),
            Poll::Pending if is_time_up(alarm, map.feed.deadline(), cx) => {
                let error = map.feed.too_late();
                Poll::Ready(Some(map.give_up(error)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<E, S> fmt::Debug for UnorderedStream<'_, E, S>
where
    E: Executor + ?Sized,
    S: Iterator<Item: Task>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}
