//! The outcomes of a map as they come: in order, or as tasks complete; blocking, or as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::many::Wish;
use super::map::AsyncMapResult;
use crate::error::TaskError;

/// Copies of the outcomes of a map, in order, each as soon as it is there; of [`AsyncMapResult::iter`].
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # let cluster = Cluster::threads(2).start()?;
/// let ar = cluster.client().load_balanced().map(square, 0..4);
/// let mut sum = 0;
/// for square in &ar {
///     sum += square?;
/// }
/// assert_eq!(sum, 14);
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct Iter<'a, T: Send + 'static> {
    result: &'a AsyncMapResult<T>,
    next: u32,
}

/// The outcomes of a map, moved out in order, each as soon as it is there; of `IntoIterator` for
/// [`AsyncMapResult`].
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # let cluster = Cluster::threads(2).start()?;
/// let ar = cluster.client().load_balanced().map(square, 0..4);
/// assert_eq!(ar.into_iter().sum::<Result<u64, _>>()?, 14);
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct IntoIter<T: Send + 'static> {
    result: AsyncMapResult<T>,
    next: u32,
}

/// The outcomes of a map as a stream, in order; of [`AsyncMapResult::stream`].
///
/// ```
/// use callboard::prelude::*;
/// use futures_util::StreamExt;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # let cluster = Cluster::threads(2).start()?;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut squares = cluster.client().load_balanced().map(square, 0..4).stream();
/// let mut sum = 0;
/// while let Some(square) = squares.next().await {
///     sum += square?;
/// }
/// assert_eq!(sum, 14);
/// # Ok::<(), callboard::Error>(()) })?;
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct ResultStream<T: Send + 'static>(IntoIter<T>);

/// The outcomes of a map as tasks complete, each with its position; of [`AsyncMapResult::as_completed`].
///
/// An iterator, for plain threads; [`into_stream`](Self::into_stream) is for async code. On a thread that drives a runtime
/// it ends with [`TaskError::WouldBlock`] at the first item that is not there.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # let cluster = Cluster::threads(2).start()?;
/// for (position, square) in cluster.client().load_balanced().map(square, 0..4).as_completed() {
///     assert_eq!(square?, (position * position) as u64);
/// }
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct AsCompletedItems<T: Send + 'static> {
    result: AsyncMapResult<T>,
    /// How many parts were taken.
    parts: usize,
    /// How many outcomes these had.
    taken: usize,
    /// The rest of the last one.
    part: std::iter::Zip<std::ops::RangeFrom<usize>, std::vec::IntoIter<Result<T, TaskError>>>,
}

impl<'a, T: Clone + Send + 'static> Iter<'a, T> {
    pub(super) fn new(result: &'a AsyncMapResult<T>) -> Self {
        Self { result, next: 0 }
    }
}

impl<T: Clone + Send + 'static> Iterator for Iter<'_, T> {
    type Item = Result<T, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = next_index(self.result, &mut self.next)?;
        Some(match self.result.wait_for(Wish::Item(index), None) {
            Ok(_) => self.result.copy_of(index),
            Err(_) => would_block(self.result, &mut self.next),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.result.len() - self.next as usize;
        (left, Some(left))
    }
}

impl<T: Clone + Send + 'static> ExactSizeIterator for Iter<'_, T> {}

impl<T: Send + 'static> IntoIter<T> {
    pub(super) fn new(result: AsyncMapResult<T>) -> Self {
        Self { result, next: 0 }
    }
}

impl<T: Send + 'static> Iterator for IntoIter<T> {
    type Item = Result<T, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = next_index(&self.result, &mut self.next)?;
        Some(match self.result.wait_for(Wish::Item(index), None) {
            Ok(_) => self.result.take_of(index),
            Err(_) => would_block(&self.result, &mut self.next),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.result.len() - self.next as usize;
        (left, Some(left))
    }
}

impl<T: Send + 'static> ExactSizeIterator for IntoIter<T> {}

impl<T: Send + 'static> ResultStream<T> {
    pub(super) fn new(result: AsyncMapResult<T>) -> Self {
        Self(IntoIter::new(result))
    }
}

impl<T: Send + 'static> Stream for ResultStream<T> {
    type Item = Result<T, TaskError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let IntoIter { result, next } = &mut self.get_mut().0;
        if *next as usize >= result.len() {
            return Poll::Ready(None);
        }
        ready!(result.poll(Wish::Item(*next), cx));
        *next += 1;
        Poll::Ready(Some(result.take_of(*next - 1)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T: Send + 'static> AsCompletedItems<T> {
    pub(super) fn new(result: AsyncMapResult<T>) -> Self {
        Self { result, parts: 0, taken: 0, part: (0..).zip(Vec::new()) }
    }

    /// Returns the same outcomes as a `Stream`, for async code.
    ///
    /// ```
    /// use callboard::prelude::*;
    /// use futures_util::StreamExt;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// # let cluster = Cluster::threads(2).start()?;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let mut squares = cluster.client().load_balanced().map(square, 0..4).as_completed().into_stream();
    /// while let Some((position, square)) = squares.next().await {
    ///     assert_eq!(square?, (position * position) as u64);
    /// }
    /// # Ok::<(), callboard::Error>(()) })?;
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn into_stream(self) -> AsCompletedItemsStream<T> {
        AsCompletedItemsStream(self)
    }

    /// Returns the next of the part that was taken; takes the next part if it is there.
    fn next_taken(&mut self) -> Option<(usize, Result<T, TaskError>)> {
        loop {
            if let Some(next) = self.part.next() {
                return Some(next);
            }
            let (first, outcomes) = self.result.take_nth_part(self.parts)?;
            self.parts += 1;
            self.taken += outcomes.len();
            self.part = (first..).zip(outcomes);
        }
    }

    fn is_over(&self) -> bool {
        self.taken >= self.result.len()
    }
}

impl<T: Send + 'static> Iterator for AsCompletedItems<T> {
    type Item = (usize, Result<T, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.next_taken() {
                return Some(next);
            }
            if self.is_over() {
                return None;
            }
            if self.result.wait_for(Wish::Another(self.parts), None).is_err() {
                let first = self.result.first_pending();
                self.taken = self.result.len();
                return Some((first, Err(TaskError::WouldBlock)));
            }
        }
    }
}

/// The outcomes of a map as tasks complete, as a stream; see [`AsCompletedItems::into_stream`].
#[must_use = "nothing is waited for until this is read"]
pub struct AsCompletedItemsStream<T: Send + 'static>(AsCompletedItems<T>);

impl<T: Send + 'static> Stream for AsCompletedItemsStream<T> {
    type Item = (usize, Result<T, TaskError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let items = &mut self.0;
        loop {
            if let Some(next) = items.next_taken() {
                return Poll::Ready(Some(next));
            }
            if items.is_over() {
                return Poll::Ready(None);
            }
            ready!(items.result.poll(Wish::Another(items.parts), cx));
        }
    }
}

/// No value is pinned in it.
impl<T: Send + 'static> Unpin for AsCompletedItemsStream<T> {}

impl<T: Send + 'static> fmt::Debug for AsCompletedItemsStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts on; `None` at the end.
fn next_index<T: Send + 'static>(result: &AsyncMapResult<T>, next: &mut u32) -> Option<u32> {
    let index = *next;
    if index as usize >= result.len() {
        return None;
    }
    *next += 1;
    Some(index)
}

/// Ends an iterator on a thread that must not wait: with the reason, once.
fn would_block<T: Send + 'static>(result: &AsyncMapResult<T>, next: &mut u32) -> Result<T, TaskError> {
    *next = result.len() as u32;
    Err(TaskError::WouldBlock)
}

impl<T: Send + 'static> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Iter at {} of {:?}>", self.next, self.result)
    }
}

impl<T: Send + 'static> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<IntoIter at {} of {:?}>", self.next, self.result)
    }
}

impl<T: Send + 'static> fmt::Debug for ResultStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<ResultStream at {} of {:?}>", self.0.next, self.0.result)
    }
}

impl<T: Send + 'static> fmt::Debug for AsCompletedItems<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<AsCompletedItems at {} of {:?}>", self.taken, self.result)
    }
}
