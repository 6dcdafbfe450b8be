//! Any engine of several, whichever is best.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::with::{HasOptions, OptionsCell};
use crate::async_result::AsyncResult;
use crate::task::{EngineId, Target, Task};

/// Several engines, or all: each task runs on the one with the least to do.
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
