//! A client's link to its scheduler: makes ids, asks admission, hands tasks over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Addr, Recipient};

use super::with::Options;
use crate::actors::{CallbackCounts, Callbacks, Lane, Questions, Roster, ask};
use crate::admission::Admission;
use crate::async_result::{AsyncMapResult, AsyncResult, Many, One, decode_value, not_decodable};
use crate::error::{Error, TaskError};
use crate::ledger::Request;
use crate::limits::Limits;
use crate::messages::{Aftermath, Cancel, Dispatch, GetState, Manner, Settle, Submission, TakeIn, Waiter};
use crate::task::{
    Chunk, Closure, ErasedTask, Payload, Retries, Span, Target, Task, TaskId, TaskKind, TaskState, drawn,
};
use crate::{apart, catch};

/// What all views of one client share.
pub(crate) struct Link {
    client: u64,
    next_seq: AtomicU64,
    parts: LinkParts,
    /// What lasts as long as the link, where the controller is elsewhere.
    connection: Option<Box<dyn Send + Sync>>,
}

/// Where the actors of a cluster are reached.
#[derive(Clone)]
pub(crate) struct LinkParts {
    pub(crate) limits: Limits,
    pub(crate) submissions: Arc<Lane<Submission>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) cancel: Recipient<Cancel>,
    pub(crate) questions: Questions,
    pub(crate) callbacks: Addr<Callbacks>,
    pub(crate) counts: Arc<CallbackCounts>,
}

/// One call on its way out of a view: everything but the waiter.
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) retries: Retries,
    pub(super) payload: Payload,
    pub(super) kind: &'static TaskKind,
    pub(super) weight: u32,
}

/// The tasks of a map, and the place for their results.
type Begun<T> = (Vec<T>, Arc<Many<<T as Task>::Output>>);

impl Link {
    pub(crate) fn new(parts: LinkParts) -> Arc<Self> {
        Arc::new(Self { client: drawn(), next_seq: AtomicU64::new(0), parts, connection: None })
    }

    /// As `new`, to a controller elsewhere that knows the client by this number.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn connected(parts: LinkParts, client: u64, connection: Box<dyn Send + Sync>) -> Arc<Self> {
        Arc::new(Self { client, next_seq: AtomicU64::new(0), parts, connection: Some(connection) })
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.parts.roster
    }

    pub(crate) fn questions(&self) -> &Questions {
        &self.parts.questions
    }

    /// Says why there is no answer: whoever was asked is gone, or cannot be reached.
    pub(crate) fn gone(&self) -> Error {
        let is_away = self.connection.is_some() && !self.parts.roster.is_closed();
        if is_away { Error::Disconnected } else { Error::ClusterStopped }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.parts.limits.spin()
    }

    pub(crate) fn pending_max(&self) -> usize {
        self.parts.limits.pending_tasks_max
    }

    pub(crate) fn pending_bytes_max(&self) -> usize {
        self.parts.limits.pending_bytes_max
    }

    pub(crate) fn cancel(&self, tasks: Vec<Span>, reason: Box<str>, manner: Manner) {
        let (cancel, message) = (self.parts.cancel.clone(), Cancel { tasks, reason, manner });
        apart::speak(move || cancel.do_send(message));
    }

    /// Asks where a task is; answered with `None` where its outcome tells.
    pub(crate) fn ask_state(
        self: &Arc<Self>,
        task: TaskId,
    ) -> impl Future<Output = Result<Option<TaskState>, Error>> + Send + use<> {
        let (told, link) = (ask(&self.parts.questions.state, GetState { task }), self.clone());
        async move {
            let state = told.await.map_err(|_| link.gone())??;
            // Outcomes that came before the answer are where they belong when this is answered.
            ask(&link.parts.questions.outcomes, TakeIn).await.map_err(|_| link.gone())?;
            Ok(state)
        }
    }

    pub(crate) fn dispatch(&self, aftermath: Aftermath) {
        // If the cluster is gone, the message carries it out as it is dropped: its results are not gone.
        self.parts.callbacks.do_send(Dispatch { batch: vec![aftermath] });
    }

    pub(crate) fn on_undeliverable(&self) {
        self.parts.counts.on_undeliverable();
    }

    /// Counts one more callback.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there are too many already.
    pub(crate) fn count_callback(&self) -> Result<(), Error> {
        let limit = self.parts.limits.callbacks_pending_max;
        if self.parts.counts.try_register(limit) { Ok(()) } else { Err(Error::Overloaded { what: "callbacks", limit }) }
    }

    /// Submits one task; settles its result at once if it is refused.
    pub(super) fn apply<T: Task>(
        self: &Arc<Self>,
        target: Target,
        retries: Retries,
        options: &Options,
        task: T,
    ) -> AsyncResult<T::Output> {
        let one = One::new(self.next_id(), T::kind(), options.extras.clone(), decode_value);
        let call = Call::of(target, retries, task);
        self.submit_one(one, options, call)
    }

    /// As `apply`, for a closure.
    pub(super) fn apply_fn<F, R>(self: &Arc<Self>, target: Target, options: &Options, closure: F) -> AsyncResult<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let task: Box<dyn ErasedTask> = Box::new(Closure(closure));
        let kind = task.kind();
        let one = One::new(self.next_id(), kind, options.extras.clone(), not_decodable);
        let weight = weight_of(size_of::<F>());
        // A closure can be called only once.
        let call = Call { target, retries: Retries::default(), payload: Payload::Typed(task), kind, weight };
        self.submit_one(one, options, call)
    }

    /// Submits one task as soon as admission lets it in.
    pub(super) async fn apply_when_admitted<T: Task>(
        self: &Arc<Self>,
        target: Target,
        retries: Retries,
        options: &Options,
        task: T,
    ) -> AsyncResult<T::Output> {
        let one = One::new(self.next_id(), T::kind(), options.extras.clone(), decode_value);
        let call = Call::of(target, retries, task);
        self.parts.admission.admit(call.weight).await;
        self.hand_over([self.submission(one.clone(), 0, options, call)]);
        AsyncResult::new(one, self.clone())
    }

    fn submit_one<T: Send + 'static>(
        self: &Arc<Self>,
        one: Arc<One<T>>,
        options: &Options,
        call: Call,
    ) -> AsyncResult<T> {
        match self.try_admit(1, call.weight) {
            Ok(()) => self.hand_over([self.submission(one.clone(), 0, options, call)]),
            Err(error) => {
                one.refuse(error);
                catch::discard(call.payload);
            }
        }
        AsyncResult::new(one, self.clone())
    }

    pub(crate) fn try_admit(&self, count: u32, weight: u32) -> Result<(), TaskError> {
        self.parts.admission.try_admit(count, weight)
    }

    /// Puts a call and its waiter together.
    pub(super) fn submission(
        &self,
        result: Arc<impl Settle + Identified + 'static>,
        index: u32,
        options: &Options,
        call: Call,
    ) -> Submission {
        let count = call.payload.count();
        let request = Request {
            id: result.id_at(index),
            kind: call.kind,
            payload: call.payload,
            target: call.target,
            retries: call.retries,
            extras: options.extras.clone(),
        };
        Submission { request, weight: call.weight, waiter: Some(Waiter::new(result, index, count)) }
    }

    /// Makes the tasks of a map, and the place for their results; a refused result if they are more than one map
    /// may have.
    pub(super) fn begin_map<T: Task, I>(
        self: &Arc<Self>,
        f: impl FnMut(I) -> T,
        items: impl IntoIterator<Item = I>,
        options: &Options,
    ) -> Result<Begun<T>, AsyncMapResult<T::Output>> {
        let tasks: Vec<T> = items.into_iter().map(f).collect();
        if let Ok(len) = u32::try_from(tasks.len()) {
            let many = self.many::<T>(len, options);
            return Ok((tasks, many));
        }
        let many = self.many::<T>(1, options);
        many.refuse(0, 1, TaskError::Overloaded { what: "items of one map", limit: u32::MAX as usize });
        Err(AsyncMapResult::new(many, self.clone()))
    }

    pub(super) fn many<T: Task>(&self, len: u32, options: &Options) -> Arc<Many<T::Output>> {
        Many::new(self.next_ids(len), len, T::kind(), options.extras.clone(), decode_value)
    }

    /// Submits the tasks of one result, in its order; settles at once what is refused.
    pub(super) fn submit_many<T: Send + 'static>(
        &self,
        many: &Arc<Many<T>>,
        options: &Options,
        calls: impl IntoIterator<Item = Call>,
    ) {
        let mut index = 0;
        let mut submissions = Vec::new();
        for call in calls {
            let count = call.payload.count();
            match self.try_admit(count, call.weight) {
                Ok(()) => submissions.push(self.submission(many.clone(), index, options, call)),
                Err(error) => {
                    many.refuse(index, count, error);
                    catch::discard(call.payload);
                }
            }
            index += count;
        }
        self.hand_over(submissions);
    }

    /// Waits until admission lets some of these tasks in; returns how many it did, from the first on.
    pub(super) async fn admit_some<T: Task>(&self, tasks: &[T]) -> usize {
        let weights: Vec<u32> = tasks.iter().map(|task| weight_of(task.size_hint())).collect();
        self.parts.admission.admit_some(&weights).await
    }

    pub(crate) fn hand_over(&self, submissions: impl IntoIterator<Item = Submission>) {
        if let Err(refused) = self.parts.submissions.push(submissions) {
            // The cluster is gone: dropping the waiters settles them.
            // Each by itself: a second panic while one unwinds would end the process.
            refused.into_iter().for_each(catch::discard);
        }
    }

    pub(crate) fn next_id(&self) -> TaskId {
        self.next_ids(1)
    }

    /// Returns the first of `count` new ids.
    pub(super) fn next_ids(&self, count: u32) -> TaskId {
        TaskId { client: self.client, seq: self.next_seq.fetch_add(count.into(), Ordering::Relaxed) }
    }
}

impl Call {
    pub(super) fn of<T: Task>(target: Target, retries: Retries, task: T) -> Self {
        let weight = weight_of(task.size_hint());
        Self { target, retries, payload: Payload::of(task), kind: T::kind(), weight }
    }

    /// One call of many items.
    pub(super) fn of_many<T: Task>(target: Target, retries: Retries, tasks: Vec<T>) -> Self {
        // At least 1 for each, as for single tasks.
        let weight = tasks.iter().map(|task| weight_of(task.size_hint())).fold(0, u32::saturating_add);
        let payload = Payload::Typed(Box::new(Chunk::new(tasks)));
        Self { target, retries, payload, kind: T::kind(), weight }
    }
}

/// A result that knows the ids of its tasks.
pub(crate) trait Identified {
    fn id_at(&self, index: u32) -> TaskId;
}

/// What admission counts for a call: its bytes, at least 1, at most 4 GiB.
pub(crate) fn weight_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).max(1)
}
