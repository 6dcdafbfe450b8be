//! What a running task can ask: where it runs, and whether somebody still wants it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::{Attempt, EngineId, Namespace, TaskId};
use crate::catch;

/// Handed to a task that asks for it (`cx: &TaskContext` as first parameter).
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn who(cx: &TaskContext) -> (Option<u32>, u32, bool) {
///     (cx.engine().map(|engine| engine.0), cx.attempt().0, cx.is_cancelled())
/// }
///
/// assert_eq!(who().call(), (None, 1, false)); // here
/// let cluster = Cluster::threads(1).start()?;
/// assert_eq!(cluster.client().engine(0)?.apply(who()).get()?, (Some(0), 1, false));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskContext {
    pub(crate) task: TaskId,
    pub(crate) engine: Option<EngineId>,
    pub(crate) attempt: Attempt,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) cancel: Arc<CancelFlag>,
    pub(crate) namespace: Arc<Namespace>,
}

impl TaskContext {
    /// Makes the context of a call that runs here, on no engine.
    pub fn here() -> Self {
        Self {
            task: TaskId { client: 0, seq: 0 },
            engine: None,
            attempt: Attempt(1),
            label: None,
            cancel: Arc::default(),
            namespace: Arc::default(),
        }
    }

    /// Returns the task's id.
    pub fn task_id(&self) -> TaskId {
        self.task
    }

    /// Returns the engine that runs the task; `None` for a call that runs here.
    pub fn engine(&self) -> Option<EngineId> {
        self.engine
    }

    /// Returns which execution of the task this is, from 1.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Makes it the context of this task, for tests that play an engine.
    #[doc(hidden)]
    pub fn set_task_for_tests(&mut self, task: TaskId) {
        self.task = task;
    }

    /// Returns the label given by the caller.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Returns whether the task was cancelled or its deadline has passed: nobody waits for its result any more.
    ///
    /// A long loop asks this now and then, and returns early.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_requested()
    }

    /// Waits until the task is cancelled; for `tokio::select!` in an `async` task.
    pub async fn cancelled(&self) {
        poll_fn(|cx| self.cancel.poll(cx.waker())).await;
    }
}

/// One worker's request to stop the task it runs.
#[derive(Debug, Default)]
pub(crate) struct CancelFlag {
    requested: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl CancelFlag {
    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        // Outside the lock: whoever wakes may come back at once.
        waker.into_iter().for_each(catch::wake);
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Makes the flag good for the next task of the same worker.
    pub(crate) fn reset(&self) {
        self.requested.store(false, Ordering::Relaxed);
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut place = self.waker.lock();
        // Under the lock: a request that lands in between finds the waker.
        if self.requested.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *place = Some(waker.clone());
        Poll::Pending
    }
}
