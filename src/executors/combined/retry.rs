//! Another attempt for what ended without a value.

use std::fmt;
use std::sync::Arc;

use super::Backoff;
use super::inside::{Inside, passes_on};
use super::relay::{self, Copy, Errand};
use super::timer;
use crate::error::TaskError;
use crate::executors::{Call, Executor, Job};
use crate::task::{Outcome, Run, drawn};
use crate::{apart, catch};

/// When a task is tried again: how often, after which errors, and how long after.
///
/// ```
/// use callboard::executors::{Backoff, RetryPolicy};
/// use callboard::TaskError;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::new(5)
///     .backoff(Backoff::new(Duration::from_millis(50), Duration::from_secs(5)))
///     .only(|error| matches!(error, TaskError::EngineLost { .. } | TaskError::Overloaded { .. }));
/// assert_eq!(policy.attempts(), 5);
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    attempts: u32,
    backoff: Backoff,
    only: Option<Only>,
}

/// Tells after which errors.
type Only = Arc<dyn Fn(&TaskError) -> bool + Send + Sync>;

impl RetryPolicy {
    /// Makes at most so many attempts, with the first; at least that one. By default after every error but those that would
    /// come again: what was cancelled, refused for good (`ShutDown`, `UnknownTask`, `NotPortable`) or cannot be coded.
    pub fn new(attempts: u32) -> Self {
        Self { attempts: attempts.max(1), backoff: Backoff::default(), only: None }
    }

    /// Sets how long to wait before another attempt.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets after which errors another attempt is made. What its holder has cancelled is never tried again.
    ///
    /// It is asked on a thread where it may block; if it panics, there is no other attempt.
    pub fn only(mut self, is_to_be_tried_again: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Arc::new(is_to_be_tried_again));
        self
    }

    /// Returns how many attempts are made at most.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns whether an error may be another when the task is tried again.
    fn may_pass(error: &TaskError) -> bool {
        match error {
            TaskError::Failed { .. }
            | TaskError::Panicked { .. }
            | TaskError::TimedOut { .. }
            | TaskError::EngineLost { .. }
            | TaskError::Overloaded { .. }
            | TaskError::NoEngines
            | TaskError::WorkersFailed { .. }
            | TaskError::ExecutorLost { .. }
            | TaskError::Disconnected => true,
            TaskError::Cancelled { .. }
            | TaskError::UnknownTask { .. }
            | TaskError::NotPortable
            | TaskError::Undecodable { .. }
            | TaskError::ShutDown
            | TaskError::AlreadyTaken
            | TaskError::ResultEvicted
            | TaskError::WouldBlock
            | TaskError::NotReady { .. } => false,
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = if self.only.is_some() { "of some" } else { "of all that may pass" };
        write!(f, "<RetryPolicy {} attempts, {errors}, {:?}>", self.attempts, self.backoff)
    }
}

/// An executor that makes other attempts: [`retry`](crate::ExecutorExt::retry).
pub struct Retrying<E> {
    inside: Arc<Inside<E>>,
    policy: Arc<RetryPolicy>,
}

/// One task that may be tried again.
struct Trial<E> {
    inside: Arc<Inside<E>>,
    policy: Arc<RetryPolicy>,
    /// How often it was handed on, with this time.
    tries: u32,
    /// How many attempts the tries before this one had.
    before: u32,
}

impl<E: Executor + 'static> Retrying<E> {
    pub(crate) fn new(executor: E, policy: RetryPolicy) -> Self {
        Self { inside: Inside::new(executor, None), policy: Arc::new(policy) }
    }
}

impl<E: Executor + 'static> Trial<E> {
    fn errand(self, job: Job) -> Option<Errand> {
        let copy = if self.tries < self.policy.attempts { Copy::Kept } else { Copy::None };
        Errand::of(job, copy, move |job, run, outcome| self.on_outcome(job, run, outcome))
    }

    fn on_outcome(self, job: Job, run: Run, outcome: Outcome) {
        let error = match outcome {
            Err(error) if self.tries < self.policy.attempts && !job.is_cancelled() && job.has_call() => error,
            outcome => return relay::settle(job, self.before, run, outcome),
        };
        match self.policy.only.clone() {
            None if RetryPolicy::may_pass(&error) => self.again(job, &run),
            None => relay::settle(job, self.before, run, Err(error)),
            // Code of the user's: not here.
            Some(only) => apart::run(move || match catch::user_code(|| only(&error)) {
                Ok(true) => self.again(job, &run),
                Ok(false) | Err(_) => relay::settle(job, self.before, run, Err(error)),
            }),
        }
    }

    /// Hands it on once more, later.
    fn again(self, job: Job, run: &Run) {
        let random = (drawn() >> 11) as f64 / (1_u64 << 53) as f64;
        let wait = self.policy.backoff.wait(self.tries, random);
        let next = Self { tries: self.tries + 1, before: self.before + run.attempt.0, ..self };
        let inside = next.inside.clone();
        job.wait_again();
        // Also without a wait: an executor that settles in `execute` would be called within itself.
        timer::after(wait, move || {
            let errands = next.errand(job).into_iter().collect();
            relay::hand_on(&inside.executor, errands);
        })
        .leave();
    }
}

impl<E: Executor + 'static> Executor for Retrying<E> {
    fn name(&self) -> &'static str {
        "Retrying"
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        let trial = || Trial { inside: self.inside.clone(), policy: self.policy.clone(), tries: 1, before: 0 };
        self.inside.hand_on(calls, |job| trial().errand(job));
    }

    passes_on!();
}

impl<E: fmt::Debug> fmt::Debug for Retrying<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Retrying {} {:?}>", self.policy.attempts, self.inside.executor)
    }
}
