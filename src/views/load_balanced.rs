//! Any engine of several, whichever is best.

use std::fmt;
use std::sync::Arc;

use super::link::{Call, Link};
use super::with::{HasOptions, OptionsCell};
use crate::async_result::{AsyncMapResult, AsyncResult};
use crate::limits::MAP_PORTION_TASKS;
use crate::task::{EngineId, Target, Task};

/// Several engines, or all: each task runs on the one with the least to do.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(4).start()?;
/// let rc = cluster.client();
/// let even = rc.load_balanced_view(rc.ids().into_iter().step_by(2));
/// assert_eq!(even.apply(square(5)).get()?, 25);
/// assert_eq!(rc.load_balanced().map(square, 0..4).get()?, [0, 1, 4, 9]);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone)]
pub struct LoadBalancedView {
    pub(super) link: Arc<Link>,
    /// `None`: all engines, also those that join later.
    pub(super) engines: Option<Arc<[EngineId]>>,
    pub(super) options: OptionsCell,
}

impl LoadBalancedView {
    pub(crate) fn new(link: Arc<Link>, engines: Option<Arc<[EngineId]>>) -> Self {
        Self { link, engines, options: OptionsCell::default() }
    }

    /// Returns the engines that this view was made for; `None` for all.
    pub fn targets(&self) -> Option<&[EngineId]> {
        self.engines.as_deref()
    }

    /// Has the best engine run a task.
    ///
    /// While there is no engine at all the task waits for one. Refused tasks settle at once: as `Overloaded`
    /// beyond the limits, as `EngineLost` if every engine of the view has left, as `Disconnected` if the
    /// cluster was shut down.
    pub fn apply<T: Task>(&self, task: T) -> AsyncResult<T::Output> {
        let options = &self.options.0;
        self.link.apply(self.target(), options.retries_free::<T>(), options, task)
    }

    /// As [`apply`](Self::apply), but waits for room where too much is pending.
    pub async fn apply_when_admitted<T: Task>(&self, task: T) -> AsyncResult<T::Output> {
        let options = &self.options.0;
        self.link.apply_when_admitted(self.target(), options.retries_free::<T>(), options, task).await
    }

    /// Runs `f` on each item, on whichever engine is best; the results in the order of the items.
    ///
    /// Each item is a task of its own. How many travel together is chosen by how long they run, as measured:
    /// tiny ones by the thousand, long ones one by one; [`chunksize`](crate::With::chunksize) sets it. Items
    /// that may start again after an error ([`retries`](crate::With::retries)), or are kept, travel one by one.
    ///
    /// `f` makes a task of each item; it runs here, now. For the results as they come, in order:
    /// [`iter`](AsyncMapResult::iter); out of order: [`as_completed`](AsyncMapResult::as_completed). For
    /// endless or very many items: the view's executor, whose `map` takes them in as it goes.
    ///
    /// Refused as a whole beyond the limits: then each item settles at once as `Overloaded`.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// #[task]
    /// fn power(base: u64, exponent: u32) -> u64 { base.pow(exponent) }
    ///
    /// let cluster = Cluster::threads(2).start()?;
    /// let view = cluster.client().load_balanced();
    /// let cubes = view.map(|x| power(x, 3), 0..1_000).get()?; // partial application is an ordinary closure
    /// assert_eq!(cubes[9], 729);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn map<T: Task, I>(
        &self,
        f: impl FnMut(I) -> T,
        items: impl IntoIterator<Item = I>,
    ) -> AsyncMapResult<T::Output> {
        let options = &self.options.0;
        let (tasks, many) = match self.link.begin_map(f, items, options) {
            Ok(begun) => begun,
            Err(refused) => return refused,
        };
        if !tasks.is_empty() {
            let call = Call::of_many(self.target(), options.retries_free::<T>(), tasks);
            self.link.submit_many(&many, options, [call]);
        }
        AsyncMapResult::new(many, self.link.clone())
    }

    /// As [`map`](Self::map), but waits for room where too much is pending, and hands over as much as there is
    /// room for.
    pub async fn map_when_admitted<T: Task, I>(
        &self,
        f: impl FnMut(I) -> T,
        items: impl IntoIterator<Item = I>,
    ) -> AsyncMapResult<T::Output> {
        let options = &self.options.0;
        let (tasks, many) = match self.link.begin_map(f, items, options) {
            Ok(begun) => begun,
            Err(refused) => return refused,
        };
        let result = AsyncMapResult::new(many.clone(), self.link.clone());
        let (mut index, mut tasks) = (0, tasks.into_iter());
        while !tasks.as_slice().is_empty() {
            let next = &tasks.as_slice()[..MAP_PORTION_TASKS.min(tasks.len())];
            let admitted = self.link.admit_some(next).await;
            let call =
                Call::of_many(self.target(), options.retries_free::<T>(), tasks.by_ref().take(admitted).collect());
            self.link.hand_over([self.link.submission(many.clone(), index, options, call)]);
            index += admitted as u32;
        }
        result
    }

    /// Has the best engine of this process run a plain closure; settles as `NotPortable` if there is none.
    ///
    /// A closure is called once: `retries` do not apply.
    pub fn apply_fn<F, R>(&self, closure: F) -> AsyncResult<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.link.apply_fn(self.target(), &self.options.0, closure)
    }

    fn target(&self) -> Target {
        match &self.engines {
            None => Target::Any,
            Some(engines) => Target::Of(engines.clone()),
        }
    }
}

impl HasOptions for LoadBalancedView {
    fn options_mut(&mut self) -> &mut OptionsCell {
        &mut self.options
    }
}

impl fmt::Debug for LoadBalancedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.engines {
            None => f.write_str("<LoadBalancedView all>"),
            Some(engines) => write!(f, "<LoadBalancedView {engines:?}>"),
        }
    }
}
