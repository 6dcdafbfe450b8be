//! What results of every kind and origin have in common: that one can wait for them.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::cancel_on_drop::CancelOnDrop;
use super::map::AsyncMapResult;
use super::single::AsyncResult;

/// A result that is settled some time, without the type of its value: what [`wait`](crate::wait) and
/// [`as_completed`](crate::as_completed) take.
///
/// References and boxes of results are results too, so results of any types and origins can be waited for
/// together, in a `Vec<Box<dyn Awaitable>>`.
///
/// ```
/// use callboard::{Awaitable, Promise, ReturnWhen, wait};
///
/// let (promise, text) = Promise::<String>::new("text");
/// let (_other, number) = Promise::<u32>::new("number");
/// promise.fulfil("hello".into());
/// let both: Vec<Box<dyn Awaitable>> = vec![Box::new(text), Box::new(number)];
/// let waited = wait(both, ReturnWhen::FirstCompleted).get()?;
/// assert_eq!((waited.done.len(), waited.pending.len()), (1, 1));
/// # Ok::<(), callboard::Error>(())
/// ```
pub trait Awaitable: Send + Sync {
    /// Returns whether it is settled.
    fn ready(&self) -> bool;

    /// Returns whether it has a value; `None` while it is not settled.
    fn successful(&self) -> Option<bool>;

    /// Returns whether it is settled; else has the task of `cx` woken when it is. Takes no value out.
    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<T: Send + 'static> Awaitable for AsyncResult<T> {
    fn ready(&self) -> bool {
        self.ready()
    }

    fn successful(&self) -> Option<bool> {
        self.successful()
    }

    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ready(cx.waker())
    }
}

impl<T: Send + 'static> Awaitable for AsyncMapResult<T> {
    fn ready(&self) -> bool {
        self.ready()
    }

    fn successful(&self) -> Option<bool> {
        self.successful()
    }

    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ready(cx.waker())
    }
}

macro_rules! awaitable_behind {
    ($pointer:ty, $parameter:ident: $($bound:tt)*) => {
        impl<$parameter: $($bound)*> Awaitable for $pointer {
            fn ready(&self) -> bool {
                (**self).ready()
            }

            fn successful(&self) -> Option<bool> {
                (**self).successful()
            }

            fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
                (**self).poll_settled(cx)
            }
        }
    };
}

awaitable_behind!(CancelOnDrop<T>, T: Send + 'static);
awaitable_behind!(&R, R: Awaitable + ?Sized);
awaitable_behind!(&mut R, R: Awaitable + ?Sized);
awaitable_behind!(Box<R>, R: Awaitable + ?Sized);
awaitable_behind!(Arc<R>, R: Awaitable + ?Sized);
