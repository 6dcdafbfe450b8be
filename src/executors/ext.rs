//! What users call on an executor.

use std::iter;
use std::time::Duration;

use super::call::ResultOf;
use super::{Call, Executor, Limited, Map, MapOptions, RetryPolicy, Retrying, TimeLimited, Unordered, WithFallback};
use crate::async_result::AsyncResult;
use crate::error::Error;
use crate::task::Task;

/// A function over items, as the tasks that it makes of them.
type Tasks<F, I> = iter::Map<<I as IntoIterator>::IntoIter, F>;

/// The methods that every [`Executor`] has: `concurrent.futures.Executor`.
pub trait ExecutorExt: Executor {
    /// Has a task run; its result is a future.
    ///
    /// A task that is refused settles at once: as `Overloaded` beyond the limits, as `ShutDown` after the
    /// shutdown.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// assert_eq!(ex.submit(square(7)).get()?, 49);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn submit<T: Task>(&self, task: T) -> AsyncResult<T::Output> {
        let mut place = ResultOf::<T>::empty();
        self.execute(vec![Call::new(task, &mut place)]);
        place.into_result()
    }

    /// Has a task run for each item; iterates over the outcomes, in the order of the items.
    ///
    /// `f` makes a task of an item: a `#[task]` function itself, or a closure. Items are taken on this thread.
    ///
    /// As `concurrent.futures.Executor.map`, except that
    /// - items are taken as they are needed, about a thousand ahead of what was read, so an input may be endless;
    ///   the first ones are taken and submitted before this returns;
    /// - it works no further ahead than the executor's [`pending_max`](Executor::pending_max); where others fill it,
    ///   an item may be `Overloaded`;
    /// - an error is one outcome, and reading on is possible; `collect::<Result<Vec<_>, _>>()` stops at the first
    ///   as Python does;
    /// - reading on a thread that drives a runtime is [`TaskError::WouldBlock`](crate::TaskError::WouldBlock),
    ///   and the end: use [`into_stream`](Map::into_stream).
    ///
    /// Dropping the iterator cancels what was submitted and not read.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn power(x: u64, n: u32) -> u64 { x.pow(n) }
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// let squares: Vec<u64> = ex.map(|x| power(x, 2), 1..).take(4).collect::<Result<_, _>>()?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn map<T, F, I>(&self, f: F, items: I) -> Map<'_, Self, Tasks<F, I>>
    where
        T: Task,
        F: FnMut(I::Item) -> T,
        I: IntoIterator,
    {
        let made = self.map_with(MapOptions::new(), f, items);
        made.expect("the default options have no zero")
    }

    /// As [`map`](Self::map), with a time limit, chunks, or another look-ahead.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, MapOptions, prelude::*};
    /// # use std::time::Duration;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().timeout(Duration::from_secs(60)).buffersize(4);
    /// let squares: Vec<u64> = ex.map_with(options, square, 0..5)?.collect::<Result<_, _>>()?;
    /// assert_eq!(squares, [0, 1, 4, 9, 16]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Zero`] for a `chunksize` or `buffersize` of zero.
    fn map_with<T, F, I>(&self, options: MapOptions, f: F, items: I) -> Result<Map<'_, Self, Tasks<F, I>>, Error>
    where
        T: Task,
        F: FnMut(I::Item) -> T,
        I: IntoIterator,
    {
        Map::start(self, options, items.into_iter().map(f))
    }

    /// As [`map`](Self::map), but iterates over the outcomes as they come, each with the position of its item.
    ///
    /// ```
    /// # use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// let ex = ThreadPoolExecutor::new(2)?;
    /// for (position, square) in ex.map_unordered(square, 0..5) {
    ///     assert_eq!(square?, (position * position) as u64);
    /// }
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn map_unordered<T, F, I>(&self, f: F, items: I) -> Unordered<'_, Self, Tasks<F, I>>
    where
        T: Task,
        F: FnMut(I::Item) -> T,
        I: IntoIterator,
    {
        let made = self.map_unordered_with(MapOptions::new(), f, items);
        made.expect("the default options have no zero")
    }

    /// As [`map_unordered`](Self::map_unordered), with options.
    ///
    /// # Errors
    /// [`Error::Zero`] for a `chunksize` or `buffersize` of zero.
    fn map_unordered_with<T, F, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> Result<Unordered<'_, Self, Tasks<F, I>>, Error>
    where
        T: Task,
        F: FnMut(I::Item) -> T,
        I: IntoIterator,
    {
        Unordered::start(self, options, items.into_iter().map(f))
    }

    /// Makes an executor of this one with at most `n` tasks in flight at once, at least one. The others wait, in order, within
    /// this executor's [`pending_max`](Executor::pending_max); cancelled ones never get there.
    ///
    /// A task counts until it settles: what was cancelled and runs on counts no more.
    ///
    /// The executor is now inside, and shut down with the one around it; to share it, hand in an `Arc`. That goes for all of
    /// these: they are executors themselves, so they may be put around each other, and the order counts.
    ///
    /// ```
    /// use callboard::executors::RetryPolicy;
    /// use callboard::{ThreadPoolExecutor, prelude::*};
    /// use std::time::Duration;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let ex = ThreadPoolExecutor::new(8)?
    ///     .limit(2)                              // two at once
    ///     .timeout(Duration::from_secs(5))       // of which each attempt has five seconds, the wait for its turn included
    ///     .retry(RetryPolicy::new(3));           // and there are three
    /// assert_eq!((ex.max_workers(), ex.submit(square(7)).get()?), (2, 49));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn limit(self, n: usize) -> Limited<Self>
    where
        Self: Sized + 'static,
    {
        Limited::new(self, n)
    }

    /// Makes an executor of this one that tries again what ended without a value, as `policy` has it.
    ///
    /// Each attempt is a task to this executor; the result is one, and its record tells how many attempts it took. A copy of
    /// the arguments is kept meanwhile. The task must be safe to run more than once.
    ///
    /// ```
    /// use callboard::executors::RetryPolicy;
    /// use callboard::{ThreadPoolExecutor, prelude::*};
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static CALLS: AtomicU32 = AtomicU32::new(0);
    ///
    /// #[task]
    /// fn third_time_lucky() -> Result<u32, String> {
    ///     match CALLS.fetch_add(1, Ordering::Relaxed) { 2 => Ok(7), _ => Err("no luck".into()) }
    /// }
    /// let ex = ThreadPoolExecutor::new(1)?.retry(RetryPolicy::new(3));
    /// let ar = ex.submit(third_time_lucky());
    /// assert_eq!((ar.get()?, ar.metadata().attempt.0), (7, 3));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn retry(self, policy: RetryPolicy) -> Retrying<Self>
    where
        Self: Sized + 'static,
    {
        Retrying::new(self, policy)
    }

    /// Makes an executor of this one whose tasks settle as [`TimedOut`](crate::TaskError::TimedOut) when they are not done so long
    /// after they were submitted to it, and are cancelled then.
    ///
    /// ```
    /// use callboard::{ThreadPoolExecutor, prelude::*};
    /// use std::time::Duration;
    ///
    /// #[task]
    /// async fn dream() { std::future::pending().await }
    ///
    /// let limit = Duration::from_millis(20);
    /// let ex = ThreadPoolExecutor::new(1)?.timeout(limit);
    /// assert_eq!(ex.submit(dream()).get(), Err(TaskError::TimedOut { deadline: limit }));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn timeout(self, limit: Duration) -> TimeLimited<Self>
    where
        Self: Sized + 'static,
    {
        TimeLimited::new(self, limit)
    }

    /// Makes an executor of this one that gives to `other` what this one refuses (`Overloaded`, `NoEngines`, `UnknownTask`,
    /// `NotPortable`, `WorkersFailed`, `ShutDown`) or loses (`EngineLost`, `Disconnected`).
    ///
    /// What was lost may have run: it must be safe to run twice. A copy of the arguments is kept meanwhile.
    ///
    /// ```
    /// use callboard::{ThreadPoolExecutor, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let cluster = Cluster::threads(1).start()?;
    /// let ex = cluster.client().executor().fallback(ThreadPoolExecutor::new(1)?);
    /// drop(cluster);
    /// assert_eq!(ex.submit(square(7)).get()?, 49);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    fn fallback<O: Executor + 'static>(self, other: O) -> WithFallback<Self>
    where
        Self: Sized + 'static,
    {
        WithFallback::new(self, other)
    }
}

impl<E: Executor + ?Sized> ExecutorExt for E {}
