//! How an `async` task runs on a worker thread: to its end, or to its next await after a cancel.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};

use crate::task::{TaskContext, TaskFailure};

thread_local! {
    /// One small runtime a worker thread, made by its first `async` task: timers and sockets work in tasks.
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Runs a future on this thread; drops it at its next await once the task is cancelled.
///
/// # Errors
/// A failure if the task was cancelled, or if the operating system refuses a runtime.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// async fn later(x: u64) -> u64 {
///     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
///     x
/// }
///
/// let cluster = Cluster::threads(1).start()?;
/// assert_eq!(cluster.client().load_balanced().apply(later(7)).get()?, 7);
/// # Ok::<(), callboard::Error>(())
/// ```
pub fn block_on<F: Future>(cx: &TaskContext, future: F) -> Result<F::Output, TaskFailure> {
    RUNTIME.with(|cell| {
        let runtime = match cell.get() {
            Some(runtime) => runtime,
            None => {
                let made = Builder::new_current_thread().enable_all().build()?;
                cell.get_or_init(|| made)
            }
        };
        runtime.block_on(async {
            let mut future = pin!(future);
            poll_fn(|waking| match cx.cancel.poll(waking.waker()) {
                Poll::Ready(()) => Poll::Ready(Err(TaskFailure::new("cancelled"))),
                Poll::Pending => future.as_mut().poll(waking).map(Ok),
            })
            .await
        })
    })
}
