//! The result of one task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::blocking::{block_on, may_block};
use super::cancel_on_drop::CancelOnDrop;
use super::held::{Held, NotHere};
use super::many::Joined;
use super::one::One;
use super::origin::Origin;
use crate::actors::Spin;
use crate::catch;
use crate::error::TaskError;
use crate::messages::Manner;
use crate::task::{Moment, Record, Run, Status, TaskId, TaskKind};

/// The result of a task that runs elsewhere: a future, and what `concurrent.futures.Future` and ipyparallel's
/// `AsyncResult` offer beside it.
///
/// - In async code: `.await`.
/// - On a plain thread: [`get`](Self::get), which copies the value, or [`take`](Self::take), which moves it out.
/// - As a message: [`on_done`](Self::on_done), [`pipe_to`](Self::pipe_to).
///
/// Dropping it detaches: the task runs on. [`cancel_on_drop`](Self::cancel_on_drop) is the opposite.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(1).start()?;
/// let ar = cluster.client().engine(0)?.apply(square(7));
/// assert_eq!(ar.get()?, 49);
/// assert_eq!(format!("{ar:?}"), "<AsyncResult square: done>");
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct AsyncResult<T: Send + 'static> {
    pub(super) one: Arc<One<T>>,
    pub(super) origin: Origin,
}

impl<T: Send + 'static> AsyncResult<T> {
    pub(crate) fn new(one: Arc<One<T>>, origin: impl Into<Origin>) -> Self {
        Self { one, origin: origin.into() }
    }

    /// Returns the task's id.
    pub fn id(&self) -> TaskId {
        self.one.id
    }

    /// Blocks until the task is settled and returns a copy of its value.
    ///
    /// # Errors
    /// How the task ended, if without a value; [`TaskError::WouldBlock`] on a thread that drives a runtime or
    /// an arbiter; [`TaskError::AlreadyTaken`] if the value was moved out.
    pub fn get(&self) -> Result<T, TaskError>
    where
        T: Clone,
    {
        self.wait()?;
        self.copy()
    }

    /// As [`get`](Self::get), for at most `wait`.
    ///
    /// # Errors
    /// As `get`; [`TaskError::NotReady`] after `wait`. The task goes on.
    pub fn get_timeout(&self, wait: Duration) -> Result<T, TaskError>
    where
        T: Clone,
    {
        self.wait_timeout(wait)?;
        self.copy()
    }

    /// As [`get`](Self::get): the name that `concurrent.futures` gives it.
    ///
    /// # Errors
    /// As `get`.
    pub fn result(&self) -> Result<T, TaskError>
    where
        T: Clone,
    {
        self.get()
    }

    /// As [`get_timeout`](Self::get_timeout): the name that `concurrent.futures` gives it.
    ///
    /// # Errors
    /// As `get_timeout`.
    pub fn result_timeout(&self, wait: Duration) -> Result<T, TaskError>
    where
        T: Clone,
    {
        self.get_timeout(wait)
    }

    /// Blocks until the task is settled and moves its value out.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn take(&mut self) -> Result<T, TaskError> {
        self.wait()?;
        self.move_out()
    }

    /// As [`take`](Self::take), for at most `wait`.
    ///
    /// # Errors
    /// As `take`; [`TaskError::NotReady`] after `wait`. The task goes on.
    pub fn take_timeout(&mut self, wait: Duration) -> Result<T, TaskError> {
        self.wait_timeout(wait)?;
        self.move_out()
    }

    /// Looks at the outcome without copying or moving it; `None` while the task is not settled, or once its
    /// value was taken.
    ///
    /// `look` may do what it likes, but for looking at the same outcome again: that is `None` too.
    pub fn peek<R>(&self, look: impl FnOnce(&Result<T, TaskError>) -> R) -> Option<R> {
        if !self.ready() {
            return None;
        }
        self.look(look).ok()
    }

    /// Blocks until the task is settled.
    ///
    /// # Errors
    /// [`TaskError::WouldBlock`] on a thread that drives a runtime or an arbiter.
    pub fn wait(&self) -> Result<(), TaskError> {
        self.wait_until(None).map(drop)
    }

    /// Blocks until the task is settled, for at most `wait`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); [`TaskError::NotReady`] after `wait`. The task goes on.
    pub fn wait_timeout(&self, wait: Duration) -> Result<(), TaskError> {
        let deadline = Instant::now().checked_add(wait);
        if self.wait_until(deadline)? { Ok(()) } else { Err(TaskError::NotReady { waited: wait }) }
    }

    /// Returns whether the task is settled.
    pub fn ready(&self) -> bool {
        self.one.handover.is_done()
    }

    /// Returns whether the task is settled; else has `waker` woken when it is.
    pub(super) fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        self.one.handover.poll(waker)
    }

    /// Returns whether the task has a value; `None` while it is not settled.
    pub fn successful(&self) -> Option<bool> {
        self.one.handover.read(|ended| ended.map(|ended| ended.run.status() == Status::Done))
    }

    /// Returns what is known of the task: times, engine, attempt, label, status.
    pub fn metadata(&self) -> Record {
        self.one.record()
    }

    /// Returns the time from the submission to the outcome, or to now while there is none.
    pub fn elapsed(&self) -> Duration {
        let record = self.one.record();
        record.completed.unwrap_or_else(Moment::now).since(record.submitted)
    }

    /// Cancels the task, wherever it is; returns false if it is settled already.
    ///
    /// It settles as [`TaskError::Cancelled`] soon after. A task that already runs on a thread engine cannot
    /// be stopped: its `TaskContext::is_cancelled` turns true, its slot stays taken until it returns, and
    /// what it returns is dropped. The result of a [`Promise`](crate::Promise), or of an executor that makes
    /// such, settles before this returns; on a Dask cluster when no worker begins it any more. `abort` in ipyparallel.
    pub fn cancel(&self, reason: impl Into<Box<str>>) -> bool {
        if self.ready() {
            return false;
        }
        self.origin.cancel(self.one.id, reason.into(), Manner::Ask)
    }

    /// As [`cancel`](Self::cancel), and ends a task that runs in a process engine, at the price of that process.
    ///
    /// It is killed, with all that its tasks have started, and another takes its place. What it had not started moves on
    /// without having used an attempt. A task that was cancelled before, or is overdue, and runs on all the same is
    /// ended too. On a thread engine this is `cancel`: a thread cannot be killed.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    ///
    /// #[task]
    /// fn hang() { loop {} }
    ///
    /// fn main() -> Result<(), callboard::Error> {
    ///     callboard::init();
    ///     let cluster = Cluster::processes(2).start()?;
    ///     let ar = cluster.client().load_balanced().apply(hang());
    ///     ar.cancel_by_force("it hangs");
    ///     assert!(matches!(ar.get(), Err(TaskError::Cancelled { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn cancel_by_force(&self, reason: impl Into<Box<str>>) -> bool {
        let is_pending = !self.ready();
        self.origin.cancel(self.one.id, reason.into(), Manner::Force) && is_pending
    }

    /// Has the task cancelled when this is dropped, instead of left to run.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop::new(self)
    }

    pub(super) fn kind(&self) -> &'static TaskKind {
        self.one.kind
    }

    /// Returns what is to be known of it where it is joined with others.
    pub(super) fn joined(&self) -> Joined {
        self.one.joined()
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    pub(super) fn run(&self) -> Option<Run> {
        self.one.run()
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, TaskError> {
        if self.ready() {
            return Ok(true);
        }
        if !may_block() {
            return Err(TaskError::WouldBlock);
        }
        let mut spin = Spin::new(self.origin.patience());
        while spin.again() {
            if self.ready() {
                return Ok(true);
            }
        }
        let settled = std::future::poll_fn(|cx| self.one.handover.poll(cx.waker()));
        Ok(block_on(settled, deadline).is_some())
    }

    fn copy(&self) -> Result<T, TaskError>
    where
        T: Clone,
    {
        self.look(Result::clone)?
    }

    pub(super) fn move_out(&mut self) -> Result<T, TaskError> {
        let content = self.when_here(|held| held.replace(Held::Taken))?;
        self.one.read(content)
    }

    /// As `move_out`, for a task: it is woken once another thread's look is over.
    fn poll_move_out(&self, waker: &Waker) -> Poll<Result<T, TaskError>> {
        match self.one.handover.change(|ended| ended.held.poll_take(waker)) {
            Some(Ok(content)) => Poll::Ready(self.one.read(content)),
            Some(Err(NotHere::Lent)) => Poll::Pending,
            Some(Err(NotHere::LentToCaller)) => Poll::Ready(Err(TaskError::WouldBlock)),
            Some(Err(NotHere::Taken)) | None => Poll::Ready(Err(TaskError::AlreadyTaken)),
        }
    }

    /// Has `look` look at a settled outcome, outside of every lock.
    fn look<R>(&self, look: impl FnOnce(&Result<T, TaskError>) -> R) -> Result<R, TaskError> {
        let outcome = self.one.read(self.when_here(Held::lend)?);
        let lent = Lent { one: &self.one, outcome: Some(outcome) };
        Ok(look(lent.outcome.as_ref().expect("it is put back only when this is dropped")))
    }

    /// Gets at the outcome as soon as no other thread looks at it.
    fn when_here<R>(&self, mut get: impl FnMut(&mut Held<T>) -> Result<R, NotHere>) -> Result<R, TaskError> {
        loop {
            match self.one.handover.change(|ended| get(&mut ended.held)) {
                Some(Ok(outcome)) => return Ok(outcome),
                // Only callbacks share a result with its owner. How long a look takes is up to the user: a
                // thread that drives a runtime does not wait for it.
                Some(Err(NotHere::Lent)) if !may_block() => return Err(TaskError::WouldBlock),
                Some(Err(NotHere::Lent)) => std::thread::sleep(LENT_POLL),
                Some(Err(NotHere::LentToCaller)) => return Err(TaskError::WouldBlock),
                Some(Err(NotHere::Taken)) | None => return Err(TaskError::AlreadyTaken),
            }
        }
    }
}

/// How long a thread sleeps before it asks again for an outcome that another thread looks at.
const LENT_POLL: Duration = Duration::from_micros(20);

/// An outcome that is being looked at; put back when this is dropped, also by a panic.
struct Lent<'a, T: Send + 'static> {
    one: &'a One<T>,
    outcome: Option<Result<T, TaskError>>,
}

impl<T: Send + 'static> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let waiting = self.one.handover.change(|ended| ended.held.put_back(outcome));
        // Outside the lock: whoever wakes may come back at once.
        waiting.flatten().into_iter().for_each(catch::wake);
    }
}

impl<T: Send + 'static> Future for AsyncResult<T> {
    type Output = Result<T, TaskError>;

    /// Moves the value out; a second time is [`TaskError::AlreadyTaken`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.one.handover.poll(cx.waker()) {
            Poll::Ready(()) => self.poll_move_out(cx.waker()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> Drop for AsyncResult<T> {
    fn drop(&mut self) {
        // The value is dropped here, on the caller's own thread, or where it is given if that comes later.
        drop(self.one.handover.let_go(|ended| ended.held.replace(Held::Taken).ok()));
    }
}

impl<T: Send + 'static> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.one.record();
        write!(f, "<AsyncResult {}: {}>", record.name(), record.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_three_words() {
        assert_eq!(size_of::<AsyncResult<u64>>(), 3 * size_of::<usize>());
    }
}
