//! The results of many tasks, in order.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::blocking::{block_on, may_block};
use super::one::{Decode, read_value};
use crate::actors::Spin;
use crate::error::{CompositeError, Error, TaskError};
use crate::messages::{Aftermath, Settle};
use crate::task::{Extras, Moment, Outcome, Record, Run, Status, TaskId, TaskKind};
use crate::views::{Identified, Link};

/// The results of many tasks, in the order in which they were asked for: of `apply` on a
/// [`DirectView`](crate::DirectView), one value an engine.
///
/// A future of all values, or of a [`CompositeError`] that names each task that has none.
pub struct AsyncMapResult<T: Send + 'static> {
    many: Arc<Many<T>>,
    link: Arc<Link>,
}

/// The shared inside of an [`AsyncMapResult`].
pub(crate) struct Many<T> {
    kind: &'static TaskKind,
    extras: Option<Arc<Extras>>,
    ids: Vec<TaskId>,
    created: Moment,
    decode: Decode<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// One an id.
    items: Vec<Item<T>>,
    /// How many are not settled.
    left: usize,
    wakers: Vec<Waker>,
    /// Nobody wants the values any more.
    is_dropped: bool,
}

enum Item<T> {
    Pending,
    Ended { result: Option<Result<T, TaskError>>, run: Run },
}

impl<T: Send + 'static> Many<T> {
    pub(crate) fn new(
        ids: Vec<TaskId>,
        kind: &'static TaskKind,
        extras: Option<Arc<Extras>>,
        decode: Decode<T>,
    ) -> Arc<Self> {
        let items = ids.iter().map(|_| Item::Pending).collect();
        let state = State { items, left: ids.len(), wakers: Vec::new(), is_dropped: false };
        Arc::new(Self { kind, extras, ids, created: Moment::now(), decode, state: Mutex::new(state) })
    }

    /// Settles a task that was never submitted.
    pub(crate) fn refuse(&self, index: usize, error: TaskError) {
        let run = Run::none(&error);
        drop(self.settle(index as u32, run, Err(error)));
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.state.lock();
        if state.left == 0 {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|other| other.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        self.state.lock().left == 0
    }
}

impl<T> Identified for Many<T> {
    fn id_at(&self, index: u32) -> TaskId {
        self.ids[index as usize]
    }
}

impl<T: Send + 'static> Settle for Many<T> {
    fn settle(&self, index: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        let result = outcome.and_then(|value| read_value(self.kind, self.decode, value));
        // A value that cannot be read is known only here.
        let run = Run { status: result.as_ref().err().map_or(run.status, TaskError::status), ..run };
        let (wakers, unwanted) = {
            let mut state = self.state.lock();
            let is_dropped = state.is_dropped;
            let Item::Pending = state.items[index as usize] else { return leftover(Some(result)) };
            let (result, unwanted) = if is_dropped { (None, Some(result)) } else { (Some(result), None) };
            state.items[index as usize] = Item::Ended { result, run };
            state.left -= 1;
            let wakers = if state.left == 0 { std::mem::take(&mut state.wakers) } else { Vec::new() };
            (wakers, unwanted)
        };
        wakers.into_iter().for_each(Waker::wake);
        leftover(unwanted)
    }
}

/// A value that nobody wants goes where its `Drop` may do what it likes.
fn leftover<T: Send + 'static>(unwanted: Option<Result<T, TaskError>>) -> Option<Box<Aftermath>> {
    if !std::mem::needs_drop::<T>() {
        return None;
    }
    let leftover: Box<dyn Send> = Box::new(unwanted?);
    Some(Box::new(Aftermath { leftover: Some(leftover), ..Aftermath::default() }))
}

impl<T: Send + 'static> AsyncMapResult<T> {
    pub(crate) fn new(many: Arc<Many<T>>, link: Arc<Link>) -> Self {
        Self { many, link }
    }

    /// Returns how many tasks there are.
    pub fn len(&self) -> usize {
        self.many.ids.len()
    }

    /// Returns whether there is no task at all.
    pub fn is_empty(&self) -> bool {
        self.many.ids.is_empty()
    }

    /// Returns the ids of the tasks.
    pub fn ids(&self) -> &[TaskId] {
        &self.many.ids
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
        self.wait()?;
        Ok(self.gather(|result| result.clone())?)
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
        Ok(self.gather(|result| result.clone())?)
    }

    /// Blocks until all tasks are settled and moves their values out.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn take(&mut self) -> Result<Vec<T>, Error> {
        self.wait()?;
        Ok(self.gather(Option::take)?)
    }

    /// Blocks until all tasks are settled.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime or an arbiter.
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_until(None).map(drop)
    }

    /// Blocks until all tasks are settled, for at most `wait`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); [`Error::NotReady`] after `wait`. The tasks go on.
    pub fn wait_timeout(&self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(wait);
        if self.wait_until(deadline)? { Ok(()) } else { Err(Error::NotReady { waited: wait }) }
    }

    /// Returns whether all tasks are settled.
    pub fn ready(&self) -> bool {
        self.many.is_done()
    }

    /// Returns whether all tasks are settled; else has `waker` woken when they are.
    pub(super) fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        self.many.poll(waker)
    }

    /// Returns whether all tasks have a value; `None` while some are not settled.
    pub fn successful(&self) -> Option<bool> {
        let state = self.many.state.lock();
        let is_done = |item: &Item<T>| matches!(item, Item::Ended { run: Run { status: Status::Done, .. }, .. });
        (state.left == 0).then(|| state.items.iter().all(is_done))
    }

    /// Returns how many tasks are settled.
    pub fn progress(&self) -> usize {
        self.len() - self.many.state.lock().left
    }

    /// Returns what is known of each task.
    pub fn metadata(&self) -> Vec<Record> {
        let state = self.many.state.lock();
        self.many.ids.iter().zip(&state.items).map(|(&id, item)| self.record(id, item)).collect()
    }

    /// Cancels the tasks that are not settled; as [`AsyncResult::cancel`](crate::AsyncResult::cancel).
    pub fn cancel(&self, reason: impl Into<Box<str>>) {
        let state = self.many.state.lock();
        let pending = |(&id, item): (&TaskId, &Item<T>)| matches!(item, Item::Pending).then_some(id);
        let tasks: Vec<TaskId> = self.many.ids.iter().zip(&state.items).filter_map(pending).collect();
        drop(state);
        self.link.cancel(tasks, reason.into());
    }

    fn record(&self, id: TaskId, item: &Item<T>) -> Record {
        let run = match item {
            Item::Pending => None,
            Item::Ended { run, .. } => Some(*run),
        };
        Record::new(id, self.many.kind, self.many.extras.as_deref(), self.many.created, run)
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        if self.ready() {
            return Ok(true);
        }
        if !may_block() {
            return Err(Error::WouldBlock);
        }
        let mut spin = Spin::new(self.link.patience());
        while spin.again() {
            if self.ready() {
                return Ok(true);
            }
        }
        Ok(block_on(poll_fn(|cx| self.many.poll(cx.waker())), deadline).is_some())
    }

    /// Collects the values of tasks that are all settled.
    fn gather(
        &self,
        read: impl Fn(&mut Option<Result<T, TaskError>>) -> Option<Result<T, TaskError>>,
    ) -> Result<Vec<T>, CompositeError> {
        let mut state = self.many.state.lock();
        let (mut values, mut errors) = (Vec::with_capacity(state.items.len()), Vec::new());
        for (position, item) in state.items.iter_mut().enumerate() {
            let outcome = match item {
                Item::Pending => None,
                Item::Ended { result, .. } => read(result),
            };
            match outcome.unwrap_or(Err(TaskError::AlreadyTaken)) {
                Ok(value) => values.push(value),
                Err(error) => errors.push((position, error)),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(CompositeError { errors, total: state.items.len() }) }
    }
}

impl<T: Send + 'static> Future for AsyncMapResult<T> {
    type Output = Result<Vec<T>, CompositeError>;

    /// Moves the values out; a second time each is [`TaskError::AlreadyTaken`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.many.poll(cx.waker()) {
            Poll::Ready(()) => Poll::Ready(self.gather(Option::take)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> Drop for AsyncMapResult<T> {
    fn drop(&mut self) {
        // The values are dropped here, on the caller's own thread, or where they are given if that comes later.
        let items = {
            let mut state = self.many.state.lock();
            state.is_dropped = true;
            let take = |item: &mut Item<T>| match item {
                Item::Pending => None,
                Item::Ended { result, .. } => result.take(),
            };
            state.items.iter_mut().filter_map(take).collect::<Vec<_>>()
        };
        drop(items);
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
