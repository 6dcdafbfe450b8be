//! Where a task is, asked of whoever has it: a cluster's scheduler, whoever holds the promise, or whom that handed it on to.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;

use super::origin::Origin;
use super::promised::{Knows, Promised};
use super::reply::Reply;
use super::single::AsyncResult;
use crate::error::Error;
use crate::task::{TaskId, TaskState};

/// An answer on its way: where a task is, or `None` where its outcome tells.
type Answer = Pin<Box<dyn Future<Output = Result<Option<TaskState>, Error>> + Send>>;

impl<T: Send + 'static> AsyncResult<T> {
    /// Asks where the task is: queued, sent ahead, running, or settled and how.
    ///
    /// Answered by whoever knows: `Running` means that the task's code has begun and has not returned, as its engine says itself. Of a task
    /// on a Dask cluster its worker tells, some milliseconds after it began. Costs a message or two, and those who do not ask nothing.
    ///
    /// Answers an [`Error`] as other questions do: [`Overloaded`](Error::Overloaded) where too many wait for their answers, and if the
    /// controller cannot be reached any more.
    ///
    /// ```
    /// use callboard::{Status, TaskState, prelude::*};
    /// use std::sync::mpsc::channel;
    ///
    /// let cluster = Cluster::threads(1).start()?;
    /// let view = cluster.client().load_balanced();
    /// let ((begin, has_begun), (open, gate)) = (channel(), channel::<()>());
    /// let running = view.apply_fn(move || {
    ///     begin.send(()).unwrap();
    ///     gate.recv().unwrap();
    /// });
    /// let queued = view.apply_fn(|| ());
    /// has_begun.recv().unwrap();
    /// assert_eq!(running.state().get()?, TaskState::Running { engine: Some(cluster.client().ids()[0]) });
    /// assert_eq!(queued.state().get()?, TaskState::Queued);
    /// open.send(()).unwrap();
    /// running.wait()?;
    /// assert_eq!(running.state().get()?, TaskState::Settled(Status::Done));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn state(&self) -> Reply<TaskState> {
        if let Some(state) = self.settled_state() {
            return Reply::new(ready(Ok(state)));
        }
        // Holds the outcome: it tells how the task ended also where the caller's result was dropped meanwhile.
        let (asked, result) = (self.origin.ask_state(self.id()), self.second_handle());
        Reply::new(async move {
            let answer = asked.await;
            // What has come since is later than any answer.
            match (result.settled_state(), answer) {
                (Some(state), _) => Ok(state),
                (None, Ok(Some(state))) => Ok(state),
                (None, Ok(None)) => {
                    // Its outcome is being put here.
                    poll_fn(|cx| result.poll_ready(cx.waker())).await;
                    Ok(result.settled_state().expect("it is ready, so it is settled"))
                }
                (None, Err(error)) => Err(error),
            }
        })
    }

    /// Asks whether the task runs: its code has begun and has not returned, as [`state`](Self::state) tells.
    ///
    /// As `Future.running()` of `concurrent.futures`, except that Python's pool of processes says so of what is merely in the pipe to
    /// one.
    ///
    /// ```
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let cluster = Cluster::threads(1).start()?;
    /// let ar = cluster.client().load_balanced().apply(square(7));
    /// assert_eq!(ar.get()?, 49);
    /// assert!(!ar.running().get()?);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn running(&self) -> Reply<bool> {
        let state = self.state();
        Reply::new(async move { Ok(matches!(state.await?, TaskState::Running { .. })) })
    }

    fn settled_state(&self) -> Option<TaskState> {
        self.run().map(|run| TaskState::Settled(run.status))
    }
}

impl Origin {
    /// Asks where a task is: the question is on its way when this returns.
    fn ask_state(&self, task: TaskId) -> Answer {
        match self {
            Self::Cluster(link) => Box::pin(link.ask_state(task)),
            Self::Promise(promised) => promised.ask_state(),
            Self::Joined(parts) => match parts.iter().find(|(id, _)| *id == task) {
                Some((id, origin)) => origin.ask_state(*id),
                None => Box::pin(ready(Ok(None))),
            },
        }
    }
}

impl Promised {
    fn ask_state(self: &Arc<Self>) -> Answer {
        let (mut asked, promised) = match self.whereabouts() {
            Knows::State(state) => return Box::pin(ready(Ok(state))),
            Knows::Other(id, origin) => ((id, origin.ask_state(id)), self.clone()),
        };
        Box::pin(async move {
            loop {
                let (id, answer) = asked;
                let inside = answer.await;
                match promised.whereabouts() {
                    Knows::State(state) => return Ok(state),
                    // It was handed on once more.
                    Knows::Other(next, origin) if next != id => asked = (next, origin.ask_state(next)),
                    // What has an outcome there is about to have one here.
                    Knows::Other(..) => {
                        return inside.map(|state| Some(state.unwrap_or(TaskState::Returned { engine: None })));
                    }
                }
            }
        })
    }
}
