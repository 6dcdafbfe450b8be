//! Waiting on a plain thread, and telling such a thread from one that must not wait.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::coop;

/// Returns whether this thread may block: it does not drive a tokio runtime or an actix arbiter at this
/// moment. The threads of `spawn_blocking` and `block_in_place` may.
pub(crate) fn may_block() -> bool {
    Handle::try_current().is_err() || !is_polled_by_tokio()
}

/// Returns whether tokio polls a future on this thread right now.
///
/// tokio does not tell, but it gives each future it polls a budget of 128 steps, and code outside of such a
/// poll an endless one. Steps that make no progress are given back, so asking costs nothing.
fn is_polled_by_tokio() -> bool {
    const MORE_THAN_ANY_BUDGET: usize = u8::MAX as usize + 1;
    let mut cx = Context::from_waker(Waker::noop());
    let mut steps = Vec::with_capacity(MORE_THAN_ANY_BUDGET);
    for _ in 0..MORE_THAN_ANY_BUDGET {
        match coop::poll_proceed(&mut cx) {
            Poll::Ready(step) => steps.push(step),
            Poll::Pending => {
                // In reverse, so that the first step, which knows the full budget, is given back last.
                while steps.pop().is_some() {}
                return true;
            }
        }
    }
    false
}

/// Waits for a future on this thread; `None` if the deadline comes first.
pub(crate) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    // A future that blocks in its own poll gets a waker of its own.
    // So does a thread that waits while it ends, as one that held a cluster in a thread-local.
    let kept = SLEEPER.try_with(|cell| cell.borrow_mut().take()).ok().flatten();
    let sleeper = kept.unwrap_or_else(Sleeper::new);
    let waker = Waker::from(sleeper.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let output = loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break Some(output);
        }
        if !sleeper.sleep(deadline) {
            break None;
        }
    };
    let _ = SLEEPER.try_with(|cell| *cell.borrow_mut() = Some(sleeper));
    output
}

thread_local! {
    /// This thread's waker, kept from one wait to the next.
    static SLEEPER: RefCell<Option<Arc<Sleeper>>> = const { RefCell::new(None) };
}

/// A thread that waits.
struct Sleeper {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: std::thread::current(), is_woken: AtomicBool::new(false) })
    }

    /// Sleeps until woken; false if the deadline came first.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        while !self.is_woken.swap(false, Ordering::Acquire) {
            match deadline {
                None => std::thread::park(),
                Some(deadline) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return false;
                    }
                    std::thread::park_timeout(deadline - now);
                }
            }
        }
        true
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
