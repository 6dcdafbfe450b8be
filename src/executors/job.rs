//! A call with the promise of its result: what an executor hands to its threads, or sends elsewhere.

use std::fmt;
use std::sync::Arc;

#[cfg(all(unix, feature = "dask"))]
use crate::async_result::OnCancel;
use crate::async_result::Promised;
use crate::attempt;
use crate::catch::{self, user_code};
use crate::error::{Coded, TaskError};
use crate::messages::Manner;
#[cfg(all(unix, feature = "dask"))]
use crate::task::{Attempt, Moment};
use crate::task::{Outcome, Payload, Run, TaskContext, TaskId, TaskKind, WireCall};

/// A call that was taken: [`run`](Self::run) it on a thread of one's own, or [`encode`](Self::encode) it, have it
/// run elsewhere and [`settle`](Self::settle) it.
///
/// Its result may be cancelled meanwhile, and settles at once then; arguments that nobody took out are freed.
///
/// ```
/// use callboard::executors::Job;
/// use callboard::task::{Outcome, WireCall};
///
/// /// Sends a job elsewhere and brings back how it ended.
/// fn send(job: Job, elsewhere: impl FnOnce(WireCall) -> Outcome) {
///     match job.encode() {
///         Ok(call) => {
///             job.free_arguments();
///             if job.start() {
///                 job.settle(elsewhere(call));
///             }
///         }
///         Err(error) => job.settle(Err(error)),
///     }
/// }
/// ```
///
/// A job that is dropped settles its result as [`TaskError::Disconnected`].
#[must_use = "dropping it settles the result as an error"]
pub struct Job {
    promised: Arc<Promised>,
    weight: u32,
}

impl Job {
    pub(super) fn new(promised: Arc<Promised>, weight: u32) -> Self {
        Self { promised, weight }
    }

    /// Returns the task's id.
    pub fn id(&self) -> TaskId {
        self.promised.id()
    }

    /// Returns what is known of the function.
    pub fn kind(&self) -> &'static TaskKind {
        self.promised.kind()
    }

    /// Returns about how many bytes the call holds, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn promised(&self) -> &Arc<Promised> {
        &self.promised
    }

    /// Takes the call out to hand it on; `None` if nobody waits for it any more.
    pub(super) fn take_call(&self) -> Option<Payload> {
        self.promised.take_call()
    }

    /// Keeps a copy of the call for another time.
    pub(super) fn keep_copy_of(&self, call: &Payload) {
        if let Some(copy) = call.second_copy() {
            self.promised.put_back(copy);
        }
    }

    /// Returns whether there is a call to hand on.
    pub(super) fn has_call(&self) -> bool {
        self.promised.has_call()
    }

    /// Notes that the call has ended where it was handed on or sent to, and waits for another attempt.
    pub(crate) fn wait_again(&self) {
        self.promised.wait_again();
    }

    /// Gives the outcome, with the record of whoever ran the call.
    pub(super) fn settle_as(self, run: Run, outcome: Outcome) {
        self.promised.settle_as(run, outcome);
    }

    /// Settles the result as cancelled, as its holder may.
    pub(super) fn cancel(&self, reason: &str) {
        self.promised.cancel(reason.into(), Manner::Ask);
    }

    /// Returns whether the result was cancelled: nobody waits for the outcome any more.
    pub fn is_cancelled(&self) -> bool {
        self.promised.is_cancelled()
    }

    /// Notes that the call is made now, for the record; returns false if nobody waits for it any more.
    ///
    /// [`run`](Self::run) does it itself.
    pub fn start(&self) -> bool {
        self.promised.start()
    }

    /// Returns a context whose `is_cancelled` and `cancelled` follow the result.
    pub fn context(&self) -> TaskContext {
        self.promised.context()
    }

    /// Runs the call here and now, and settles its result. A panic of the task's goes no further.
    ///
    /// Does nothing if the result was cancelled.
    pub fn run(self) {
        self.run_then(|| ());
    }

    /// As `run`; between the outcome and its publication does what whoever waits for it must find done.
    pub(super) fn run_then(self, before_it_settles: impl FnOnce()) {
        if !self.start() {
            return;
        }
        let outcome = match self.promised.take_call() {
            Some(Payload::Typed(task)) => attempt::make(task, &self.promised.context()),
            Some(Payload::Wire(_)) => {
                Err(TaskError::undecodable(Coded::Arguments, self.kind().name, "they are encoded already"))
            }
            // Cancelled since; or the arguments were freed, and dropping the job says so.
            None => return,
        };
        before_it_settles();
        self.settle(outcome);
    }

    /// Encodes the arguments. Runs code of the user's; a panic in it is an error.
    ///
    /// # Errors
    /// [`TaskError::NotPortable`] if the call cannot leave this process, [`TaskError::Undecodable`] if the codec
    /// refuses, [`TaskError::Cancelled`] if nobody waits for it any more, or its arguments were freed.
    pub fn encode(&self) -> Result<WireCall, TaskError> {
        // Taken out meanwhile, so that no lock is held while code of the user's runs.
        let Some(call) = self.promised.take_call() else {
            return Err(TaskError::Cancelled { reason: "nobody waits for it any more".into() });
        };
        let refused = |reason: &str| Err(TaskError::undecodable(Coded::Arguments, self.kind().name, reason));
        let encoded = match &call {
            Payload::Wire(wire) => Ok((**wire).clone()),
            Payload::Typed(task) => match user_code(|| task.encode()) {
                Ok(Some(Ok(wire))) => Ok(wire),
                Ok(Some(Err(error))) => refused(&error.to_string()),
                Ok(None) => Err(TaskError::NotPortable),
                Err(message) => refused(&message),
            },
        };
        self.promised.put_back(call);
        encoded
    }

    /// Frees the arguments: they were encoded, and no other attempt is made from here.
    pub fn free_arguments(&self) {
        catch::discard(self.promised.take_call());
    }

    /// Has a cancel settle nothing from now on, and call this instead: the task is elsewhere. Returns false if nobody waits any more.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn on_cancel(&self, on_cancel: OnCancel) -> bool {
        self.promised.on_cancel(on_cancel)
    }

    /// Notes that the call was sent elsewhere, to begin there.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn on_sent(&self) {
        self.promised.on_sent();
    }

    /// Notes when this execution began, elsewhere.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn started(&self, at: Moment, attempt: Attempt) {
        self.promised.started(at, attempt);
    }

    /// As [`settle`](Self::settle), by one of several who have it.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn give(&self, outcome: Outcome) {
        self.promised.settle(outcome);
    }

    /// Gives the outcome: a value as it is or as bytes, or why there is none. Late ones are dropped.
    pub fn settle(self, outcome: Outcome) {
        self.promised.settle(outcome);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.promised.settle(Err(TaskError::Disconnected));
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Job {}>", self.kind().short_name())
    }
}
