//! The other end of a result: for whoever makes results by means of their own.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::async_result::{AsyncResult, One, Origin, Promised, not_decodable};
use crate::error::{Place, TaskError};
use crate::messages::Waiter;
use crate::task::{
    Attempt, ErasedValue, TaskContext, TaskFailure, TaskId, TaskKind, Typed, Value, WireValue, fingerprint, key_of,
};

/// The side of a result that gives the value; the other side is its [`AsyncResult`].
///
/// As the executor's side of `concurrent.futures.Future`, except that it is owned by one: a value cannot be
/// given twice, and a promise that is dropped settles its result as [`TaskError::Disconnected`].
///
/// Cancelling the result settles it at once, also while the work runs; the work learns of it by
/// [`is_cancelled`](Self::is_cancelled), and what it gives then is dropped. Callbacks of the result run on a
/// few plain threads that all promises of the process share.
///
/// ```
/// use callboard::{AsyncResult, Promise};
///
/// fn answer() -> AsyncResult<u32> {
///     let (promise, result) = Promise::new("answer");
///     std::thread::spawn(move || {
///         if promise.start() {
///             promise.fulfil(42);
///         }
///     });
///     result
/// }
/// assert_eq!(answer().get(), Ok(42));
/// ```
#[must_use = "dropping it settles the result as an error"]
pub struct Promise<T: Send + 'static> {
    promised: Arc<Promised>,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Promise<T> {
    /// Makes a promise and its result, which prints as `<AsyncResult name: pending>`.
    pub fn new(name: &'static str) -> (Self, AsyncResult<T>) {
        let (id, kind) = (TaskId::of_process(), kind_called(name));
        let promised = Promised::new(id, kind, None);
        let one = One::new(id, kind, None, not_decodable);
        promised.watch(Waiter::new(one.clone(), 0, 1));
        let result = AsyncResult::new(one, Origin::Promise(promised.clone()));
        (Self { promised, value: PhantomData }, result)
    }

    /// Returns the id of the result.
    pub fn id(&self) -> TaskId {
        self.promised.id()
    }

    /// Notes that the work begins; returns false if the result was cancelled, and the work need not begin.
    ///
    /// `set_running_or_notify_cancel` in `concurrent.futures`.
    pub fn start(&self) -> bool {
        self.promised.start()
    }

    /// Returns whether the result was cancelled: nobody waits for the value any more.
    pub fn is_cancelled(&self) -> bool {
        self.promised.is_cancelled()
    }

    /// Returns a context whose `is_cancelled` and `cancelled` follow the result, to run a task with.
    ///
    /// ```
    /// # use callboard::{Promise, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// let (promise, result) = Promise::new("square");
    /// let outcome = square(3).run(&promise.context());
    /// match outcome {
    ///     Ok(value) => promise.fulfil(value),
    ///     Err(failure) => promise.fail(failure),
    /// }
    /// assert_eq!(result.get(), Ok(9));
    /// ```
    pub fn context(&self) -> TaskContext {
        self.promised.context()
    }

    /// Gives the outcome.
    ///
    /// ```
    /// # use callboard::{Promise, TaskError};
    /// let (promise, result) = Promise::<u32>::new("never");
    /// promise.settle(Err(TaskError::NoEngines));
    /// assert_eq!(result.get(), Err(TaskError::NoEngines));
    /// ```
    pub fn settle(self, outcome: Result<T, TaskError>) {
        self.promised.settle(outcome.map(|value| Value::Typed(Box::new(Given(value)))));
    }

    /// Gives the value.
    pub fn fulfil(self, value: T) {
        self.settle(Ok(value));
    }

    /// Settles the result as [`TaskError::Failed`]: the work reported an error.
    ///
    /// ```
    /// # use callboard::{Promise, TaskError};
    /// let (promise, result) = Promise::<u32>::new("parse");
    /// promise.fail("x".parse::<u32>().unwrap_err());
    /// assert!(result.get().unwrap_err().to_string().ends_with("failed: invalid digit found in string"));
    /// ```
    pub fn fail(self, failure: impl Into<TaskFailure>) {
        let (task, name) = (self.id(), self.promised.kind().short_name());
        let place = Box::new(Place { task, name, engine: None, attempt: Attempt(1) });
        let text = failure.into().into_text().into();
        self.settle(Err(TaskError::Failed { place, text }));
    }
}

impl<T: Send + 'static> Drop for Promise<T> {
    fn drop(&mut self) {
        self.promised.settle(Err(TaskError::Disconnected));
    }
}

impl<T: Send + 'static> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Promise {}>", self.promised.kind().short_name())
    }
}

/// A value that was given, which need not be one that can be encoded.
struct Given<T>(T);

impl<T: Send + 'static> ErasedValue for Given<T> {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<T>()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        Box::new(Typed(self.0))
    }
}

/// Returns the kind of promises of this name.
fn kind_called(name: &'static str) -> &'static TaskKind {
    // Bound: one kind for each text of static life that the program has.
    static KINDS: Mutex<Option<HashMap<&'static str, &'static TaskKind>>> = Mutex::new(None);
    let make = || {
        let (key, fingerprint) = (key_of(name, 1), fingerprint(name, 1, ""));
        &*Box::leak(Box::new(TaskKind { name, version: 1, key, fingerprint, idempotent: false, portable: false }))
    };
    KINDS.lock().get_or_insert_default().entry(name).or_insert_with(make)
}
