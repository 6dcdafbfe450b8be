//! A call on its way into an executor: the task, and the place where its result is to be put.

use std::fmt;
use std::sync::Arc;

use super::Job;
use crate::async_result::{AsyncResult, One, Origin, Promised, decode_value};
use crate::catch;
use crate::error::TaskError;
use crate::messages::{Settle, Waiter};
use crate::task::{Extras, Payload, Run, Task, TaskId, TaskKind};
use crate::views::weight_of;

/// One call that an [`Executor`](super::Executor) is asked to make.
///
/// ```
/// use callboard::executors::{Call, Job};
/// use callboard::TaskError;
///
/// /// Takes small calls only.
/// fn take(call: Call<'_>) -> Option<Job> {
///     if call.weight() > 1 << 20 {
///         call.refuse(TaskError::Overloaded { what: "bytes", limit: 1 << 20 });
///         return None;
///     }
///     Some(call.into_job())
/// }
/// ```
pub struct Call<'a> {
    payload: Payload,
    kind: &'static TaskKind,
    weight: u32,
    place: &'a mut dyn ResultPlace,
}

/// Where the result of a call is put: it has a type, which executors do not know.
pub(crate) trait ResultPlace {
    /// Makes the result, keeps it, and returns its inside.
    fn make(&mut self, id: TaskId, extras: Option<Arc<Extras>>, origin: Origin) -> Arc<dyn Settle>;
}

/// The place for the result of a task `T`.
pub(super) struct ResultOf<T: Task>(Option<AsyncResult<T::Output>>);

impl<T: Task> ResultOf<T> {
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// Returns the result; a refused one if the executor lost the call.
    pub(super) fn into_result(mut self) -> AsyncResult<T::Output> {
        match self.0.take() {
            Some(result) => result,
            None => {
                settle_at_once(&mut self, T::kind(), TaskError::Disconnected);
                self.0.expect("settling it put it there")
            }
        }
    }
}

impl<T: Task> ResultPlace for ResultOf<T> {
    fn make(&mut self, id: TaskId, extras: Option<Arc<Extras>>, origin: Origin) -> Arc<dyn Settle> {
        let one = One::new(id, T::kind(), extras, decode_value);
        self.0 = Some(AsyncResult::new(one.clone(), origin));
        one
    }
}

impl<'a> Call<'a> {
    pub(super) fn new<T: Task>(task: T, place: &'a mut ResultOf<T>) -> Self {
        let weight = weight_of(task.size_hint());
        Self { payload: Payload::of(task), kind: T::kind(), weight, place }
    }

    /// Makes one of a call that another executor took.
    pub(super) fn relayed(
        payload: Payload,
        kind: &'static TaskKind,
        weight: u32,
        place: &'a mut dyn ResultPlace,
    ) -> Self {
        Self { payload, kind, weight, place }
    }

    /// Returns what is known of the function.
    pub fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    /// Returns about how many bytes the call holds, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Makes the result, to be settled by the job that this returns.
    ///
    /// Usually by [`InFlight::admit`](super::InFlight::admit), which also knows of the shutdown.
    pub fn into_job(self) -> Job {
        self.into_job_watched(|_, _, result| Waiter::new(result, 0, 1))
    }

    /// As `into_job`, with a waiter around the result.
    pub(super) fn into_job_watched(self, watch: impl FnOnce(TaskId, Origin, Arc<dyn Settle>) -> Waiter) -> Job {
        let id = TaskId::of_process();
        let promised = Promised::new(id, self.kind, Some(self.payload));
        let origin = Origin::Promise(promised.clone());
        let result = self.place.make(id, None, origin.clone());
        promised.watch(watch(id, origin, result));
        Job::new(promised, self.weight)
    }

    /// Settles the result at once: the call is not made.
    pub fn refuse(self, error: TaskError) {
        settle_at_once(self.place, self.kind, error);
        catch::discard(self.payload);
    }

    /// As `refuse`, for a result that belongs to a cluster.
    pub(super) fn refuse_as(self, id: TaskId, extras: Option<Arc<Extras>>, origin: Origin, error: TaskError) {
        let result = self.place.make(id, extras, origin);
        settle_new(&*result, error);
        catch::discard(self.payload);
    }

    /// Makes the result, to be settled by a cluster.
    pub(super) fn bind(self, id: TaskId, extras: Option<Arc<Extras>>, origin: Origin) -> (Payload, Arc<dyn Settle>) {
        let result = self.place.make(id, extras, origin);
        (self.payload, result)
    }
}

/// Makes a result of nobody's, settled.
fn settle_at_once(place: &mut dyn ResultPlace, kind: &'static TaskKind, error: TaskError) {
    let id = TaskId::of_process();
    let result = place.make(id, None, Origin::Promise(Promised::new(id, kind, None)));
    settle_new(&*result, error);
}

/// Settles a result that nobody else has yet, so that there is nothing left to do.
fn settle_new(result: &dyn Settle, error: TaskError) {
    drop(result.settle(0, 1, Run::none(&error), Err(error)));
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Call {}>", self.kind.short_name())
    }
}
