//! At most so many tasks with the executor inside.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::inside::Inside;
use super::relay::{self, Copy, Errand};
use crate::admission::{Admission, Place};
use crate::async_result::Reply;
use crate::executors::{Call, Executor, Job};
use crate::limits::Limits;
use crate::messages::Pending;

/// An executor with at most `n` tasks in flight at once: [`limit`](crate::ExecutorExt::limit).
pub struct Limited<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    inside: Arc<Inside<E>>,
    limit: usize,
    admission: Arc<Admission>,
    pending_max: usize,
    pending_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    /// Bound: admission.
    queue: VecDeque<(Job, Place)>,
    /// Somebody hands on, and will look again.
    is_handing_on: bool,
}

impl<E: Executor + 'static> Limited<E> {
    pub(crate) fn new(executor: E, limit: usize) -> Self {
        let mut limits = Limits::default();
        // No more wait here than the executor inside would take.
        limits.pending_tasks_max = limits.pending_tasks_max.min(executor.pending_max()).max(1);
        limits.pending_bytes_max = limits.pending_bytes_max.min(executor.pending_bytes_max()).max(1);
        let (pending_max, pending_bytes_max) = (limits.pending_tasks_max, limits.pending_bytes_max);
        let admission = Arc::new(Admission::new(&limits));
        let (inside, state) = (Inside::new(executor, None), Mutex::default());
        let limit = limit.max(1);
        Self { shared: Arc::new(Shared { inside, limit, admission, pending_max, pending_bytes_max, state }) }
    }
}

impl<E: Executor + 'static> Shared<E> {
    /// Hands on what there is room for. Never within itself: an executor that settles in `execute` comes back here.
    fn hand_on(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.is_handing_on {
            return;
        }
        state.is_handing_on = true;
        loop {
            let (mut batch, mut unwanted) = (Vec::new(), Vec::new());
            while state.in_flight + batch.len() < self.limit
                && let Some((job, place)) = state.queue.pop_front()
            {
                if job.is_cancelled() { unwanted.push((job, place)) } else { batch.push((job, place)) }
            }
            if batch.is_empty() && unwanted.is_empty() {
                state.is_handing_on = false;
                return;
            }
            state.in_flight += batch.len();
            drop(state);
            drop(unwanted);
            let taken = batch.len();
            let errands: Vec<_> = batch.into_iter().filter_map(|(job, place)| self.errand(job, place)).collect();
            let lost = taken - errands.len();
            relay::hand_on(&self.inside.executor, errands);
            state = self.state.lock();
            // Cancelled since.
            state.in_flight -= lost;
        }
    }

    fn errand(self: &Arc<Self>, job: Job, place: Place) -> Option<Errand> {
        let shared = self.clone();
        Errand::of(job, Copy::None, move |job, run, outcome| {
            shared.state.lock().in_flight -= 1;
            // Whoever hears of the outcome finds room.
            drop(place);
            relay::settle(job, 0, run, outcome);
            shared.hand_on();
        })
    }
}

impl<E: Executor + 'static> Executor for Limited<E> {
    fn name(&self) -> &'static str {
        "Limited"
    }

    fn max_workers(&self) -> usize {
        self.shared.inside.executor.max_workers().min(self.shared.limit)
    }

    fn pending_max(&self) -> usize {
        self.shared.pending_max
    }

    fn pending_bytes_max(&self) -> usize {
        self.shared.pending_bytes_max
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        let Shared { inside, admission, state, .. } = &*self.shared;
        for call in calls {
            match admission.place(call.weight()) {
                Ok(place) => {
                    let Some(job) = inside.in_flight.admit(call) else { continue };
                    state.lock().queue.push_back((job, place));
                }
                Err(error) => call.refuse(error),
            }
        }
        self.shared.hand_on();
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.shared.inside.shutdown(pending)
    }
}

impl<E: fmt::Debug> fmt::Debug for Limited<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Limited {} {:?}>", self.shared.limit, self.shared.inside.executor)
    }
}
