//! The opposite of detaching: a result whose task ends with it.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::single::AsyncResult;
use crate::apart;
use crate::error::TaskError;

/// An [`AsyncResult`] whose task is cancelled when it is dropped; see
/// [`cancel_on_drop`](AsyncResult::cancel_on_drop).
///
/// For a request handler whose client may go away:
///
/// ```
/// # use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// async fn handler(view: callboard::LoadBalancedView) -> Result<u64, TaskError> {
///     view.apply(square(4)).cancel_on_drop().await
/// }
/// # let cluster = Cluster::threads(1).start()?;
/// # let view = cluster.client().load_balanced();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(handler(view).await, Ok(16));
/// # });
/// # Ok::<(), callboard::Error>(())
/// ```
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T: Send + 'static>(Option<AsyncResult<T>>);

impl<T: Send + 'static> CancelOnDrop<T> {
    pub(super) fn new(result: AsyncResult<T>) -> Self {
        // It may be dropped with a thread's locals: noted now how this thread stands then.
        apart::is_alive();
        Self(Some(result))
    }

    /// Has the task left to run again, whatever happens to its result.
    pub fn detach(mut self) -> AsyncResult<T> {
        self.0.take().expect("taken only here and when this is dropped")
    }
}

impl<T: Send + 'static> Deref for CancelOnDrop<T> {
    type Target = AsyncResult<T>;

    fn deref(&self) -> &AsyncResult<T> {
        self.0.as_ref().expect("taken only when this is dropped")
    }
}

impl<T: Send + 'static> Future for CancelOnDrop<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = self.0.as_mut().expect("taken only when this is dropped");
        Pin::new(result).poll(cx)
    }
}

impl<T: Send + 'static> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(result) = &self.0 {
            result.cancel("its result was dropped");
        }
    }
}

impl<T: Send + 'static> fmt::Debug for CancelOnDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
