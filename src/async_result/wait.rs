//! Waiting for several results at once.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream};

use super::awaitable::Awaitable;
use super::blocking::{block_on, may_block};
use super::until::Until;
use crate::error::Error;

/// When [`wait`] has waited long enough; the constants of `concurrent.futures`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnWhen {
    /// When all are settled.
    #[default]
    AllCompleted,
    /// When one is settled, however.
    FirstCompleted,
    /// When one has ended without a value, or all are settled. A cancelled one counts, where Python passes over it.
    FirstException,
}

/// What [`wait`] found, each in the order in which it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited<R> {
    /// The results that are settled.
    pub done: Vec<R>,
    /// The others.
    pub pending: Vec<R>,
}

/// Waits for results, of whatever origin; `concurrent.futures.wait`.
///
/// Unlike there the order is kept, and a result that is given twice, by two references, is returned twice. Results
/// that are settled, or cancelled, before the call are done at once.
///
/// ```
/// use callboard::{ReturnWhen, ThreadPoolExecutor, prelude::*, wait};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// let cluster = Cluster::threads(1).start()?;
/// let pool = ThreadPoolExecutor::new(1)?;
/// let results = [cluster.client().executor().submit(square(2)), pool.submit(square(3))];
/// let waited = wait(&results, ReturnWhen::AllCompleted).get()?;
/// assert_eq!((waited.done.len(), waited.pending.len()), (2, 0));
/// # Ok::<(), callboard::Error>(())
/// ```
pub fn wait<R: Awaitable>(results: impl IntoIterator<Item = R>, until: ReturnWhen) -> Waiting<R> {
    Waiting { results: results.into_iter().collect(), until, settled: 0, unordered: None }
}

/// Results that are waited for: [`get`](Self::get) in blocking code, `.await` in async code.
///
/// ```
/// # use callboard::{ReturnWhen, ThreadPoolExecutor, prelude::*, wait};
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let pool = ThreadPoolExecutor::new(2)?;
/// let waited = wait((0..4).map(|x| pool.submit(square(x))), ReturnWhen::FirstCompleted).await;
/// assert!(!waited.done.is_empty());
/// # Ok::<(), callboard::Error>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is waited for until this is awaited or got"]
pub struct Waiting<R> {
    results: Vec<R>,
    until: ReturnWhen,
    /// How many of the first results are known to be settled.
    settled: usize,
    /// The results while the first of them that fails is looked for.
    unordered: Option<Unordered<R>>,
}

/// Results that are waited for in any order, each with its position.
struct Unordered<R> {
    pending: FuturesUnordered<Until<Placed<R>>>,
    done: Vec<Placed<R>>,
}

impl<R: Awaitable> Waiting<R> {
    /// Blocks until it is as was asked for.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime; the results are dropped then, so give references
    /// where that may be.
    pub fn get(self) -> Result<Waited<R>, Error> {
        self.get_until(None)
    }

    /// As [`get`](Self::get), for at most `wait`; then returns what is done by then.
    ///
    /// ```
    /// # use callboard::{Promise, ReturnWhen, wait};
    /// # use std::time::Duration;
    /// let (_promise, result) = Promise::<u32>::new("later");
    /// let waited = wait([&result], ReturnWhen::AllCompleted).get_timeout(Duration::from_millis(1))?;
    /// assert_eq!(waited.pending.len(), 1);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `get`.
    pub fn get_timeout(self, wait: Duration) -> Result<Waited<R>, Error> {
        self.get_until(Instant::now().checked_add(wait))
    }

    fn get_until(mut self, deadline: Option<Instant>) -> Result<Waited<R>, Error> {
        // Once without waiting: what is there is returned on every thread.
        let is_enough = self.poll_enough(&mut Context::from_waker(Waker::noop())).is_ready();
        if !is_enough {
            if !may_block() {
                return Err(Error::WouldBlock);
            }
            // A deadline that comes first is no error: what is done by then is returned.
            let _ = block_on(poll_fn(|cx| self.poll_enough(cx)), deadline);
        }
        Ok(self.part())
    }

    /// Returns whether it is as was asked for.
    fn poll_enough(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.until {
            // One after the other: each wakes at most once.
            ReturnWhen::AllCompleted => {
                while let Some(result) = self.results.get(self.settled) {
                    ready!(result.poll_settled(cx));
                    self.settled += 1;
                }
                Poll::Ready(())
            }
            // All with the one waker: whoever waits for the first of the rest again and again is known there.
            ReturnWhen::FirstCompleted => {
                let is_enough =
                    self.results.is_empty() || self.results.iter().any(|result| result.poll_settled(cx).is_ready());
                if is_enough { Poll::Ready(()) } else { Poll::Pending }
            }
            ReturnWhen::FirstException => self.poll_failed(cx),
        }
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let results = &mut self.results;
        let Unordered { pending, done } = self.unordered.get_or_insert_with(|| {
            let placed = std::mem::take(results).into_iter().enumerate();
            Unordered { pending: placed.map(Placed::until).collect(), done: Vec::new() }
        });
        while let Some(placed) = ready!(Pin::new(&mut *pending).poll_next(cx)) {
            let has_failed = placed.result.successful() == Some(false);
            done.push(placed);
            if has_failed {
                break;
            }
        }
        Poll::Ready(())
    }

    fn part(&mut self) -> Waited<R> {
        let mut results = std::mem::take(&mut self.results);
        if let Some(Unordered { pending, done }) = self.unordered.take() {
            let mut placed: Vec<_> = pending.into_iter().filter_map(Until::into_inner).chain(done).collect();
            placed.sort_unstable_by_key(|placed| placed.position);
            results.extend(placed.into_iter().map(|placed| placed.result));
        }
        let (done, pending) = results.into_iter().partition(Awaitable::ready);
        Waited { done, pending }
    }
}

/// Nothing in it is pinned: results are asked by reference.
impl<R> Unpin for Waiting<R> {}

impl<R: Awaitable> Future for Waiting<R> {
    type Output = Waited<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Waited<R>> {
        self.poll_enough(cx).map(|()| self.part())
    }
}

/// A result and its position among all.
struct Placed<R> {
    position: usize,
    result: R,
}

impl<R> Placed<R> {
    fn until((position, result): (usize, R)) -> Until<Self> {
        Until::new(Self { position, result })
    }
}

impl<R: Awaitable> Awaitable for Placed<R> {
    fn ready(&self) -> bool {
        self.result.ready()
    }

    fn successful(&self) -> Option<bool> {
        self.result.successful()
    }

    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.result.poll_settled(cx)
    }
}

impl<R> fmt::Debug for Waiting<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Waiting {:?}>", self.until)
    }
}
