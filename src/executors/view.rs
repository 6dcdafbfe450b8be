//! The executor of a view: its tasks run on a cluster's engines.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::in_flight::REASON;
use super::{Call, Executor, InFlight};
use crate::async_result::{Origin, Reply};
use crate::client::Client;
use crate::error::TaskError;
use crate::ledger::Request;
use crate::messages::{Manner, Pending, Submission};
use crate::task::EngineId;
use crate::views::{DirectView, EngineView, ExecutorView, LoadBalancedView};

/// Submits through a view; `ViewExecutor` in ipyparallel. Clones are the same executor.
///
/// Each task goes to one engine: on a [`DirectView`] to each of its engines in turn, where ipyparallel runs it on
/// all. The view's options hold: retries, label, deadline.
///
/// Its `shutdown` never stops engines, and concerns only what was submitted through this executor; ipyparallel's
/// takes tasks all the same afterwards, this one refuses them.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(4).start()?;
/// let rc = cluster.client();
/// let ex = rc.all().executor();
/// assert_eq!(format!("{:?}", ex.view()), "<DirectView [0, 1, 2, 3]>");
/// let ar = ex.submit(square(7));
/// assert_eq!((ar.get()?, ar.metadata().engine), (49, Some(rc.ids()[0])));
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct ViewExecutor<V> {
    view: V,
    in_flight: InFlight,
    /// How many tasks were submitted, for engines that have turns.
    turns: Arc<AtomicUsize>,
}

impl<V: ExecutorView> ViewExecutor<V> {
    fn new(view: V) -> Self {
        Self { view, in_flight: InFlight::new(), turns: Arc::default() }
    }

    /// Returns what was submitted through this executor and is not settled.
    #[cfg(all(unix, feature = "remote"))]
    pub(super) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Returns the view.
    pub fn view(&self) -> &V {
        &self.view
    }
}

impl<V: ExecutorView> Executor for ViewExecutor<V> {
    fn name(&self) -> &'static str {
        "ViewExecutor"
    }

    /// Returns how many of the view's engines are there now; ipyparallel's number stays what it was at first.
    fn max_workers(&self) -> usize {
        self.view.aim().engines_now()
    }

    fn pending_max(&self) -> usize {
        self.view.aim().link.pending_max()
    }

    fn pending_bytes_max(&self) -> usize {
        self.view.aim().link.pending_bytes_max()
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        let aim = self.view.aim();
        let first = self.turns.fetch_add(calls.len(), Ordering::Relaxed);
        let submissions: Vec<Submission> =
            calls.into_iter().zip(0..).filter_map(|(call, i)| self.submission(first.wrapping_add(i), call)).collect();
        let ids: Vec<_> = submissions.iter().map(|submission| submission.request.id.into()).collect();
        aim.link.hand_over(submissions);
        if !ids.is_empty() && self.in_flight.is_cancelling() {
            // A shutdown may have come before the scheduler could know these.
            aim.link.cancel(ids, REASON.into(), Manner::Ask);
        }
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.in_flight.shutdown(pending)
    }
}

impl<V: ExecutorView> ViewExecutor<V> {
    /// Makes the submission of a call, or refuses it.
    fn submission(&self, turn: usize, call: Call<'_>) -> Option<Submission> {
        let aim = self.view.aim();
        let (id, extras, origin) = (aim.link.next_id(), aim.options.extras.clone(), Origin::Cluster(aim.link.clone()));
        let (kind, weight) = (call.kind(), call.weight());
        let taken = aim.target(turn).and_then(|target| {
            // Entered first: dropping the ticket undoes it, and room that was taken would have to be given back.
            let ticket = self.in_flight.enter(id, origin.clone()).ok_or(TaskError::ShutDown)?;
            aim.link.try_admit(1, weight)?;
            Ok((target, ticket))
        });
        let (target, ticket) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                call.refuse_as(id, extras, origin, error);
                return None;
            }
        };
        let (payload, result) = call.bind(id, extras.clone(), origin);
        let request = Request { id, kind, payload, target, retries: aim.retries(kind), extras };
        Some(Submission { request, weight, waiter: Some(ticket.watch(result)) })
    }
}

impl<V: Clone> Clone for ViewExecutor<V> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), in_flight: self.in_flight.clone(), turns: self.turns.clone() }
    }
}

impl<V: fmt::Debug> fmt::Debug for ViewExecutor<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<ViewExecutor {:?}>", self.view)
    }
}

impl EngineView {
    /// Returns an executor whose tasks run on this engine.
    pub fn executor(&self) -> ViewExecutor<Self> {
        ViewExecutor::new(self.clone())
    }
}

impl DirectView {
    /// Returns an executor that gives each task to one of these engines, in turn.
    pub fn executor(&self) -> ViewExecutor<Self> {
        ViewExecutor::new(self.clone())
    }
}

impl LoadBalancedView {
    /// Returns an executor that gives each task to the best of these engines.
    ///
    /// ```
    /// # use callboard::prelude::*;
    /// # #[task] fn getpid() -> u32 { std::process::id() }
    /// # let cluster = Cluster::threads(4).start()?;
    /// # let rc = cluster.client();
    /// let even = rc.load_balanced_view(rc.ids().into_iter().step_by(2));
    /// for pid in even.executor().map(|_| getpid(), 0..10) {
    ///     println!("{}", pid?);
    /// }
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn executor(&self) -> ViewExecutor<Self> {
        ViewExecutor::new(self.clone())
    }
}

impl Client {
    /// Returns an executor that gives each task to the best of all engines, also of those that join later.
    ///
    /// ```
    /// # use callboard::prelude::*;
    /// # let cluster = Cluster::threads(2).start()?;
    /// let ex = cluster.client().executor();
    /// assert_eq!(format!("{:?}", ex.view()), "<LoadBalancedView all>");
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn executor(&self) -> ViewExecutor<LoadBalancedView> {
        self.load_balanced().executor()
    }

    /// Returns an executor that gives each task to the best of these engines: `rc.executor(targets=..)`.
    ///
    /// ```
    /// # use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    /// # let cluster = Cluster::threads(4).start()?;
    /// # let rc = cluster.client();
    /// let ex = rc.executor_on(rc.ids().into_iter().take(2));
    /// assert_eq!((ex.max_workers(), ex.submit(square(2)).get()?), (2, 4));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn executor_on(&self, engines: impl IntoIterator<Item = EngineId>) -> ViewExecutor<LoadBalancedView> {
        self.load_balanced_view(engines).executor()
    }
}
