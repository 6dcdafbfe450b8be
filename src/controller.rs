//! The controller: the arbiter that carries the actors, and its end.

mod actors;
mod carrier;
mod nursery;

use std::sync::{Arc, mpsc};
use std::thread::ThreadId;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::actors::{Callbacks, End, ResultStore, Scheduler, Threads};
use crate::async_result::{Reply, block_on};
use crate::error::Error;
use crate::ledger::Policy;
use crate::limits::{Limits, check_workers};
use crate::messages::{Discard, Pending, Stop};
#[cfg(not(all(unix, feature = "remote")))]
use crate::no_processes::{Children, Processes};
#[cfg(all(unix, feature = "remote"))]
use crate::process::{Children, Processes};
use crate::registry::Registry;
use crate::task::EngineId;
use crate::views::LinkParts;
use carrier::Carrier;
use nursery::Nursery;

pub(crate) use actors::Actors;

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
    carrier: Carrier,
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
        let carrier = match System::try_current() {
            Some(_) => Carrier::guest(plan, threads.clone(), tell)?,
            None => Carrier::own(plan, threads.clone(), tell)?,
        };
        let started = started.recv().unwrap_or(Err(Error::ClusterStopped));
        match started {
            Ok(started) => Ok(Self::of(started, carrier, threads, limits)),
            Err(error) => {
                carrier.stop();
                // Engines that did start end with the arbiter; the error to report is the first one.
                let _ = threads.join(limits.stop_wait(), std::thread::current().id());
                Err(error)
            }
        }
    }

    fn of(started: Started, carrier: Carrier, threads: Arc<Threads>, limits: Limits) -> Self {
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
            Arc::new(crate::launchers::Launches::new(network.clone(), roster, retire, limits.clone()))
        };
        Self {
            #[cfg(all(unix, feature = "remote"))]
            network,
            #[cfg(all(unix, feature = "remote"))]
            launches,
            carrier,
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
        // One of the two is none; no more than there are is a wish that is granted.
        let more = threads.max(processes);
        if more > 0
            && let Err(error) = check_workers("the number of engines", more)
        {
            return Reply::refused(error);
        }
        self.make(move |nursery, children| async move { nursery.add(&children, threads, processes).await })
    }

    /// Lets engines go, and starts as many of the same kinds in their place.
    pub(crate) fn restart(&self, engines: Vec<EngineId>) -> Reply<Vec<EngineId>> {
        self.make(move |nursery, children| async move { nursery.restart(&children, engines).await })
    }

    /// Has engines made on the arbiter.
    fn make<F>(&self, engines: impl FnOnce(Nursery, Processes) -> F + Send + 'static) -> Reply<Vec<EngineId>>
    where
        F: Future<Output = Result<Vec<EngineId>, Error>> + Send,
    {
        if self.link.roster.is_closed() {
            return Reply::refused(Error::ClusterStopped);
        }
        let (tell, told) = oneshot::channel();
        let (nursery, children) = (self.nursery.clone(), self.processes.clone());
        // Where the arbiter is gone, the sender is dropped with this, and that is the answer.
        let _ = self.nursery.arbiter.spawn(async move {
            let _ = tell.send(engines(nursery, children).await);
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
        #[cfg(all(unix, feature = "remote"))]
        self.launches.halt();
        // What was settled has been dispatched; once this is answered, it has been handed to threads.
        let _ = block_on(callbacks.send(Discard { batch: Vec::new() }), None);
        let _ = block_on(scheduler.send(End), None);
        let _ = block_on(result_store.send(End), None);
        let _ = block_on(callbacks.send(End), None);
        self.carrier.stop();
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

/// Starts the actors on the present arbiter, and the engines.
async fn set_up(plan: Plan, threads: Arc<Threads>) -> Result<Started, Error> {
    let Plan { thread_engines, process_engines, children, limits, registry, policy } = plan;
    let Actors { parts, addresses, link } = Actors::start(limits.clone(), registry, policy, threads);
    let processes = Processes::new(parts.clone(), addresses.scheduler.clone(), limits, children);
    let nursery = Nursery { arbiter: Arbiter::current(), parts, scheduler: addresses.scheduler.clone() };
    if let Err(error) = nursery.add(&processes, thread_engines, process_engines).await {
        // The children that did join end with their sessions.
        processes.halt();
        // Where there is no thread for it, what is left ends with its arbiter.
        let _ = std::thread::Builder::new().name("cb-shutdown".into()).spawn(move || processes.end());
        return Err(error);
    }
    Ok(Started { nursery, processes, addresses, link })
}
