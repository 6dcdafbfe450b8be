//! One task that has no outcome: whether it is with Dask, as which attempt, and whether another one may follow.
//!
//! An attempt ends with its engine, and another is made from here: the task is submitted once more, with the next number. Dask
//! by itself may begin one that was submitted more than once, where a worker is lost or by `retries`; it tells nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::admission::Place;
use crate::error::TaskError;
use crate::executors::Job;
use crate::messages::Manner;
use crate::task::{Attempt, Moment, Outcome};

/// Who makes a task again whose engine was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It is submitted again, as often as its kind says.
    AfterLosses,
    /// Dask counts, whatever ended the attempt before.
    ByDask,
}

/// What becomes of a task whose engine was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is to be submitted again.
    Again,
    /// It settles.
    End,
}

pub(super) struct Entry {
    pub(super) job: Arc<Job>,
    pub(super) is_sent: bool,
    /// It is to be given up, and why.
    pub(super) cancelled: Option<(Box<str>, Manner)>,
    /// Its call, as long as it may be submitted again.
    pub(super) copy: Option<Bytes>,
    /// How many more engines it may cost.
    losses_left: u16,
    /// As what it was submitted last; Dask may have begun it more than once.
    submitted_as: Attempt,
    /// How many executions are known to have begun, and the process of the last, if that lives.
    begun: (u32, Option<u32>),
    /// Given back before the outcome: whoever then submits finds room.
    place: Place,
}

impl Entry {
    pub(super) fn new(job: Arc<Job>, place: Place, again: Again) -> Self {
        let losses_left = if again == Again::AfterLosses { job.kind().usual_losses() } else { 0 };
        let (submitted_as, begun) = (Attempt(0), (0, None));
        Self { job, is_sent: false, cancelled: None, copy: None, losses_left, submitted_as, begun, place }
    }

    /// Notes that it is about to be submitted, by this call; returns as which attempt.
    pub(super) fn on_sent(&mut self, call: &Bytes) -> Attempt {
        self.is_sent = true;
        self.copy = (self.losses_left > 0).then(|| call.clone());
        self.submitted_as = Attempt(self.begun.0 + 1);
        self.job.on_sent();
        self.submitted_as
    }

    /// Notes that an execution of what was submitted as this has begun, in this process.
    pub(super) fn on_running(&mut self, submitted_as: Attempt, pid: u32) {
        // Of one whose engine was lost since it may be told late.
        if submitted_as == self.submitted_as && self.is_sent {
            self.begun = (self.begun.0 + 1, Some(pid));
            self.job.started(Moment::now(), Attempt(self.begun.0));
        }
    }

    /// Notes that an execution in this process has ended, which may not have been told to have begun; returns which it was.
    pub(super) fn on_end(&mut self, pid: u32, ran: Option<Duration>) -> Attempt {
        let is_known = self.begun.1 == Some(pid);
        if !is_known {
            self.begun = (self.begun.0 + 1, Some(pid));
        }
        let attempt = Attempt(self.begun.0);
        if let Some(ran) = ran {
            self.job.started(Moment::now().before(ran), attempt);
        } else if !is_known {
            self.job.started(Moment::now(), attempt);
        }
        attempt
    }

    /// Notes that its engine has ended, of this process, or could not be started, of none; returns which attempt was the last, and
    /// what becomes of it.
    pub(super) fn on_engine_lost(&mut self, pid: u32) -> (Attempt, Next) {
        if pid == 0 {
            // Where it could not be started, it would not be the next time.
            return (Attempt(self.begun.0), Next::End);
        }
        let attempt = self.on_end(pid, None);
        if self.losses_left == 0 || self.cancelled.is_some() {
            return (attempt, Next::End);
        }
        self.losses_left -= 1;
        self.begun.1 = None;
        self.is_sent = false;
        self.job.wait_again();
        (attempt, Next::Again)
    }

    /// Settles the task; as cancelled, if it was cancelled.
    pub(super) fn settle(self, outcome: Outcome) {
        let Self { job, cancelled, place, .. } = self;
        drop(place);
        match cancelled {
            Some((reason, _)) => {
                crate::catch::discard(outcome);
                job.give(Err(TaskError::Cancelled { reason }));
            }
            None => job.give(outcome),
        }
    }
}
