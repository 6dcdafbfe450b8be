//! What is promised outside of a cluster: one outcome, given by whoever holds the promise or by a cancel,
//! whichever comes first.
//!
//! Without the type of the value. A [`Promise`](crate::Promise) and a [`Job`](crate::executors::Job) are its
//! owners; results and executors share it to cancel.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Origin;
use crate::actors::Dispatcher;
use crate::catch;
use crate::error::TaskError;
use crate::messages::{Manner, Waiter};
use crate::task::{
    Attempt, CancelFlag, Moment, Outcome, Payload, Run, Status, TaskContext, TaskId, TaskKind, TaskState, drawn,
};

/// Has whoever runs a task elsewhere give it up. The task settles when that is done.
pub(crate) type OnCancel = Arc<dyn Fn(TaskId, Box<str>, Manner) + Send + Sync>;

/// The shared inside of a promise.
pub(crate) struct Promised {
    id: TaskId,
    kind: &'static TaskKind,
    cancel: Arc<CancelFlag>,
    state: Mutex<State>,
}

/// Who knows where the promised work is.
pub(super) enum Knows {
    /// It is known here; `None` if it has an outcome.
    State(Option<TaskState>),
    /// Whom it was handed on to.
    Other(TaskId, Origin),
}

/// What of a promise is left to be kept.
#[derive(Default)]
struct State {
    /// Who gets the outcome; `None` once it was given.
    waiter: Option<Waiter>,
    /// The call whose value is promised, until somebody runs it.
    call: Option<Payload>,
    started: Option<Moment>,
    /// Whom the call was handed on to, to be run there. Stays when the outcome was given: it may run on.
    handed_to: Option<Box<(TaskId, Origin)>>,
    /// It was handed on or sent to somebody, has ended there, and has not begun again.
    waits_again: bool,
    /// It was sent elsewhere, to begin there.
    #[cfg(all(unix, feature = "dask"))]
    is_sent: bool,
    /// Which execution began last, or 0.
    attempt: u32,
    /// `None` if a cancel settles it at once.
    on_cancel: Option<OnCancel>,
}

/// What was left to be settled, taken out.
struct Left {
    waiter: Option<Waiter>,
    call: Option<Payload>,
    started: Option<Moment>,
    attempt: Attempt,
}

impl TaskId {
    /// Makes the id of a task that no cluster's client submits.
    pub(crate) fn of_process() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(drawn);
        static NEXT_SEQ: AtomicU64 = AtomicU64::new(0);
        Self { client: *PROCESS, seq: NEXT_SEQ.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Promised {
    /// Makes a promise that nobody waits for yet.
    pub(crate) fn new(id: TaskId, kind: &'static TaskKind, call: Option<Payload>) -> Arc<Self> {
        let state = Mutex::new(State { call, ..State::default() });
        Arc::new(Self { id, kind, cancel: Arc::default(), state })
    }

    /// Names who waits. Before anybody else has the promise.
    pub(crate) fn watch(&self, waiter: Waiter) {
        self.state.lock().waiter = Some(waiter);
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    /// Notes that the work begins; false if nobody waits for it any more.
    pub(crate) fn start(&self) -> bool {
        let mut state = self.state.lock();
        state.started.get_or_insert_with(Moment::now);
        state.attempt = state.attempt.max(1);
        state.waiter.is_some()
    }

    /// Notes when this execution began, somewhere else.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn started(&self, at: Moment, attempt: Attempt) {
        let mut state = self.state.lock();
        (state.started, state.attempt, state.waits_again) = (Some(at), attempt.0, false);
    }

    /// Has a cancel settle nothing from now on, and call this instead; returns false if nobody waits any more.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn on_cancel(&self, on_cancel: OnCancel) -> bool {
        let mut state = self.state.lock();
        state.on_cancel = Some(on_cancel);
        state.waiter.is_some()
    }

    /// Returns whether the work has begun, or may have where it was handed on to.
    pub(crate) fn has_started(&self) -> bool {
        let state = self.state.lock();
        let (started, handed_to) = (state.started.is_some(), state.handed_to.clone());
        drop(state);
        started || handed_to.is_some_and(|handed_to| handed_to.1.may_have_started())
    }

    /// Returns where the work is, or who knows.
    pub(super) fn whereabouts(&self) -> Knows {
        let state = self.state.lock();
        let known = match &state.handed_to {
            _ if state.waiter.is_none() => None,
            Some(_) if state.waits_again => Some(TaskState::Queued),
            Some(handed_to) => return Knows::Other(handed_to.0, handed_to.1.clone()),
            None if state.started.is_some() && !state.waits_again => Some(TaskState::Running { engine: None }),
            #[cfg(all(unix, feature = "dask"))]
            None if state.is_sent => Some(TaskState::Sent { engine: None }),
            None => Some(TaskState::Queued),
        };
        Knows::State(known)
    }

    /// Notes that the call was sent elsewhere, to begin there.
    #[cfg(all(unix, feature = "dask"))]
    pub(crate) fn on_sent(&self) {
        self.state.lock().is_sent = true;
    }

    /// Notes whom the call was handed on to.
    pub(crate) fn hand_to(&self, id: TaskId, origin: Origin) {
        let mut state = self.state.lock();
        state.waits_again = false;
        let before = state.handed_to.replace(Box::new((id, origin)));
        drop(state);
        drop(before);
    }

    /// Notes that the call has ended where it was handed on or sent to, and waits for another attempt.
    pub(crate) fn wait_again(&self) {
        let mut state = self.state.lock();
        state.waits_again = true;
        #[cfg(all(unix, feature = "dask"))]
        {
            state.is_sent = false;
        }
    }

    /// Returns whether the call is here, to be run or handed on.
    pub(crate) fn has_call(&self) -> bool {
        self.state.lock().call.is_some()
    }

    /// Takes the call out, to run or to encode it.
    pub(crate) fn take_call(&self) -> Option<Payload> {
        self.state.lock().call.take()
    }

    /// Puts the call back; drops it if nobody waits any more.
    pub(crate) fn put_back(&self, call: Payload) {
        let mut state = self.state.lock();
        let unwanted = if state.waiter.is_some() { state.call.replace(call) } else { Some(call) };
        drop(state);
        catch::discard(unwanted);
    }

    /// Gives the outcome. A second one is dropped here; returns whether it was the first.
    pub(crate) fn settle(&self, outcome: Outcome) -> bool {
        let status = outcome.as_ref().err().map_or(Status::Done, TaskError::status);
        self.settle_with(|started, attempt| run_of(status, started, attempt), outcome)
    }

    /// As `settle`, with the record of whoever ran the call.
    pub(crate) fn settle_as(&self, run: Run, outcome: Outcome) -> bool {
        self.settle_with(|_, _| run, outcome)
    }

    fn settle_with(&self, run: impl FnOnce(Option<Moment>, Attempt) -> Run, outcome: Outcome) -> bool {
        let mut state = self.state.lock();
        let left = state.take_left();
        // What was cancelled may run on elsewhere, and be ended by force yet.
        let on_cancel = if self.is_cancelled() { None } else { state.on_cancel.take() };
        drop(state);
        drop(on_cancel);
        left.settle(run, outcome)
    }

    /// Settles as cancelled, at once, and asks what runs to stop, wherever that is; returns false if it was settled. What whoever
    /// runs it gives up by itself settles when that is done.
    pub(crate) fn cancel(&self, reason: Box<str>, manner: Manner) -> bool {
        let mut state = self.state.lock();
        let Some(on_cancel) = state.on_cancel.clone() else {
            // Under the same lock, or whoever would be asked from now on might settle it as something else.
            let left = state.take_left();
            drop(state);
            return self.end(left, TaskError::Cancelled { reason: reason.clone() }, reason, manner);
        };
        let is_pending = state.waiter.is_some();
        drop(state);
        self.cancel.request();
        on_cancel(self.id, reason, manner);
        is_pending
    }

    /// As `cancel`, but settles as `error`.
    pub(crate) fn give_up(&self, error: TaskError) {
        let reason = error.to_string().into();
        let left = self.state.lock().take_left();
        self.end(left, error, reason, Manner::Ask);
    }

    fn end(&self, left: Left, error: TaskError, reason: Box<str>, manner: Manner) -> bool {
        self.cancel.request();
        let was_pending = left.settle(|started, attempt| run_of(error.status(), started, attempt), Err(error.clone()));
        // Also where it was settled before: by force, what runs on is ended.
        let handed_to = self.state.lock().handed_to.clone();
        if let Some((id, origin)) = handed_to.map(|handed_to| *handed_to) {
            origin.cancel(id, reason, manner);
        }
        was_pending
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_requested()
    }

    /// Makes the context in which the promised work runs.
    pub(crate) fn context(&self) -> TaskContext {
        TaskContext {
            task: self.id,
            engine: None,
            attempt: Attempt(1),
            label: None,
            cancel: self.cancel.clone(),
            namespace: Arc::default(),
        }
    }
}

impl State {
    /// Takes out who waits, and what is settled with it: whoever comes behind finds nobody.
    fn take_left(&mut self) -> Left {
        Left {
            waiter: self.waiter.take(),
            call: self.call.take(),
            started: self.started.take(),
            attempt: Attempt(std::mem::take(&mut self.attempt)),
        }
    }
}

impl Left {
    fn settle(self, run: impl FnOnce(Option<Moment>, Attempt) -> Run, outcome: Outcome) -> bool {
        let Self { waiter, call, started, attempt } = self;
        let Some(waiter) = waiter else {
            catch::discard((outcome, call));
            return false;
        };
        let run = run(started, attempt);
        if let Some(aftermath) = waiter.settle(run, outcome) {
            Dispatcher::of_process().dispatch(*aftermath);
        }
        // Whoever settles may be an arbiter that cancels, so arguments whose drop runs code go to a thread.
        match call {
            Some(call) if call.needs_drop() => Dispatcher::of_process().discard(call),
            _ => {}
        }
        true
    }
}

fn run_of(status: Status, started: Option<Moment>, attempt: Attempt) -> Run {
    Run { status, engine: None, attempt, started, completed: Moment::now(), printed: None }
}
