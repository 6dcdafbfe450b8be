//! The keeper: one thread of each pool that brings its workers to the number that is needed, and ends them at last.
//!
//! Whoever submits, resizes or shuts the pool down changes what is wanted and wakes it. Workers that die are launched again by
//! their cluster, without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};

use super::demand::Demand;
use crate::async_result::Reply;
use crate::cluster::Cluster;
use crate::error::{Error, TaskError};
use crate::executors::InFlight;
use crate::limits::check_workers;
use crate::messages::Pending;
use crate::task::EngineId;

/// How long no worker is launched after one whose initializer failed: it would likely fail again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the keeper waits where workers are to go that are just being replaced.
const AGAIN: Duration = Duration::from_millis(50);

/// How long an answer is waited for that says that a worker has just died.
const REFUSAL: Duration = Duration::from_millis(10);

/// What a pool and its keeper share.
pub(super) struct Shared {
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the keeper is to hear of what is submitted.
    is_attentive: AtomicBool,
    is_over: watch::Sender<bool>,
}

struct State {
    demand: Demand,
    /// Workers that are there or on their way: those that died and are launched again, too.
    present: usize,
    /// Tasks that are not settled; there once the pool has started.
    in_flight: Option<InFlight>,
    /// No worker is launched before, since one has failed.
    not_before: Option<Instant>,
    /// Workers have failed, so they are launched for work only.
    has_failed: bool,
    /// Where workers that are to go are being replaced.
    again_at: Option<Instant>,
    resizing: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Nothing is in flight, and nothing comes any more.
    is_over: bool,
}

/// What the keeper does next.
enum Step {
    Add(usize),
    Remove(usize),
    End,
}

impl Shared {
    pub(super) fn new(demand: Demand) -> Arc<Self> {
        let is_attentive = AtomicBool::new(demand.is_elastic());
        let state = State {
            present: demand.max(),
            demand,
            in_flight: None,
            not_before: None,
            has_failed: false,
            again_at: None,
            resizing: Vec::new(),
            is_over: false,
        };
        let (changed, is_over) = (Condvar::new(), watch::Sender::new(false));
        Arc::new(Self { began: Instant::now(), state: Mutex::new(state), changed, is_attentive, is_over })
    }

    pub(super) fn workers_max(&self) -> usize {
        self.state.lock().demand.max()
    }

    /// Something was submitted.
    pub(super) fn on_submit(&self) {
        if self.is_attentive.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            if state.needed(self.began) > state.present {
                self.changed.notify_one();
            }
        }
    }

    pub(super) fn resize(&self, n: usize) -> Reply<()> {
        if let Err(error) = check_workers("the number of workers", n) {
            return Reply::refused(error);
        }
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.is_over {
            state.demand.resize(n);
            state.resizing.push(tell);
            self.changed.notify_one();
        }
        Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) })
    }

    /// A worker's initializer failed, and it is not launched again.
    pub(super) fn on_unfit(&self, reason: &str) {
        let mut state = self.state.lock();
        state.present = state.present.saturating_sub(1);
        self.on_failure(state, format!("its initializer failed: {reason}").into());
    }

    /// A worker cannot run tasks. Where none is left, nothing that waits can be run.
    fn on_failure(&self, mut state: parking_lot::MutexGuard<'_, State>, text: Box<str>) {
        tracing::warn!(%text, "a worker of a process pool failed");
        state.has_failed = true;
        state.not_before = Some(Instant::now() + PAUSE);
        self.is_attentive.store(true, Ordering::Release);
        for resizing in state.resizing.drain(..) {
            // Who asked may have gone away.
            let _ = resizing.send(Err(Error::EngineFailed { cause: text.clone() }));
        }
        let hopeless = if state.present == 0 { state.in_flight.clone() } else { None };
        self.changed.notify_one();
        drop(state);
        if let Some(in_flight) = hopeless {
            in_flight.fail_all(TaskError::WorkersFailed { text });
        }
    }

    /// Answers when nothing is left.
    pub(super) fn ended(self: &Arc<Self>) -> Reply<()> {
        let (mut is_over, shared) = (self.is_over.subscribe(), self.clone());
        Reply::new(async move {
            let waited = is_over.wait_for(|&is_over| is_over).await;
            drop(shared);
            waited.map(drop).map_err(|_| Error::ClusterStopped)
        })
    }

    /// Waits until there is something to do.
    fn next(&self) -> Step {
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return Step::End;
            }
            let now = Instant::now();
            let needed = state.needed(self.began);
            let is_pause = state.not_before.is_some_and(|until| now < until);
            let is_again = state.again_at.is_none_or(|at| now >= at);
            if needed > state.present && !is_pause {
                let missing = needed - state.present;
                // Before they are there: one that fails at once is taken off.
                state.present = needed;
                return Step::Add(missing);
            }
            if needed < state.present && is_again {
                return Step::Remove(state.present - needed);
            }
            if needed == state.present {
                for resizing in state.resizing.drain(..) {
                    let _ = resizing.send(Ok(()));
                }
            }
            let looks = [
                state.demand.looks_again_at().map(|at| self.began + at),
                state.not_before.filter(|_| needed > state.present),
                state.again_at.filter(|_| needed < state.present),
            ];
            match looks.into_iter().flatten().min() {
                Some(at) => drop(self.changed.wait_until(&mut state, at)),
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl State {
    fn needed(&mut self, began: Instant) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, InFlight::len);
        let needed = self.demand.needed(began.elapsed(), in_flight);
        // None is launched for nothing where they fail; those that are there stay.
        if self.has_failed { needed.min(in_flight.max(self.present)) } else { needed }
    }
}

/// Starts the keeper of a cluster, whose workers have joined. It ends the cluster when `in_flight` is over.
pub(super) fn keep(cluster: Cluster, shared: &Arc<Shared>, in_flight: &InFlight) -> Result<(), Error> {
    let (ending, keeper) = (shared.clone(), shared.clone());
    shared.state.lock().in_flight = Some(in_flight.clone());
    in_flight.when_over(move || {
        ending.state.lock().is_over = true;
        ending.changed.notify_one();
    });
    let work = move || {
        let mut leaving = Vec::new();
        loop {
            match keeper.next() {
                Step::Add(n) => add(&cluster, &keeper, n),
                Step::Remove(n) => remove(&cluster, &keeper, n, &mut leaving),
                Step::End => break,
            }
        }
        // Nothing runs any more; what is in the way was printed.
        let _ = cluster.shutdown(Pending::Cancel).get();
        let mut state = keeper.state.lock();
        (state.in_flight, state.resizing) = (None, Vec::new());
        drop(state);
        keeper.is_over.send_replace(true);
    };
    let started = std::thread::Builder::new().name("cb-pool-keeper".into()).spawn(work);
    started.map(drop).map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })
}

fn add(cluster: &Cluster, shared: &Shared, n: usize) {
    if let Err(error) = cluster.add_processes(n).get() {
        let mut state = shared.state.lock();
        // Those of the other launches that joined count on.
        state.present = cluster.client().len();
        shared.on_failure(state, error.to_string().into());
    }
}

/// Lets `n` workers go, those first that have least to do; `leaving` are those that were let go, and finish what they run.
fn remove(cluster: &Cluster, shared: &Shared, n: usize, leaving: &mut Vec<EngineId>) {
    let status = cluster.client().queue_status().get().unwrap_or_default();
    leaving.retain(|id| status.engines.iter().any(|engine| engine.id == *id));
    let stay = status.engines.iter().filter(|engine| !leaving.contains(&engine.id));
    let mut workers: Vec<_> = stay.map(|engine| (engine.outstanding, engine.id)).collect();
    workers.sort_unstable();
    let going: Vec<EngineId> = workers.into_iter().take(n).map(|(_, id)| id).collect();
    // One that has just died is not there, and then none goes.
    let refused = matches!(
        cluster.remove_engines(going.iter().copied()).get_timeout(REFUSAL),
        Err(Error::NoSuchEngine { .. } | Error::ClusterStopped)
    );
    let mut state = shared.state.lock();
    if !refused {
        state.present -= going.len().min(state.present);
        leaving.extend(going);
    }
    state.again_at = Some(Instant::now() + AGAIN);
}
