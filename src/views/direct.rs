//! Several engines, each of which gets every call.

use std::fmt;
use std::sync::Arc;

use super::link::{Call, Link};
use super::with::{HasOptions, OptionsCell};
use crate::async_result::{AsyncMapResult, Many, decode_value};
use crate::catch;
use crate::error::TaskError;
use crate::task::{EngineId, Target, Task};

/// Several engines, each of which runs every task that the view is given. `rc[:]` in ipyparallel.
#[derive(Clone)]
pub struct DirectView {
    pub(super) link: Arc<Link>,
    pub(super) engines: Arc<[EngineId]>,
    pub(super) options: OptionsCell,
}

impl DirectView {
    pub(crate) fn new(link: Arc<Link>, engines: Arc<[EngineId]>) -> Self {
        Self { link, engines, options: OptionsCell::default() }
    }

    /// Returns the engines, in the order of the results.
    pub fn targets(&self) -> &[EngineId] {
        &self.engines
    }

    /// Has every engine run the task: one value per engine, in the order of [`targets`](Self::targets).
    ///
    /// A view without engines refuses: the result is settled at once, with `NoEngines`.
    pub fn apply<T: Task>(&self, task: T) -> AsyncMapResult<T::Output> {
        let options = &self.options.0;
        let places = self.engines.len().max(1);
        let ids = (0..places).map(|_| self.link.next_id()).collect();
        let many = Many::new(ids, T::kind(), options.extras.clone(), decode_value);
        if self.engines.is_empty() {
            many.refuse(0, TaskError::NoEngines);
        }
        let mut submissions = Vec::with_capacity(self.engines.len());
        let tasks = std::iter::repeat_n(task, self.engines.len());
        for (index, (&engine, task)) in self.engines.iter().zip(tasks).enumerate() {
            let call = Call::of(Target::One(engine), options.retries_bound(), task);
            match self.link.try_admit(call.weight) {
                Ok(()) => submissions.push(self.link.submission(many.clone(), index as u32, options, call)),
                Err(error) => {
                    many.refuse(index, error);
                    catch::discard(call.payload);
                }
            }
        }
        self.link.hand_over(submissions);
        AsyncMapResult::new(many, self.link.clone())
    }
}

impl HasOptions for DirectView {
    fn options_mut(&mut self) -> &mut OptionsCell {
        &mut self.options
    }
}

impl fmt::Debug for DirectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<DirectView {:?}>", self.engines)
    }
}
