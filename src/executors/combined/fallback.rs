//! Another executor for what the first refuses or loses.

use std::fmt;
use std::sync::Arc;

use super::inside::{Inside, passes_on};
use super::relay::{self, Copy, Errand};
use crate::error::TaskError;
use crate::executors::{Call, Executor, Job};

/// An executor with another behind it: [`fallback`](crate::ExecutorExt::fallback).
pub struct WithFallback<E> {
    inside: Arc<Inside<E>>,
    other: Arc<dyn Executor>,
}

impl<E: Executor + 'static> WithFallback<E> {
    pub(crate) fn new(executor: E, other: impl Executor + 'static) -> Self {
        let other: Arc<dyn Executor> = Arc::new(other);
        Self { inside: Inside::new(executor, Some(other.clone())), other }
    }

    fn errand(&self, job: Job) -> Option<Errand> {
        let other = self.other.clone();
        Errand::of(job, Copy::Kept, move |job, run, outcome| match outcome {
            Err(error) if is_for_another(&error) && !job.is_cancelled() && job.has_call() => {
                let before = run.attempt.0;
                let then = move |job, run, outcome| relay::settle(job, before, run, outcome);
                relay::hand_on(&*other, Errand::of(job, Copy::None, then).into_iter().collect());
            }
            outcome => relay::settle(job, 0, run, outcome),
        })
    }
}

/// Returns whether an executor refused a task, or lost it.
fn is_for_another(error: &TaskError) -> bool {
    matches!(
        error,
        TaskError::Overloaded { .. }
            | TaskError::NoEngines
            | TaskError::UnknownTask { .. }
            | TaskError::NotPortable
            | TaskError::WorkersFailed { .. }
            | TaskError::ShutDown
            | TaskError::EngineLost { .. }
            | TaskError::ExecutorLost { .. }
            | TaskError::Disconnected
    )
}

impl<E: Executor + 'static> Executor for WithFallback<E> {
    fn name(&self) -> &'static str {
        "WithFallback"
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        self.inside.hand_on(calls, |job| self.errand(job));
    }

    passes_on!();
}

impl<E: fmt::Debug> fmt::Debug for WithFallback<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<WithFallback {:?} {:?}>", self.inside.executor, self.other)
    }
}
