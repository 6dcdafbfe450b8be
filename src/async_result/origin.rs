//! Where a result comes from: what a result asks of whoever will settle it.

use std::sync::Arc;
use std::time::Duration;

use super::promised::Promised;
use crate::actors::Dispatcher;
use crate::error::Error;
use crate::limits::Limits;
use crate::messages::{Aftermath, Manner};
use crate::task::{Span, TaskId};
use crate::views::Link;

/// Who settles a result.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A cluster: its result store does, and its scheduler is asked to cancel.
    Cluster(Arc<Link>),
    /// Whoever holds the promise.
    Promise(Arc<Promised>),
    /// Whoever settles each of the results that were joined into one.
    Joined(Arc<Vec<(TaskId, Self)>>),
}

impl From<Arc<Link>> for Origin {
    fn from(link: Arc<Link>) -> Self {
        Self::Cluster(link)
    }
}

impl Origin {
    /// Cancels a task; returns false if it is known to be settled.
    pub(crate) fn cancel(&self, task: TaskId, reason: Box<str>, manner: Manner) -> bool {
        match self {
            Self::Cluster(link) => {
                link.cancel(vec![task.into()], reason, manner);
                true
            }
            Self::Promise(promised) => promised.cancel(reason, manner),
            Self::Joined(parts) => parts
                .iter()
                .filter(|(id, _)| *id == task)
                .any(|(id, origin)| origin.cancel(*id, reason.clone(), manner)),
        }
    }

    /// Cancels those of the tasks of one result that are not settled: `pending`, by index and number.
    pub(super) fn cancel_items(
        &self,
        id_at: impl Fn(u32) -> TaskId,
        pending: &[(u32, u32)],
        reason: Box<str>,
        manner: Manner,
    ) {
        match self {
            Self::Cluster(link) => {
                let span = |&(index, count)| Span { first: id_at(index), count };
                link.cancel(pending.iter().map(span).collect(), reason, manner);
            }
            Self::Promise(promised) => drop(promised.cancel(reason, manner)),
            Self::Joined(parts) => {
                let of = |&(index, count): &(u32, u32)| &parts[index as usize..][..count as usize];
                Self::cancel_all(pending.iter().flat_map(of).cloned().collect(), &reason, manner);
            }
        }
    }

    /// Cancels several tasks: those of one cluster by one message.
    pub(crate) fn cancel_all(tasks: Vec<(TaskId, Self)>, reason: &str, manner: Manner) {
        // What has not started first, or a worker that is free again would start it.
        let is_queued = |task: &(TaskId, Self)| match &task.1 {
            Self::Promise(promised) => !promised.has_started(),
            Self::Cluster(_) | Self::Joined(_) => true,
        };
        let (queued, running): (Vec<_>, Vec<_>) = tasks.into_iter().partition(is_queued);
        let mut of_cluster: Vec<(Arc<Link>, Vec<Span>)> = Vec::new();
        for (task, origin) in queued.into_iter().chain(running) {
            match origin {
                Self::Promise(promised) => drop(promised.cancel(reason.into(), manner)),
                Self::Cluster(link) => match of_cluster.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &link)) {
                    Some((_, tasks)) => tasks.push(task.into()),
                    None => of_cluster.push((link, vec![task.into()])),
                },
                joined @ Self::Joined(_) => drop(joined.cancel(task, reason.into(), manner)),
            }
        }
        for (link, tasks) in of_cluster {
            link.cancel(tasks, reason.into(), manner);
        }
    }

    /// Counts one more callback.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there are too many already.
    pub(super) fn count_callback(&self) -> Result<(), Error> {
        match self {
            Self::Cluster(link) => link.count_callback(),
            Self::Promise(_) | Self::Joined(_) => {
                let limit = Limits::default().callbacks_pending_max;
                let is_room = Dispatcher::of_process().counts().try_register(limit);
                if is_room { Ok(()) } else { Err(Error::Overloaded { what: "callbacks", limit }) }
            }
        }
    }

    /// Has callbacks run that were registered after the end.
    pub(super) fn dispatch(&self, aftermath: Aftermath) {
        match self {
            Self::Cluster(link) => link.dispatch(aftermath),
            Self::Promise(_) | Self::Joined(_) => Dispatcher::of_process().dispatch(aftermath),
        }
    }

    /// Notes that a recipient was gone.
    pub(super) fn on_undeliverable(&self) {
        match self {
            Self::Cluster(link) => link.on_undeliverable(),
            Self::Promise(_) | Self::Joined(_) => Dispatcher::of_process().counts().on_undeliverable(),
        }
    }

    /// Returns how long a thread looks for the outcome before it sleeps.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Cluster(link) => link.patience(),
            Self::Promise(_) | Self::Joined(_) => Limits::default().spin(),
        }
    }
}
