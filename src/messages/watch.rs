//! From the Scheduler to the ResultStore, before any engine gets the task.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use actix::Message;

use super::{Callback, TaskDone};
use crate::error::TaskError;
use crate::task::{Attempt, Extras, Moment, Outcome, Run, Span, TaskId, TaskKind};
use crate::{apart, catch};

/// Tells the ResultStore who waits for which task.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// The tasks.
    pub batch: Vec<Watched>,
}

/// One task, or several items of a map, and who waits.
#[derive(Debug)]
pub struct Watched {
    /// The task, or the first of several.
    pub id: TaskId,
    /// How many, counted up from `id`; 1 but for items of a map.
    pub count: u32,
    /// Their function.
    pub kind: &'static TaskKind,
    /// Label and what else few callers ask for.
    pub extras: Option<Arc<Extras>>,
    /// When the Scheduler took it.
    pub submitted: Moment,
    /// Bytes that admission counted for them, at least 1 a task if it counted them; given back as they are settled.
    pub weight: u32,
    /// Who gets the outcome.
    pub waiter: Option<Waiter>,
}

/// Tells the ResultStore that outcomes of earlier attempts are stale from now on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Expect {
    /// Tasks, and the attempt that is next.
    pub batch: Vec<(Span, Attempt)>,
}

/// Whatever takes an outcome: the inside of an `AsyncResult`.
///
/// ```
/// use std::sync::mpsc::{Sender, channel};
/// use std::sync::{Arc, Mutex};
///
/// use callboard::ledger::Request;
/// use callboard::messages::{Aftermath, Settle, Submission, Submit, Waiter};
/// use callboard::task::{Outcome, Payload, Retries, Run, Target};
/// use callboard::{Status, Task, TaskId, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// /// Tells how tasks ended, and drops their values.
/// struct Ends(Mutex<Sender<Status>>);
///
/// impl Settle for Ends {
///     fn settle(&self, _: u32, _: u32, run: Run, _: Outcome) -> Option<Box<Aftermath>> {
///         let _ = self.0.lock().unwrap().send(run.status);
///         None
///     }
/// }
///
/// let cluster = Cluster::threads(1).start()?;
/// let (tell, told) = channel();
/// let (kind, payload, id) = (square::kind(), Payload::of(square(7)), TaskId { client: 7, seq: 0 });
/// let request = Request { id, kind, payload, target: Target::Any, retries: Retries::default(), extras: None };
/// let waiter = Waiter::new(Arc::new(Ends(Mutex::new(tell))), 0, 1);
/// let submission = Submission { request, weight: 0, waiter: Some(waiter) };
/// cluster.addresses().scheduler.do_send(Submit { batch: vec![submission] });
/// assert_eq!(told.recv(), Ok(Status::Done));
/// # Ok::<(), callboard::Error>(())
/// ```
pub trait Settle: Send + Sync {
    /// Takes the outcome of `count` tasks from `index` on; returns what is left to do, if anything.
    ///
    /// Called at most once for each index, on the ResultStore's thread: it must not run code of the user's.
    fn settle(&self, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>>;

    /// Takes the callbacks that were registered while the ones before were called; none ends the calling.
    fn next_callbacks(&self, _index: u32) -> Vec<Callback> {
        Vec::new()
    }
}

/// Where to ask for further callbacks once those of an [`Aftermath`] were called: so they never run side by side.
pub struct MoreCallbacks {
    result: Arc<dyn Settle>,
    index: u32,
}

impl MoreCallbacks {
    /// Names the result whose callbacks are called.
    pub fn of(result: Arc<dyn Settle>, index: u32) -> Self {
        Self { result, index }
    }

    /// Takes the next callbacks; none is the end.
    pub fn take(&self) -> Vec<Callback> {
        self.result.next_callbacks(self.index)
    }
}

/// What is left to do after a result was settled, where code of the user's may run.
#[derive(Default)]
pub struct Aftermath {
    /// What to tell subscribers; there if there are callbacks.
    pub done: Option<TaskDone>,
    /// In the order of their registration.
    pub callbacks: VecDeque<Callback>,
    /// Who has the callbacks that come after these.
    pub more: Option<MoreCallbacks>,
    /// A value that nobody wants, to be dropped.
    pub leftover: Option<Box<dyn Send>>,
    /// What is left of other results, settled with this one.
    pub others: Vec<Self>,
}

impl fmt::Debug for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aftermath({} callbacks)", self.callbacks.len())
    }
}

/// The place that waits for an outcome, or for those of several items of a map.
///
/// Settles as [`TaskError::Disconnected`] if it is dropped: wherever a task is lost with whatever held it
/// (a mailbox, an arbiter), its `AsyncResult` resolves.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
///
/// use callboard::messages::{Aftermath, Settle, Waiter};
/// use callboard::task::{Outcome, Run};
/// use callboard::TaskError;
///
/// struct Lost(AtomicU32);
///
/// impl Settle for Lost {
///     fn settle(&self, _: u32, count: u32, _: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
///         assert!(matches!(outcome, Err(TaskError::Disconnected)));
///         self.0.fetch_add(count, Ordering::Relaxed);
///         None
///     }
/// }
///
/// let lost = Arc::new(Lost(AtomicU32::new(0)));
/// drop(Waiter::new(lost.clone(), 0, 3));
/// assert_eq!(lost.0.load(Ordering::Relaxed), 3);
/// ```
pub struct Waiter {
    result: Option<Arc<dyn Settle>>,
    index: u32,
    /// Never 0, so that a place for a waiter takes no more than the waiter: there may be a million.
    count: NonZeroU32,
}

impl Waiter {
    /// Makes the place for `count` tasks, at least 1, from `index` on of `result`.
    pub fn new(result: Arc<dyn Settle>, index: u32, count: u32) -> Self {
        Self { result: Some(result), index, count: at_least_1(count) }
    }

    /// Hands over the outcome.
    pub fn settle(mut self, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        self.result.take().and_then(|result| settle(result, self.index, self.count.get(), run, outcome))
    }

    /// Takes out the place for the first `count` tasks.
    fn cut_front(&mut self, count: u32) -> Self {
        let front = Self { result: self.result.clone(), index: self.index, count: at_least_1(count) };
        self.index += count;
        self.count = at_least_1(self.count.get() - count);
        front
    }
}

fn at_least_1(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

impl Watched {
    /// Returns the tasks.
    pub(crate) fn span(&self) -> Span {
        Span { first: self.id, count: self.count }
    }

    /// Takes out the first `count` tasks; there must be more than that.
    pub(crate) fn cut_front(&mut self, count: u32) -> Self {
        // Not below 1 a task on either side, as it was before.
        let weight = (u64::from(self.weight) * u64::from(count) / u64::from(self.count)) as u32;
        let front = Self {
            id: self.id,
            count,
            kind: self.kind,
            extras: self.extras.clone(),
            submitted: self.submitted,
            weight,
            waiter: self.waiter.as_mut().map(|waiter| waiter.cut_front(count)),
        };
        self.id = self.id.plus(count);
        self.count -= count;
        self.weight -= weight;
        front
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(result) = self.result.take() else { return };
        let run = Run::none(&TaskError::Disconnected);
        if let Some(aftermath) = settle(result, self.index, self.count.get(), run, Err(TaskError::Disconnected)) {
            aftermath.carry_out_apart();
        }
    }
}

/// Settles a result whose callbacks, if there are any, are called next.
fn settle(result: Arc<dyn Settle>, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
    let mut aftermath = result.settle(index, count, run, outcome)?;
    if !aftermath.callbacks.is_empty() {
        aftermath.more = Some(MoreCallbacks::of(result, index));
    }
    Some(aftermath)
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.index)
    }
}

impl Aftermath {
    /// Takes the next callback, also of those that were registered since.
    pub(crate) fn next_callback(&mut self) -> Option<Callback> {
        if self.callbacks.is_empty() {
            self.callbacks = self.more.as_ref()?.take().into();
        }
        self.callbacks.pop_front()
    }

    /// Does what is left where there is no callbacks' actor any more.
    pub(super) fn carry_out_apart(self) {
        apart::run(move || self.carry_out());
    }

    fn carry_out(mut self) {
        while let Some(callback) = self.next_callback() {
            match (callback, &self.done) {
                (Callback::Message(to), Some(done)) => to.do_send(done.clone()),
                (Callback::Message(_), None) => {}
                (Callback::Closure(closure), _) => {
                    if let Err(message) = catch::user_code(closure) {
                        tracing::warn!(%message, "a callback panicked");
                    }
                }
            }
        }
        catch::discard(self.leftover);
        std::mem::take(&mut self.others).into_iter().for_each(Self::carry_out);
    }
}
