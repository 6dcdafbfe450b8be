//! Results in the order in which they are settled.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream};

use super::awaitable::Awaitable;
use super::blocking::{block_on, may_block};
use super::until::Until;
use crate::error::Error;

/// Returns results as they are settled, those that are settled already first;
/// `concurrent.futures.as_completed`.
///
/// Each costs the same, however many there are, and is let go as it is returned.
///
/// ```
/// use callboard::{ThreadPoolExecutor, as_completed, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut sum = 0;
/// for result in as_completed((0..10).map(|x| pool.submit(square(x)))) {
///     sum += result.get()?;
/// }
/// assert_eq!(sum, 285);
/// # Ok::<(), callboard::Error>(())
/// ```
pub fn as_completed<R: Awaitable>(results: impl IntoIterator<Item = R>) -> AsCompleted<R> {
    let mut completed = AsCompleted { pending: FuturesUnordered::new(), as_they_are: VecDeque::new() };
    results.into_iter().for_each(|result| completed.push(result));
    completed
}

/// Results as they are settled: a blocking iterator; a stream by [`into_stream`](Self::into_stream).
///
/// On a thread that drives a runtime the iterator does not wait: it returns what is left as it is, and a result
/// that is not settled says `WouldBlock` itself when it is asked for its value.
#[must_use = "nothing is waited for until this is read"]
pub struct AsCompleted<R> {
    pending: FuturesUnordered<Until<R>>,
    /// Those to be returned without waiting, where waiting is not possible.
    as_they_are: VecDeque<R>,
}

impl<R: Awaitable> AsCompleted<R> {
    /// Adds a result, also while the others are read.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, as_completed, prelude::*};
    /// # #[task] fn half(x: u64) -> u64 { x / 2 }
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut results = as_completed([pool.submit(half(1_000))]);
    /// let mut steps = 0;
    /// while let Some(result) = results.next() {
    ///     steps += 1;
    ///     let left = result.get()?;
    ///     if left > 0 {
    ///         results.push(pool.submit(half(left)));
    ///     }
    /// }
    /// assert_eq!(steps, 10);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn push(&mut self, result: R) {
        self.pending.push(Until::new(result));
    }

    /// Returns how many results are not yet returned.
    pub fn len(&self) -> usize {
        self.pending.len() + self.as_they_are.len()
    }

    /// Returns whether every result was returned.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As `next`, but waits for at most `wait`.
    ///
    /// # Errors
    /// [`Error::NotReady`] after `wait`, and [`Error::WouldBlock`] on a thread that drives a runtime; the results
    /// stay here.
    pub fn next_timeout(&mut self, wait: Duration) -> Result<Option<R>, Error> {
        if let Some(next) = self.next_ready() {
            return Ok(next);
        }
        if !may_block() {
            return Err(Error::WouldBlock);
        }
        let deadline = Instant::now().checked_add(wait);
        block_on(poll_fn(|cx| self.poll(cx)), deadline).ok_or(Error::NotReady { waited: wait })
    }

    /// Returns the same results as a `Stream`, for async code.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, as_completed, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// use futures_util::StreamExt;
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut results = as_completed([pool.submit(square(2)), pool.submit(square(3))]).into_stream();
    /// let mut sum = 0;
    /// while let Some(result) = results.next().await {
    ///     sum += result.await?;
    /// }
    /// assert_eq!(sum, 13);
    /// # Ok::<(), callboard::Error>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_stream(self) -> AsCompletedStream<R> {
        AsCompletedStream(self)
    }

    /// Returns what is there without waiting; the outer `None` where that is nothing yet.
    fn next_ready(&mut self) -> Option<Option<R>> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        if let Some(result) = self.as_they_are.pop_front() {
            return Poll::Ready(Some(result));
        }
        Pin::new(&mut self.pending).poll_next(cx)
    }
}

impl<R: Awaitable> Iterator for AsCompleted<R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        if let Some(next) = self.next_ready() {
            return next;
        }
        if may_block() {
            return block_on(poll_fn(|cx| self.poll(cx)), None).flatten();
        }
        self.as_they_are.extend(std::mem::take(&mut self.pending).into_iter().filter_map(Until::into_inner));
        self.as_they_are.pop_front()
    }
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<AsCompleted {} left>", self.pending.len() + self.as_they_are.len())
    }
}

/// Results as they are settled, as a stream; see [`AsCompleted::into_stream`].
#[must_use = "nothing is waited for until this is read"]
pub struct AsCompletedStream<R>(AsCompleted<R>);

impl<R: Awaitable> AsCompletedStream<R> {
    /// Adds a result, also while the others are read.
    pub fn push(&mut self, result: R) {
        self.0.push(result);
    }
}

impl<R> Unpin for AsCompletedStream<R> {}

impl<R: Awaitable> Stream for AsCompletedStream<R> {
    type Item = R;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        self.0.poll(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.pending.len(), None)
    }
}

impl<R> fmt::Debug for AsCompletedStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
