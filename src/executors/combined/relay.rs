//! Handing calls on to the executor inside, each with what is to be done with its outcome.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::async_result::{Origin, Promised};
use crate::error::TaskError;
use crate::executors::call::ResultPlace;
use crate::executors::{Call, Executor, Job};
use crate::messages::{Aftermath, Manner, Settle};
use crate::task::{Attempt, Extras, Outcome, Payload, Run, TaskId};

/// What is done with the outcome of a call that was handed on. Runs where the executor inside settles its results, so it is
/// quick and runs no code of the user's.
pub(super) type Then = Box<dyn FnOnce(Job, Run, Outcome) + Send>;

/// A call on its way to the executor inside.
pub(super) struct Errand {
    job: Job,
    call: Payload,
    then: Then,
}

/// Whether a call may be made once more, so that a copy of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    Kept,
    None,
}

impl Errand {
    /// Takes the call out of a job; `None` if nobody waits for it any more.
    pub(super) fn of(job: Job, copy: Copy, then: impl FnOnce(Job, Run, Outcome) + Send + 'static) -> Option<Self> {
        let call = job.take_call()?;
        if copy == Copy::Kept {
            job.keep_copy_of(&call);
        }
        Some(Self { job, call, then: Box::new(then) })
    }
}

/// Hands calls on, together.
pub(super) fn hand_on<E: Executor + ?Sized>(executor: &E, errands: Vec<Errand>) {
    let (mut places, calls): (Vec<Place>, Vec<Payload>) = errands
        .into_iter()
        .map(|Errand { job, call, then }| {
            let promised = job.promised().clone();
            (Place { promised, waits: Some((job, then)), handed_to: None }, call)
        })
        .unzip();
    if places.is_empty() {
        return;
    }
    let calls = calls.into_iter().zip(&mut places).map(|(call, place)| {
        let (kind, weight) = (place.promised.kind(), place.weight());
        Call::relayed(call, kind, weight, place)
    });
    executor.execute(calls.collect());
    places.into_iter().for_each(Place::finish);
}

/// Where the executor inside puts its result: there is none, only what is done with it.
struct Place {
    promised: Arc<Promised>,
    /// Until the executor has made the result.
    waits: Option<(Job, Then)>,
    handed_to: Option<(TaskId, Origin)>,
}

impl Place {
    fn weight(&self) -> u32 {
        self.waits.as_ref().map_or(1, |(job, _)| job.weight())
    }

    /// Sees to what may have happened while the executor took the call.
    fn finish(self) {
        if let Some((job, then)) = self.waits {
            let error = TaskError::Disconnected;
            return then(job, Run::none(&error), Err(error));
        }
        if let Some((id, origin)) = self.handed_to
            && self.promised.is_cancelled()
        {
            // It was cancelled before the executor could know it.
            origin.cancel(id, "it was cancelled on its way".into(), Manner::Ask);
        }
    }
}

impl ResultPlace for Place {
    fn make(&mut self, id: TaskId, _: Option<Arc<Extras>>, origin: Origin) -> Arc<dyn Settle> {
        self.promised.hand_to(id, origin.clone());
        self.handed_to = Some((id, origin));
        Arc::new(Hook(Mutex::new(self.waits.take())))
    }
}

/// The inside of a result that is nobody's: does what is to be done with the outcome. If it is lost, so is the job, whose
/// result settles as `Disconnected`.
struct Hook(Mutex<Option<(Job, Then)>>);

impl Settle for Hook {
    fn settle(&self, _: u32, _: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        let waits = self.0.lock().take();
        if let Some((job, then)) = waits {
            then(job, run, outcome);
        }
        None
    }
}

/// Settles a result by the outcome that came from inside, after so many attempts that came to nothing: under its own id.
pub(super) fn settle(job: Job, before: u32, mut run: Run, mut outcome: Outcome) {
    run.attempt = Attempt(run.attempt.0 + before);
    if let Err(TaskError::Failed { place, .. } | TaskError::Panicked { place, .. }) = &mut outcome {
        (place.task, place.attempt) = (job.id(), Attempt(place.attempt.0 + before));
    }
    job.settle_as(run, outcome);
}
