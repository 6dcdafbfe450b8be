//! A future that gives a result back once it is settled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::awaitable::Awaitable;

/// The future.
pub(super) struct Until<R>(Option<R>);

impl<R> Until<R> {
    pub(super) fn new(result: R) -> Self {
        Self(Some(result))
    }

    /// Gives the result back as it is.
    pub(super) fn into_inner(self) -> Option<R> {
        self.0
    }
}

/// The result is not pinned: it is asked by reference.
impl<R> Unpin for Until<R> {}

impl<R: Awaitable> Future for Until<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let result = self.0.as_ref().expect("a future is not polled after its end");
        match result.poll_settled(cx) {
            Poll::Ready(()) => Poll::Ready(self.0.take().expect("it was there a moment ago")),
            Poll::Pending => Poll::Pending,
        }
    }
}
