//! Several engines, each of which gets every call.

use std::fmt;
use std::sync::Arc;

use super::link::{Call, Link};
use super::with::{HasOptions, Options, OptionsCell};
use crate::async_result::AsyncMapResult;
use crate::error::TaskError;
use crate::task::{EngineId, Target, Task};

/// Several engines, each of which runs every task that the view is given. `rc[:]` in ipyparallel.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(3).start()?;
/// let dv = cluster.client().all();
/// assert_eq!(format!("{dv:?}"), "<DirectView [0, 1, 2]>");
/// assert_eq!(dv.apply(square(3)).get()?, [9, 9, 9]); // each runs it
/// assert_eq!(dv.map(square, 0..5).get()?, [0, 1, 4, 9, 16]); // each runs a part
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone)]
pub struct DirectView {
    pub(super) link: Arc<Link>,
    /// `None`: all engines, at each call those that are there then.
    pub(super) engines: Option<Arc<[EngineId]>>,
    pub(super) options: OptionsCell,
}

impl DirectView {
    pub(crate) fn new(link: Arc<Link>, engines: Option<Arc<[EngineId]>>) -> Self {
        Self { link, engines, options: OptionsCell::default() }
    }

    /// Returns the engines, in the order of the results; of [`Client::every`](crate::Client::every) those that are
    /// there now.
    pub fn targets(&self) -> Arc<[EngineId]> {
        self.engines.clone().unwrap_or_else(|| self.link.roster().ids().into())
    }

    /// Returns how many engines these are.
    pub fn len(&self) -> usize {
        self.targets().len()
    }

    /// Returns whether these are no engines: then every task is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn options(&self) -> &Options {
        &self.options.0
    }

    /// Has every engine run the task: one value per engine, in the order of [`targets`](Self::targets).
    ///
    /// A view without engines refuses: the result is settled at once, with `NoEngines`.
    pub fn apply<T: Task>(&self, task: T) -> AsyncMapResult<T::Output> {
        let (engines, options) = (self.targets(), &self.options.0);
        let places = engines.len().max(1) as u32;
        let many = self.link.many::<T>(places, options);
        if engines.is_empty() {
            many.refuse(0, 1, TaskError::NoEngines);
        }
        let tasks = std::iter::repeat_n(task, engines.len());
        let call = |(&engine, task)| Call::of(Target::One(engine), options.retries_bound(), task);
        let calls = engines.iter().zip(tasks).map(call);
        self.link.submit_many(&many, options, calls);
        AsyncMapResult::new(many, self.link.clone())
    }

    /// Parts the items among the engines, and has each run `f` on its own; the results in the order of the items.
    ///
    /// The parts are as equal as can be, in order: of `n` items on `q` engines the first `n % q` get one more.
    /// `f` makes a task of each item; it runs here, now.
    ///
    /// A view without engines refuses: each item settles at once, with `NoEngines`.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// #[task]
    /// fn power(base: u64, exponent: u32) -> u64 { base.pow(exponent) }
    ///
    /// let cluster = Cluster::threads(3).start()?;
    /// let squares = cluster.client().all().map(|x| power(x, 2), 0..7);
    /// assert_eq!(squares.get()?, [0, 1, 4, 9, 16, 25, 36]);
    /// let parts: Vec<usize> = squares.by_engine()?.values().map(Vec::len).collect();
    /// assert_eq!(parts, [3, 2, 2]);
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
        let engines = self.targets();
        if engines.is_empty() {
            many.refuse(0, tasks.len() as u32, TaskError::NoEngines);
        }
        let parts = parts_of(tasks, engines.len()).into_iter().filter(|part| !part.is_empty());
        let call = |(&engine, part)| Call::of_many(Target::One(engine), options.retries_bound(), part);
        let calls = engines.iter().zip(parts).map(call);
        self.link.submit_many(&many, options, calls);
        AsyncMapResult::new(many, self.link.clone())
    }
}

/// Parts the items into as equal parts as can be, in order: the first `items % parts` get one more.
pub(super) fn parts_of<T>(mut items: Vec<T>, parts: usize) -> Vec<Vec<T>> {
    let (each, more) = (items.len().checked_div(parts).unwrap_or(0), items.len().checked_rem(parts).unwrap_or(0));
    // From behind, so that each is cut off without moving the others.
    let mut from_behind: Vec<Vec<T>> =
        (1..parts).rev().map(|part| items.split_off(part * each + part.min(more))).collect();
    items.shrink_to_fit();
    from_behind.extend((parts > 0).then_some(items));
    from_behind.reverse();
    from_behind
}

impl HasOptions for DirectView {
    fn options_mut(&mut self) -> &mut OptionsCell {
        &mut self.options
    }
}

impl fmt::Debug for DirectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_lazy = if self.engines.is_none() { "every " } else { "" };
        write!(f, "<DirectView {is_lazy}{:?}>", self.targets())
    }
}
