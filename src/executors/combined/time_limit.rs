//! A time limit for every task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::inside::{Inside, passes_on};
use super::relay::{self, Copy, Errand};
use super::timer;
use crate::error::TaskError;
use crate::executors::{Call, Executor, Job};

/// An executor whose tasks are given up when their time is up: [`timeout`](crate::ExecutorExt::timeout).
pub struct TimeLimited<E> {
    inside: Arc<Inside<E>>,
    limit: Duration,
}

impl<E: Executor + 'static> TimeLimited<E> {
    pub(crate) fn new(executor: E, limit: Duration) -> Self {
        Self { inside: Inside::new(executor, None), limit }
    }

    fn errand(&self, job: Job) -> Option<Errand> {
        let (promised, deadline) = (job.promised().clone(), self.limit);
        let alarm = timer::after(self.limit, move || promised.give_up(TaskError::TimedOut { deadline }));
        Errand::of(job, Copy::None, move |job, run, outcome| {
            drop(alarm);
            relay::settle(job, 0, run, outcome);
        })
    }
}

impl<E: Executor + 'static> Executor for TimeLimited<E> {
    fn name(&self) -> &'static str {
        "TimeLimited"
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        self.inside.hand_on(calls, |job| self.errand(job));
    }

    passes_on!();
}

impl<E: fmt::Debug> fmt::Debug for TimeLimited<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<TimeLimited {:?} {:?}>", self.limit, self.inside.executor)
    }
}
