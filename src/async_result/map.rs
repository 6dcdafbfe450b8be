//! The results of many tasks, in order.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use super::blocking::{block_on, may_block};
use super::many::{Many, Wish};
use super::map_iter::{AsCompletedItems, IntoIter, Iter, ResultStream};
use super::map_values::{all_or_errors, take_all};
use super::origin::Origin;
use super::single::AsyncResult;
use crate::actors::Spin;
use crate::error::{CompositeError, Error, TaskError};
use crate::messages::Manner;
use crate::task::TaskId;
use crate::views::Identified;

/// The results of many tasks, in the order in which they were asked for: of `map`, or of `apply` on a
/// [`DirectView`](crate::DirectView), one value an engine.
///
/// - In async code: a future of all values, or of a [`CompositeError`] that names each task that has none;
///   [`stream`](Self::stream) gives them as they come, in order.
/// - On a plain thread: [`get`](Self::get), [`take`](Self::take), [`results`](Self::results) for all,
///   [`iter`](Self::iter) as they come, in order; [`as_completed`](Self::as_completed) as they come.
///
/// Each item is a task of its own: one that fails leaves the others' values in their places. Dropping this
/// detaches: the tasks run on. [`cancel_on_drop`](Self::cancel_on_drop) is the opposite.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn inverse(x: i32) -> Result<f64, String> {
///     if x == 0 { Err("zero has none".into()) } else { Ok(1.0 / f64::from(x)) }
/// }
///
/// let cluster = Cluster::threads(2).start()?;
/// let ar = cluster.client().load_balanced().map(inverse, [1, 0, 4]);
/// let results = ar.results()?;
/// assert_eq!(results[0], Ok(1.0));
/// assert!(results[1].as_ref().unwrap_err().to_string().contains("zero has none"));
/// assert_eq!(results[2], Ok(0.25));
/// assert_eq!(ar.get().unwrap_err().to_string().split(';').next(), Some("1 of 3 tasks failed"));
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct AsyncMapResult<T: Send + 'static> {
    pub(super) many: Arc<Many<T>>,
    pub(super) origin: Origin,
    pub(super) on_drop: OnDrop,
}

/// What becomes of pending tasks when their result is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDrop {
    Detach,
    Cancel,
}

impl<T: Send + 'static> AsyncMapResult<T> {
    pub(crate) fn new(many: Arc<Many<T>>, origin: impl Into<Origin>) -> Self {
        Self { many, origin: origin.into(), on_drop: OnDrop::Detach }
    }

    /// Returns how many tasks there are.
    pub fn len(&self) -> usize {
        self.many.len() as usize
    }

    /// Returns whether there is no task at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the ids of the tasks.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = TaskId> + '_ {
        (0..self.many.len()).map(|index| self.many.id_at(index))
    }

    /// Blocks until all tasks are settled and returns copies of their values, in order.
    ///
    /// # Errors
    /// [`Error::Composite`] with every task that has no value; [`Error::WouldBlock`] on a thread that drives
    /// a runtime or an arbiter.
    pub fn get(&self) -> Result<Vec<T>, Error>
    where
        T: Clone,
    {
        Ok(all_or_errors(self.results()?)?)
    }

    /// As [`get`](Self::get), for at most `wait`.
    ///
    /// # Errors
    /// As `get`; [`Error::NotReady`] after `wait`. The tasks go on.
    pub fn get_timeout(&self, wait: Duration) -> Result<Vec<T>, Error>
    where
        T: Clone,
    {
        self.wait_timeout(wait)?;
        Ok(all_or_errors(self.copies())?)
    }

    /// Blocks until all tasks are settled and returns a copy of each outcome, in order.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime or an arbiter.
    pub fn results(&self) -> Result<Vec<Result<T, TaskError>>, Error>
    where
        T: Clone,
    {
        self.wait()?;
        Ok(self.copies())
    }

    /// Blocks until all tasks are settled and moves their values out.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn take(&mut self) -> Result<Vec<T>, Error> {
        self.wait()?;
        Ok(self.move_out()?)
    }

    /// As [`take`](Self::take), for at most `wait`.
    ///
    /// # Errors
    /// As `take`; [`Error::NotReady`] after `wait`. The tasks go on.
    pub fn take_timeout(&mut self, wait: Duration) -> Result<Vec<T>, Error> {
        self.wait_timeout(wait)?;
        Ok(self.move_out()?)
    }

    /// Blocks until all tasks are settled.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime or an arbiter.
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_for(Wish::All, None).map(drop)
    }

    /// Blocks until all tasks are settled, for at most `wait`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); [`Error::NotReady`] after `wait`. The tasks go on.
    pub fn wait_timeout(&self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(wait);
        if self.wait_for(Wish::All, deadline)? { Ok(()) } else { Err(Error::NotReady { waited: wait }) }
    }

    /// Returns whether all tasks are settled.
    pub fn ready(&self) -> bool {
        self.many.is_done()
    }

    /// Returns whether all tasks have a value; `None` while some are not settled.
    pub fn successful(&self) -> Option<bool> {
        self.ready().then(|| self.many.progress().1 == 0)
    }

    /// Returns how many tasks are settled.
    pub fn progress(&self) -> usize {
        self.many.progress().0 as usize
    }

    /// Iterates over copies of the outcomes, in order, each as soon as it is there; blocks for the next.
    ///
    /// On a thread that drives a runtime it ends with [`TaskError::WouldBlock`]; there, use
    /// [`stream`](Self::stream).
    pub fn iter(&self) -> Iter<'_, T>
    where
        T: Clone,
    {
        Iter::new(self)
    }

    /// Streams the outcomes, in order, each as soon as it is there.
    pub fn stream(self) -> ResultStream<T> {
        ResultStream::new(self)
    }

    /// Iterates over the outcomes as tasks complete, each with its position; `into_stream()` of it is for async code.
    ///
    /// What is there already comes first. Items that ran together keep their order.
    pub fn as_completed(self) -> AsCompletedItems<T> {
        AsCompletedItems::new(self)
    }

    /// Cancels the tasks that are not settled, as [`AsyncResult::cancel`]; those that are keep their values.
    ///
    /// Returns how many were not settled.
    pub fn cancel(&self, reason: impl Into<Box<str>>) -> usize {
        let pending = self.many.pending();
        let count = pending.iter().map(|&(_, count)| count as usize).sum();
        if count > 0 {
            self.origin.cancel_items(|index| self.many.id_at(index), &pending, reason.into(), Manner::Ask);
        }
        count
    }

    /// As [`cancel`](Self::cancel), and ends those that run in process engines, as
    /// [`AsyncResult::cancel_by_force`].
    pub fn cancel_by_force(&self, reason: impl Into<Box<str>>) -> usize {
        let pending = self.many.pending().iter().map(|&(_, count)| count as usize).sum();
        // Also those that are settled and run all the same.
        let all = [(0, self.many.len())];
        self.origin.cancel_items(|index| self.many.id_at(index), &all, reason.into(), Manner::Force);
        pending
    }

    /// Has the tasks that are not settled cancelled when this is dropped, or what it is turned into: a stream,
    /// an iterator.
    #[must_use = "dropping it cancels the tasks"]
    pub fn cancel_on_drop(mut self) -> Self {
        self.on_drop = OnDrop::Cancel;
        self
    }

    /// Returns a result for each task. `join` is the opposite.
    ///
    /// A task that was sent to an engine together with others runs on when its own result is cancelled, and
    /// its outcome is dropped; one that was not sent does not run.
    ///
    /// Results that are dropped detach, also where this one was to be [cancelled](Self::cancel_on_drop).
    pub fn split(mut self) -> Vec<AsyncResult<T>> {
        self.on_drop = OnDrop::Detach;
        self.many.split().into_iter().map(|one| AsyncResult::new(one, self.origin.clone())).collect()
    }

    /// Returns whether all tasks are settled; else has `waker` woken when they are.
    pub(super) fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        self.many.poll(Wish::All, waker)
    }

    pub(super) fn poll(&self, wish: Wish, cx: &Context<'_>) -> Poll<()> {
        self.many.poll(wish, cx.waker())
    }

    /// Blocks until a wish is fulfilled; false if the deadline comes first.
    pub(super) fn wait_for(&self, wish: Wish, deadline: Option<Instant>) -> Result<bool, Error> {
        if self.many.is(wish) {
            return Ok(true);
        }
        if !may_block() {
            return Err(Error::WouldBlock);
        }
        let mut spin = Spin::new(self.origin.patience());
        while spin.again() {
            if self.many.is(wish) {
                return Ok(true);
            }
        }
        Ok(block_on(poll_fn(|cx| self.poll(wish, cx)), deadline).is_some())
    }
}

impl<T: Send + 'static> Future for AsyncMapResult<T> {
    type Output = Result<Vec<T>, CompositeError>;

    /// Moves the values out; a second time each is [`TaskError::AlreadyTaken`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.many.poll(Wish::All, cx.waker()));
        let taken = ready!(self.many.poll_look(cx.waker(), take_all));
        Poll::Ready(all_or_errors(self.whole(taken)))
    }
}

/// Moves the outcomes out, in order; as [`iter`](AsyncMapResult::iter).
impl<T: Send + 'static> IntoIterator for AsyncMapResult<T> {
    type Item = Result<T, TaskError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self)
    }
}

impl<'a, T: Clone + Send + 'static> IntoIterator for &'a AsyncMapResult<T> {
    type Item = Result<T, TaskError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Send + 'static> Drop for AsyncMapResult<T> {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Cancel {
            self.cancel("its result was dropped");
        }
        // The values are dropped here, on the caller's own thread, or where they are given if that comes later.
        drop(self.many.let_go());
    }
}

impl<T: Send + 'static> fmt::Debug for AsyncMapResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.successful() {
            None => format!("{} of {} done", self.progress(), self.len()),
            Some(true) => "done".into(),
            Some(false) => "failed".into(),
        };
        write!(f, "<AsyncMapResult {}: {status}>", self.many.kind.short_name())
    }
}
