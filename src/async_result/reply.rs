//! The answer to a question, for blocking and for async code.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix::{Message, Recipient};

use super::blocking::{block_on, may_block};
use crate::actors::{Asked, ask};
use crate::error::Error;

/// An answer on its way: `.get()` in blocking code, `.await` in async code.
///
/// The question was asked when this was made, waited for or not.
///
/// ```
/// use callboard::prelude::*;
///
/// let cluster = Cluster::threads(2).start()?;
/// let rc = cluster.client();
/// assert_eq!(rc.queue_status().get()?.pending, 0); // on a plain thread
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(rc.queue_status().await?.pending, 0); // in async code
/// # Ok::<(), callboard::Error>(()) })?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[must_use = "the answer comes when this is awaited or got"]
pub struct Reply<T>(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>);

impl<T> Reply<T> {
    /// Makes a reply of whatever answers: for executors of one's own.
    ///
    /// ```
    /// let reply = callboard::Reply::new(async { Ok(42) });
    /// assert_eq!(reply.get()?, 42);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn new(answer: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self(Box::pin(answer))
    }

    /// Makes the reply to a question that is not asked.
    pub(crate) fn refused(error: Error) -> Self
    where
        T: Send + 'static,
    {
        Self::new(ready(Err(error)))
    }

    /// Asks an actor that may refuse.
    pub(crate) fn ask_for<M>(actor: &Recipient<Asked<M>>, message: M) -> Self
    where
        M: Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let told = ask(actor, message);
        Self::new(async move { told.await.map_err(|_| Error::ClusterStopped)? })
    }

    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// What the question was refused for; [`Error::WouldBlock`] on a thread that drives a runtime: then it was asked
    /// all the same, and only its answer is missed.
    pub fn get(self) -> Result<T, Error> {
        self.wait(None)
    }

    /// Blocks until the answer is there, for at most `wait`.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::NotReady`] after `wait`.
    pub fn get_timeout(self, wait: Duration) -> Result<T, Error> {
        self.wait(Some(wait))
    }

    fn wait(self, wait: Option<Duration>) -> Result<T, Error> {
        if !may_block() {
            return Err(Error::WouldBlock);
        }
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        block_on(self, deadline).unwrap_or(Err(Error::NotReady { waited: wait.unwrap_or_default() }))
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Reply>")
    }
}
