//! One engine.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::with::{HasOptions, OptionsCell};
use crate::async_result::AsyncResult;
use crate::task::{EngineId, Target, Task};

/// One engine: each task runs there and nowhere else, in the order of submission. `rc[i]` in ipyparallel.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(2).start()?;
/// let one = cluster.client().engine(-1)?;
/// let ar = one.apply(square(5));
/// assert_eq!((ar.get()?, ar.metadata().engine), (25, Some(one.id())));
/// let text = one.apply_fn(|| "a closure, in this process".to_string());
/// assert_eq!(text.get()?.len(), 26);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone)]
pub struct EngineView {
    pub(super) link: Arc<Link>,
    pub(super) engine: EngineId,
    pub(super) options: OptionsCell,
}

impl EngineView {
    pub(crate) fn new(link: Arc<Link>, engine: EngineId) -> Self {
        Self { link, engine, options: OptionsCell::default() }
    }

    /// Returns the engine's id.
    pub fn id(&self) -> EngineId {
        self.engine
    }

    /// Has the engine run a task.
    ///
    /// Refused tasks settle at once: as `Overloaded` beyond the limits, as `EngineLost` if the engine has
    /// left, as `Disconnected` if the cluster was shut down.
    pub fn apply<T: Task>(&self, task: T) -> AsyncResult<T::Output> {
        let options = &self.options.0;
        self.link.apply(Target::One(self.engine), options.retries_bound(), options, task)
    }

    /// As [`apply`](Self::apply), but waits for room where too much is pending.
    pub async fn apply_when_admitted<T: Task>(&self, task: T) -> AsyncResult<T::Output> {
        let options = &self.options.0;
        self.link.apply_when_admitted(Target::One(self.engine), options.retries_bound(), options, task).await
    }

    /// Has the engine run a plain closure; settles as `NotPortable` if it is not an engine of this process.
    ///
    /// A closure is called once: `retries` do not apply.
    pub fn apply_fn<F, R>(&self, closure: F) -> AsyncResult<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.link.apply_fn(Target::One(self.engine), &self.options.0, closure)
    }
}

impl HasOptions for EngineView {
    fn options_mut(&mut self) -> &mut OptionsCell {
        &mut self.options
    }
}

impl fmt::Debug for EngineView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<EngineView {}>", self.engine)
    }
}
