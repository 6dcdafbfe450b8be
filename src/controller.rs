//! The controller: the arbiter that carries the actors, and its end.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{JoinHandle, ThreadId};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::actors::{
    CallbackCounts, Callbacks, End, Engine, EngineParts, Lane, Questions, ResultStore, ResultStoreParts, Roster,
    Scheduler, SchedulerParts, Threads,
};
use crate::admission::Admission;
use crate::async_result::{Reply, block_on};
use crate::error::Error;
use crate::ledger::Policy;
use crate::limits::Limits;
use crate::messages::{Discard, GetStatus, Pending, Retire, Stop};
#[cfg(not(all(unix, feature = "remote")))]
use crate::no_processes::{Children, Processes};
#[cfg(all(unix, feature = "remote"))]
use crate::process::{Children, Processes};
use crate::registry::Registry;
use crate::task::EngineId;
use crate::views::LinkParts;

/// The addresses of a cluster's actors: what its views send to, open to whoever prefers messages.
///
/// See [`messages`](crate::messages) for what each takes.
///
/// ```
/// use callboard::messages::GetStatus;
/// use callboard::prelude::*;
///
/// # actix::System::new().block_on(async {
/// let cluster = Cluster::threads(2).start()?;
/// let status = cluster.addresses().scheduler.send(GetStatus).await.expect("it is there");
/// assert_eq!(status.engines.len(), 2);
/// # cluster.shutdown(Pending::Finish).await
/// # })?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Takes `Submit`, `Cancel`, `Join`, `Leave`, `Retire`, `Subscribe`, `GetStatus`, `Stop`.
    pub scheduler: Addr<Scheduler>,
    /// Takes `Watch`, `Finished`, `GetRecord`, `GetRecords`, `FetchKept`, `AwaitSettled`, `Purge`.
    pub result_store: Addr<ResultStore>,
    /// Takes `Dispatch`, `Discard`.
    pub callbacks: Addr<Callbacks>,
}

/// What a controller is started with.
pub(crate) struct Plan {
    pub(crate) thread_engines: usize,
    pub(crate) process_engines: usize,
    pub(crate) children: Children,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) policy: Policy,
}

/// A running controller.
pub(crate) struct Controller {
    host: Host,
    threads: Arc<Threads>,
    limits: Limits,
    nursery: Nursery,
    processes: Processes,
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) network: crate::net::Network,
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) launches: Arc<crate::launchers::Launches>,
    pub(crate) addresses: Addresses,
    pub(crate) link: LinkParts,
}

/// Where further engines are made.
#[derive(Clone)]
struct Nursery {
    arbiter: ArbiterHandle,
    parts: EngineParts,
    scheduler: Addr<Scheduler>,
}

/// Whose arbiter the actors are on.
enum Host {
    /// A System of our own, on a thread of its own.
    Own { stop: oneshot::Sender<()>, thread: JoinHandle<()> },
    /// An arbiter of the System that the program runs.
    Guest(Arbiter),
}

/// What `set_up` made.
struct Started {
    nursery: Nursery,
    processes: Processes,
    addresses: Addresses,
    link: LinkParts,
}

impl Controller {
    /// Starts the actors and the thread engines; returns when these have joined.
    pub(crate) fn start(plan: Plan) -> Result<Self, Error> {
        let threads = Arc::new(Threads::default());
        let limits = plan.limits.clone();
        let (tell, started) = mpsc::sync_channel(1);
        let host = match System::try_current() {
            Some(_) => Host::guest(plan, threads.clone(), tell)?,
            None => Host::own(plan, threads.clone(), tell)?,
        };
        let started = started.recv().unwrap_or(Err(Error::ClusterStopped));
        match started {
            Ok(started) => Ok(Self::of(started, host, threads, limits)),
            Err(error) => {
                host.stop();
                // Engines that did start end with the arbiter; the error to report is the first one.
                let _ = threads.join(limits.stop_wait(), std::thread::current().id());
                Err(error)
            }
        }
    }

    fn of(started: Started, host: Host, threads: Arc<Threads>, limits: Limits) -> Self {
        let Started { nursery, processes, addresses, link } = started;
        #[cfg(all(unix, feature = "remote"))]
        let network = crate::net::Network::new(
            nursery.arbiter.clone(),
            nursery.parts.clone(),
            addresses.scheduler.clone(),
            link.clone(),
        );
        #[cfg(all(unix, feature = "remote"))]
        let launches = {
            let (roster, retire) = (link.roster.clone(), addresses.scheduler.clone().recipient());
            Arc::new(crate::launchers::Launches::new(network.clone(), roster, retire, limits.stop_wait()))
        };
        Self {
            #[cfg(all(unix, feature = "remote"))]
            network,
            #[cfg(all(unix, feature = "remote"))]
            launches,
            host,
            threads,
            limits,
            nursery,
            processes,
            addresses,
            link,
        }
    }

    /// Starts more thread engines.
    pub(crate) fn add_threads(&self, n: usize) -> Reply<Vec<EngineId>> {
        self.add(n, 0)
    }

    /// Launches more engines that are processes.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn add_processes(&self, n: usize) -> Reply<Vec<EngineId>> {
        self.add(0, n)
    }

    fn add(&self, threads: usize, processes: usize) -> Reply<Vec<EngineId>> {
        if self.link.roster.is_closed() {
            return Reply::new(async { Err(Error::ClusterStopped) });
        }
        let (tell, told) = oneshot::channel();
        let (nursery, children) = (self.nursery.clone(), self.processes.clone());
        // Where the arbiter is gone, the sender is dropped with this, and that is the answer.
        let _ = self.nursery.arbiter.spawn(async move {
            let _ = tell.send(nursery.add(&children, threads, processes).await);
        });
        Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) })
    }

    /// Lets engines go, and starts as many of the same kinds in their place.
    pub(crate) fn restart(&self, engines: Vec<EngineId>) -> Reply<Vec<EngineId>> {
        if self.link.roster.is_closed() {
            return Reply::new(async { Err(Error::ClusterStopped) });
        }
        let (tell, told) = oneshot::channel();
        let (nursery, children) = (self.nursery.clone(), self.processes.clone());
        let _ = self.nursery.arbiter.spawn(async move {
            let _ = tell.send(nursery.restart(&children, engines).await);
        });
        Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) })
    }

    /// Settles everything, ends every thread but `asker`, who waits for it. Blocks.
    ///
    /// # Errors
    /// [`Error::StillRunning`] names engines whose task did not return in time.
    pub(crate) fn stop(self, pending: Pending, asker: ThreadId) -> Result<(), Error> {
        let Addresses { scheduler, result_store, callbacks } = &self.addresses;
        self.processes.halt();
        // A mailbox that is closed is an arbiter that is gone already: everything is settled then.
        let _ = block_on(scheduler.send(Stop { pending }), None);
        // What was settled has been dispatched; once this is answered, it has been handed to threads.
        let _ = block_on(callbacks.send(Discard { batch: Vec::new() }), None);
        let _ = block_on(scheduler.send(End), None);
        let _ = block_on(result_store.send(End), None);
        let _ = block_on(callbacks.send(End), None);
        self.host.stop();
        let ended = self.threads.join(self.limits.stop_wait(), asker);
        // After the children, which are spoken to from there.
        self.processes.end();
        #[cfg(all(unix, feature = "remote"))]
        {
            self.network.end();
            self.launches.end_all();
        }
        ended
    }
}

impl Host {
    fn own(plan: Plan, threads: Arc<Threads>, tell: mpsc::SyncSender<Result<Started, Error>>) -> Result<Self, Error> {
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            System::new().block_on(async move {
                // A receiver that is gone is a caller that panicked; then the sender of `stopped` is gone too.
                let _ = tell.send(set_up(plan, threads).await);
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("cb-controller".into())
            .spawn(serve)
            .map_err(|error| Error::System { doing: "starting the controller's thread", reason: error.to_string() })?;
        Ok(Self::Own { stop, thread })
    }

    fn guest(plan: Plan, threads: Arc<Threads>, tell: mpsc::SyncSender<Result<Started, Error>>) -> Result<Self, Error> {
        let arbiter = Arbiter::try_new()
            .map_err(|error| Error::System { doing: "starting an arbiter", reason: error.to_string() })?;
        arbiter.spawn(async move {
            let _ = tell.send(set_up(plan, threads).await);
        });
        Ok(Self::Guest(arbiter))
    }

    fn stop(self) {
        match self {
            Self::Own { stop, thread } => {
                let _ = stop.send(());
                let _ = thread.join();
            }
            Self::Guest(arbiter) => {
                arbiter.stop();
                let _ = arbiter.join();
            }
        }
    }
}

/// Starts the actors on the present arbiter, and the engines.
async fn set_up(plan: Plan, threads: Arc<Threads>) -> Result<Started, Error> {
    let Plan { thread_engines, process_engines, children, limits, registry, policy } = plan;
    let Actors { parts, addresses, link } = Actors::start(limits.clone(), registry, policy, threads);
    let processes = Processes::new(parts.clone(), addresses.scheduler.clone(), limits, children);
    let nursery = Nursery { arbiter: Arbiter::current(), parts, scheduler: addresses.scheduler.clone() };
    if let Err(error) = nursery.add(&processes, thread_engines, process_engines).await {
        // The children that did join end with their sessions.
        processes.halt();
        std::thread::spawn(move || processes.end());
        return Err(error);
    }
    Ok(Started { nursery, processes, addresses, link })
}

/// The actors, and what engines and clients of theirs are made with.
pub(crate) struct Actors {
    pub(crate) parts: EngineParts,
    pub(crate) addresses: Addresses,
    pub(crate) link: LinkParts,
}

impl Actors {
    /// Starts them in the present task set.
    pub(crate) fn start(limits: Limits, registry: Registry, policy: Policy, threads: Arc<Threads>) -> Self {
        let counts = Arc::new(CallbackCounts::default());
        let (admission, roster) = (Arc::new(Admission::new(&limits)), Arc::new(Roster::new()));
        let (submissions, finished) = (Lane::new(), Lane::new());

        let callbacks = Callbacks::new(&limits, threads.clone(), counts.clone()).start();
        let mut store = None;
        let scheduler = Scheduler::create(|ctx| {
            let settled = ctx.address().recipient();
            let result_store = ResultStore::new(ResultStoreParts {
                limits: limits.clone(),
                scheduler: settled,
                callbacks: callbacks.clone(),
                admission: admission.clone(),
                finished: finished.clone(),
            });
            let store = store.insert(result_store.start());
            Scheduler::new(SchedulerParts {
                limits: limits.clone(),
                store: store.clone(),
                callbacks: callbacks.clone(),
                counts: counts.clone(),
                roster: roster.clone(),
                admission: admission.clone(),
                finished: finished.clone(),
                submissions: submissions.clone(),
                policy,
            })
        });
        let result_store = store.expect("`create` runs its closure before it returns");

        let parts = EngineParts {
            registry: Arc::new(registry),
            finished,
            handed_back: scheduler.clone().recipient(),
            threads,
            patience: limits.spin(),
            witness: None,
        };
        let (cancel, questions) = (scheduler.clone().recipient(), Questions::to(&scheduler, &result_store));
        let callbacks_too = callbacks.clone();
        let link =
            LinkParts { limits, submissions, admission, roster, cancel, questions, callbacks: callbacks_too, counts };
        Self { parts, addresses: Addresses { scheduler, result_store, callbacks }, link }
    }
}

impl Nursery {
    /// Starts engines; returns their ids when all have joined.
    async fn add(&self, children: &Processes, threads: usize, processes: usize) -> Result<Vec<EngineId>, Error> {
        let mut ids = Vec::with_capacity(threads + processes);
        for _ in 0..threads {
            ids.push(Engine::join(self.parts.clone(), self.scheduler.clone()).await?);
        }
        ids.extend(children.launch(processes).await?);
        Ok(ids)
    }

    /// Lets engines go, then starts as many of the same kinds.
    async fn restart(&self, children: &Processes, engines: Vec<EngineId>) -> Result<Vec<EngineId>, Error> {
        let status = self.scheduler.send(GetStatus).await.map_err(|_| Error::ClusterStopped)?;
        let is_local = |id| status.engines.iter().any(|engine| engine.id == id && engine.is_local);
        let threads = engines.iter().filter(|id| is_local(**id)).count();
        let processes = engines.len() - threads;
        let retire = Retire { engines, cause: "it was restarted on request".into() };
        self.scheduler.send(retire).await.map_err(|_| Error::ClusterStopped)??;
        self.add(children, threads, processes).await
    }
}
