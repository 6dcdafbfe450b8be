//! What an executor took and has not settled: refuses after the shutdown, cancels, tells when nothing is left.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::watch;

use super::{Call, Job};
use crate::async_result::{Origin, Reply};
use crate::error::TaskError;
use crate::messages::{Aftermath, Callback, Manner, Pending, Settle, Waiter};
use crate::task::{Outcome, Run, TaskId};

/// The tasks of one executor that are not settled. Clones are the same.
///
/// Bound: as many as the executor takes; each is with the executor anyway.
///
/// ```
/// use callboard::executors::{Call, InFlight};
/// use callboard::{Reply, prelude::*};
///
/// /// Runs each task in `submit` itself: for tests.
/// #[derive(Debug, Default)]
/// struct Serial(InFlight);
///
/// impl Executor for Serial {
///     fn name(&self) -> &'static str { "Serial" }
///     fn max_workers(&self) -> usize { 1 }
///     fn execute(&self, calls: Vec<Call<'_>>) {
///         for job in calls.into_iter().filter_map(|call| self.0.admit(call)) {
///             job.run();
///         }
///     }
///     fn shutdown(&self, pending: Pending) -> Reply<()> { self.0.shutdown(pending) }
/// }
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let ex = Serial::default();
/// let ar = ex.submit(square(3));
/// assert!(ar.ready() && ex.0.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct InFlight(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Turns true when the executor was shut down and nothing is left.
    is_over: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    tasks: Slab<(TaskId, Origin)>,
    /// There once the executor was shut down.
    shut_down: Option<Pending>,
    /// Called when that is done and nothing is left.
    then: Option<Then>,
    /// What everything that was in flight ended as, and the reason by which it was cancelled.
    failure: Option<(Box<str>, TaskError)>,
}

/// What is called at the end.
type Then = Box<dyn FnOnce() + Send>;

/// One task's entry; gone when this is dropped.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    entry: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: Mutex::default(), is_over: watch::Sender::new(false) }
    }
}

impl InFlight {
    /// Makes one with no tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many tasks are not settled.
    pub fn len(&self) -> usize {
        self.0.state.lock().tasks.len()
    }

    /// Returns whether all tasks are settled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a call in; refuses it as [`TaskError::ShutDown`] after the shutdown, and returns `None`.
    pub fn admit(&self, call: Call<'_>) -> Option<Job> {
        if self.0.state.lock().shut_down.is_some() {
            call.refuse(TaskError::ShutDown);
            return None;
        }
        let mut is_refused = false;
        let job = call.into_job_watched(|id, origin, result| match self.enter(id, origin) {
            Some(ticket) => ticket.watch(result),
            None => {
                is_refused = true;
                Waiter::new(result, 0, 1)
            }
        });
        if is_refused {
            job.settle(Err(TaskError::ShutDown));
            return None;
        }
        if self.is_cancelling() {
            // The shutdown may have come before the job could be cancelled.
            job.cancel(REASON);
        }
        Some(job)
    }

    /// Takes no more calls; answered when all that were taken are settled.
    ///
    /// With `Pending::Cancel` they settle as cancelled, at once where they are jobs.
    pub fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.close(pending);
        self.ended()
    }

    pub(super) fn close(&self, pending: Pending) {
        let mut state = self.0.state.lock();
        if state.shut_down != Some(Pending::Cancel) {
            state.shut_down = Some(pending);
        }
        let left: Vec<_> = match pending {
            Pending::Cancel => state.tasks.iter().map(|(_, task)| task.clone()).collect(),
            Pending::Finish => Vec::new(),
        };
        let is_over = state.tasks.is_empty();
        drop(state);
        if is_over {
            self.0.end();
        }
        Origin::cancel_all(left, REASON, Manner::Ask);
    }

    /// Answers when the executor was shut down and nothing is left.
    pub(super) fn ended(&self) -> Reply<()> {
        let mut is_over = self.0.is_over.subscribe();
        Reply::new(async move {
            // An `Err` is an executor that is gone with all its tasks.
            let _ = is_over.wait_for(|&is_over| is_over).await;
            Ok(())
        })
    }

    /// Has `then` called when the executor was shut down and nothing is left. Once, before anything is submitted.
    pub(super) fn when_over(&self, then: impl FnOnce() + Send + 'static) {
        self.0.state.lock().then = Some(Box::new(then));
    }

    /// Settles everything that is in flight now as `error`.
    #[cfg(all(unix, feature = "remote"))]
    pub(super) fn fail_all(&self, error: TaskError) {
        let reason: Box<str> = error.to_string().into();
        let mut state = self.0.state.lock();
        state.failure = Some((reason.clone(), error));
        let tasks = state.tasks.iter().map(|(_, task)| task.clone()).collect();
        drop(state);
        Origin::cancel_all(tasks, &reason, Manner::Ask);
    }

    /// Notes a task that is to be settled; `None` after the shutdown.
    pub(super) fn enter(&self, id: TaskId, origin: Origin) -> Option<Ticket> {
        let mut state = self.0.state.lock();
        if state.shut_down.is_some() {
            return None;
        }
        let entry = state.tasks.insert((id, origin));
        Some(Ticket { shared: self.0.clone(), entry })
    }

    /// Returns whether what was taken is to be cancelled. Asked again once a task can be cancelled.
    pub(super) fn is_cancelling(&self) -> bool {
        self.0.state.lock().shut_down == Some(Pending::Cancel)
    }
}

pub(super) const REASON: &str = "its executor was shut down";

impl Ticket {
    /// Makes a waiter for a result; the task has left when it is settled.
    pub(super) fn watch(self, result: Arc<dyn Settle>) -> Waiter {
        Waiter::new(Arc::new(Tracked { result, ticket: Mutex::new(Some(self)) }), 0, 1)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let task = state.tasks.remove(self.entry);
        let is_empty = state.tasks.is_empty();
        if is_empty && state.tasks.capacity() > BURST {
            // After a burst the memory goes back.
            state.tasks.shrink_to_fit();
        }
        let is_over = is_empty && state.shut_down.is_some();
        drop(state);
        drop(task);
        if is_over {
            self.shared.end();
        }
    }
}

/// How many places for tasks are kept while there is none.
const BURST: usize = 4_096;

/// A result whose task leaves the executor when it is settled.
struct Tracked {
    result: Arc<dyn Settle>,
    ticket: Mutex<Option<Ticket>>,
}

impl Shared {
    /// Tells that the executor was shut down and nothing is left.
    fn end(&self) {
        let then = self.state.lock().then.take();
        self.is_over.send_replace(true);
        if let Some(then) = then {
            then();
        }
    }

    /// Returns what a task ended as that was cancelled for this reason, if all that was in flight was.
    fn failure_for(&self, reason: &str) -> Option<TaskError> {
        let state = self.state.lock();
        state.failure.as_ref().filter(|(theirs, _)| **theirs == *reason).map(|(_, error)| error.clone())
    }
}

impl Tracked {
    /// Gives a task the outcome of all, where it was cancelled with them.
    fn told(&self, run: Run, outcome: Outcome) -> (Run, Outcome) {
        if let Err(TaskError::Cancelled { reason }) = &outcome
            && let Some(error) = self.ticket.lock().as_ref().and_then(|ticket| ticket.shared.failure_for(reason))
        {
            // There was nobody to start it.
            return (Run { completed: run.completed, ..Run::none(&error) }, Err(error));
        }
        (run, outcome)
    }
}

impl Settle for Tracked {
    fn settle(&self, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        let (run, outcome) = self.told(run, outcome);
        let aftermath = self.result.settle(index, count, run, outcome);
        // After the result: whoever hears that nothing is left finds every result settled.
        let ticket = self.ticket.lock().take();
        drop(ticket);
        aftermath
    }

    fn next_callbacks(&self, index: u32) -> Vec<Callback> {
        self.result.next_callbacks(index)
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<InFlight {}>", self.len())
    }
}
