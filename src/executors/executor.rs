//! What an executor is: the small part that one has to write.

use std::fmt;
use std::sync::Arc;

use super::Call;
use crate::async_result::Reply;
use crate::messages::Pending;

/// Something that runs tasks. Users call the methods of [`ExecutorExt`](super::ExecutorExt) on it.
///
/// # The contract
///
/// Whatever runs the tasks, threads, processes or machines elsewhere, whoever holds a result may rely on this. `tests/conformance`
/// checks each sentence on every executor there is, with the same code; run it on yours.
///
/// **States.** A result is `Pending` until it settles, once and for good: as `Done`, or as one of the errors that
/// [`Status`](crate::Status) lists. A late outcome is dropped. Where a task is until then can be asked: its
/// [`state`](crate::AsyncResult::state) is `Queued`, `Sent` to a worker, or `Running` there.
///
/// **Started** is a task when a worker has begun its code, and not before: what waits, what was sent ahead to a worker and what
/// was cancelled meanwhile has no [`started`](crate::Record::started), no engine, and attempt 0. Nobody guesses: that it started
/// is told with its outcome, by whoever ran it; and whether it runs now says whoever runs it, when it is asked.
/// [`running`](crate::AsyncResult::running) is true of no task that has not started, and of none that is settled.
///
/// **Cancel** has three levels, and the result settles as [`Cancelled`](crate::TaskError::Cancelled) by each:
/// 1. What waits never runs. Its arguments are freed at once, its place in a queue at the latest when its turn would come.
/// 2. What runs is asked to stop: [`TaskContext::is_cancelled`](crate::TaskContext::is_cancelled) turns true, an `async` task ends
///    at its next `await`. Its worker is free when it returns; what it returns is dropped.
/// 3. By [force](crate::AsyncResult::cancel_by_force), where the mechanism can: a child process is killed, which costs no other
///    task. A thread, or a process on another machine, can only be asked.
///
/// **Values** that cannot be decoded fail their own future as [`Undecodable`](crate::TaskError::Undecodable), and no other; items of a map too.
///
/// **Arguments** are freed when they are encoded, where they are, and else when the task has returned: a result that is
/// kept keeps no arguments. An executor that may make another attempt keeps a copy until then.
///
/// **Results mix.** [`wait`](crate::wait), [`as_completed`](crate::as_completed) and joins take those of several executors, views
/// and promises together.
///
/// **A panic** or an error is the outcome of one task; its worker lives on. A worker that dies costs what it ran.
///
/// # Writing one
///
/// An executor of one's own keeps an [`InFlight`](super::InFlight) and a way to run [`Job`](super::Job)s:
///
/// ```
/// use callboard::executors::{Call, InFlight};
/// use callboard::{Reply, prelude::*};
///
/// /// Starts a thread for every task.
/// #[derive(Debug, Default)]
/// struct ThreadPerTask {
///     in_flight: InFlight,
/// }
///
/// impl Executor for ThreadPerTask {
///     fn name(&self) -> &'static str {
///         "ThreadPerTask"
///     }
///     fn max_workers(&self) -> usize {
///         64
///     }
///     fn execute(&self, calls: Vec<Call<'_>>) {
///         for call in calls {
///             // `None` after the shutdown: then the call was refused.
///             if let Some(job) = self.in_flight.admit(call) {
///                 std::thread::spawn(move || job.run());
///             }
///         }
///     }
///     fn shutdown(&self, pending: Pending) -> Reply<()> {
///         self.in_flight.shutdown(pending)
///     }
/// }
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let ex = ThreadPerTask::default();
/// assert_eq!(ex.submit(square(7)).get()?, 49);
/// ex.shutdown(Pending::Finish).get()?;
/// assert_eq!(ex.submit(square(7)).get(), Err(TaskError::ShutDown));
/// # Ok::<(), callboard::Error>(())
/// ```
pub trait Executor: Send + Sync + fmt::Debug {
    /// Returns what kind of executor this is, as `executor.__class__.__name__` in Python.
    fn name(&self) -> &'static str;

    /// Returns how many tasks it runs at once, now.
    fn max_workers(&self) -> usize;

    /// Returns how many tasks may be pending at once, where that is known: `map` works no further ahead.
    fn pending_max(&self) -> usize {
        usize::MAX
    }

    /// Returns how many bytes of arguments may be pending at once, where that is known: `map` works no further ahead.
    fn pending_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Takes calls, in the order in which they may start. Must not wait for them, nor for room: what cannot be
    /// taken is [refused](Call::refuse).
    ///
    /// A call that is dropped is refused as `Disconnected`.
    fn execute(&self, calls: Vec<Call<'_>>);

    /// Takes no more tasks from now on: every later one settles at once as
    /// [`TaskError::ShutDown`](crate::TaskError::ShutDown).
    ///
    /// `Pending::Finish` has what was submitted finished. `Pending::Cancel` settles it as cancelled and asks what
    /// runs to stop. Answered when nothing of it is left: tasks, and threads that are the executor's own. The
    /// answer need not be waited for: a [`Reply`] that is dropped changes nothing. It may be asked for again, also
    /// to cancel after all. To wait no longer than so long: `shutdown(..).get_timeout(..)`.
    ///
    /// A task cannot wait for the end of its own executor.
    fn shutdown(&self, pending: Pending) -> Reply<()>;
}

macro_rules! executor_behind {
    ($pointer:ty) => {
        impl<E: Executor + ?Sized> Executor for $pointer {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn max_workers(&self) -> usize {
                (**self).max_workers()
            }

            fn pending_max(&self) -> usize {
                (**self).pending_max()
            }

            fn pending_bytes_max(&self) -> usize {
                (**self).pending_bytes_max()
            }

            fn execute(&self, calls: Vec<Call<'_>>) {
                (**self).execute(calls);
            }

            fn shutdown(&self, pending: Pending) -> Reply<()> {
                (**self).shutdown(pending)
            }
        }
    };
}

executor_behind!(&E);
executor_behind!(Box<E>);
executor_behind!(Arc<E>);
