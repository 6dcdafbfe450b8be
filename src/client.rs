//! A handle on a running cluster: its engines, its views, its records.

use std::fmt;
use std::sync::Arc;

use actix::{Message, Recipient};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

#[cfg(all(unix, feature = "remote"))]
use crate::actors::ToAsk;
use crate::actors::{Asked, Questions, ask};
use crate::async_result::Reply;
use crate::engine_events::EngineEvents;
use crate::error::{Coded, Error, TaskError};
#[cfg(all(unix, feature = "remote"))]
use crate::host::{LeaveHosts, RunOnHosts};
use crate::ledger::QueueStatus;
use crate::messages::{
    AwaitSettled, EngineEvent, FetchKept, GetRecord, GetRecords, GetStatus, Kept, Pending, Purge, Stop, Subscribe,
    TakeIn,
};
use crate::task::{EngineId, Record, TaskId};
use crate::views::{DirectView, EngineView, Link, LinkParts, LoadBalancedView, Selection, find};

/// A client of a cluster. Cheap to clone; clones are the same client.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(4).start()?;
/// let rc = cluster.client();
/// assert_eq!((rc.len(), rc.ids()[3].0), (4, 3));
/// let results: Vec<_> = (0..10).map(|x| rc.load_balanced().apply(square(x))).collect();
/// rc.wait().get()?;
/// assert!(results.iter().all(|ar| ar.ready()));
/// assert_eq!(rc.queue_status().get()?.settled, 10);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
}

impl Client {
    pub(crate) fn new(link: LinkParts) -> Self {
        Self { link: Link::new(link) }
    }

    /// A client of a controller elsewhere, with the number that this knows it by, and what lasts as long as the client.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn connected(link: LinkParts, client: u64, connection: Box<dyn Send + Sync>) -> Self {
        Self { link: Link::connected(link, client, connection) }
    }

    /// Returns the ids of the engines that are there now, in order.
    pub fn ids(&self) -> Vec<EngineId> {
        self.link.roster().ids()
    }

    /// Returns how many engines are there now.
    pub fn len(&self) -> usize {
        self.ids().len()
    }

    /// Returns whether no engine is there now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a view of one engine: the one with this id, or, if negative, counted from the end of
    /// [`ids`](Self::ids).
    ///
    /// # Errors
    /// [`Error::NoSuchEngine`], with the engines there are.
    pub fn engine(&self, index: i64) -> Result<EngineView, Error> {
        let engine = find(index, &self.ids())?;
        Ok(EngineView::new(self.link.clone(), engine))
    }

    /// Returns a view of several of the engines that are there now, each of which runs every task: `rc[0:2]`,
    /// `rc[[0, -1]]`, `rc[::2]` in ipyparallel.
    ///
    /// ```
    /// use callboard::{every_nth, prelude::*};
    ///
    /// let cluster = Cluster::threads(4).start()?;
    /// let rc = cluster.client();
    /// assert_eq!(format!("{:?}", rc.engines(..2)?), "<DirectView [0, 1]>");
    /// assert_eq!(format!("{:?}", rc.engines([0, -1])?), "<DirectView [0, 3]>");
    /// assert_eq!(format!("{:?}", rc.engines(every_nth(1.., 2))?), "<DirectView [1, 3]>");
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchEngine`] for one of a list that is not there, [`Error::Zero`] for a step of zero.
    pub fn engines(&self, selection: impl Into<Selection>) -> Result<DirectView, Error> {
        Ok(self.direct_view(selection.into().among(&self.ids())?))
    }

    /// Returns a view of these engines, each of which runs every task.
    ///
    /// On an engine that is not there a task settles as `EngineLost`; a view of no engines refuses every task.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(4).start()?;
    /// let rc = cluster.client();
    /// let odd = rc.direct_view(rc.ids().into_iter().filter(|id| id.0 % 2 == 1));
    /// assert_eq!(format!("{odd:?}"), "<DirectView [1, 3]>");
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn direct_view(&self, engines: impl IntoIterator<Item = EngineId>) -> DirectView {
        DirectView::new(self.link.clone(), Some(engines.into_iter().collect()))
    }

    /// Returns a view of the engines that are there now; each runs every task. `rc[:]` in ipyparallel.
    ///
    /// Engines that join later are not in it: [`every`](Self::every) has them.
    pub fn all(&self) -> DirectView {
        self.direct_view(self.ids())
    }

    /// Returns a view of all engines, at each call those that are there then. `rc.direct_view('all')` in ipyparallel.
    ///
    /// ```
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let cluster = Cluster::threads(1).start()?;
    /// let (frozen, every) = (cluster.client().all(), cluster.client().every());
    /// cluster.add_threads(2).get()?;
    /// assert_eq!(frozen.apply(square(2)).get()?, [4]);
    /// assert_eq!(every.apply(square(2)).get()?, [4, 4, 4]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn every(&self) -> DirectView {
        DirectView::new(self.link.clone(), None)
    }

    /// Returns a view that gives each task to the least loaded engine, also of those that join later.
    pub fn load_balanced(&self) -> LoadBalancedView {
        LoadBalancedView::new(self.link.clone(), None)
    }

    /// Returns a view that gives each task to the least loaded of these engines.
    ///
    /// A view of no engines refuses every task.
    pub fn load_balanced_view(&self, engines: impl IntoIterator<Item = EngineId>) -> LoadBalancedView {
        LoadBalancedView::new(self.link.clone(), Some(engines.into_iter().collect()))
    }

    /// Waits until at least `count` engines are there.
    ///
    /// Answers [`Error::ClusterStopped`] once the cluster was shut down: no engine joins it any more.
    pub fn wait_for_engines(&self, count: usize) -> Reply<()> {
        let mut engines = self.link.roster().watch();
        Reply::new(async move {
            let enough = engines.wait_for(|there| there.is_none_or(|there| there >= count)).await;
            match enough {
                Ok(there) if there.is_some() => Ok(()),
                _ => Err(Error::ClusterStopped),
            }
        })
    }

    /// Follows engines that join and leave, from now on.
    pub fn engine_events(&self) -> EngineEvents {
        EngineEvents::new(self.link.roster().follow())
    }

    /// Has an actor told of engines that join and leave, from now on, each when it has handled the one before. If it
    /// is too slow it is told how many it [missed](EngineEvent::Missed). It is forgotten when it is gone.
    ///
    /// Answers [`Error::Overloaded`] if too many are told already.
    ///
    /// ```
    /// use actix::prelude::*;
    /// use callboard::{EngineEvent, EngineId, prelude::*};
    ///
    /// struct Pager(Option<tokio::sync::oneshot::Sender<EngineEvent>>);
    ///
    /// impl Actor for Pager {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Handler<EngineEvent> for Pager {
    ///     type Result = ();
    ///     fn handle(&mut self, event: EngineEvent, _: &mut Context<Self>) {
    ///         // The first is enough.
    ///         self.0.take().map(|page| page.send(event));
    ///     }
    /// }
    ///
    /// # System::new().block_on(async {
    /// let cluster = Cluster::threads(1).start()?;
    /// let (tell, told) = tokio::sync::oneshot::channel();
    /// let pager = Pager(Some(tell)).start();
    /// cluster.client().on_engine_event(pager.recipient()).await?;
    /// cluster.add_threads(1).await?;
    /// assert_eq!(told.await, Ok(EngineEvent::Joined { engine: EngineId(1) }));
    /// # cluster.shutdown(Pending::Finish).await
    /// # })?;
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn on_engine_event(&self, to: Recipient<EngineEvent>) -> Reply<()> {
        self.ask_for(|questions| &questions.subscribe, Subscribe { to })
    }

    /// Waits until every task is settled that this client has submitted before.
    ///
    /// ```
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let cluster = Cluster::threads(2).start()?;
    /// let rc = cluster.client();
    /// let results: Vec<_> = (0..100).map(|x| rc.load_balanced().apply(square(x))).collect();
    /// rc.wait().get()?;
    /// assert!(results.iter().all(|ar| ar.ready()));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn wait(&self) -> Reply<()> {
        let before = self.link.next_id();
        let (taken_in, settled) = self.behind_submissions(|questions| &questions.settled);
        let link = self.link.clone();
        Reply::new(async move {
            taken_in.await.map_err(|_| link.gone())?;
            let (tell, told) = oneshot::channel();
            ask(&settled, AwaitSettled { before, tell }).await.map_err(|_| link.gone())?;
            // The sender is dropped when nothing is left.
            let _ = told.await;
            Ok(())
        })
    }

    /// Asks where the tasks are.
    pub fn queue_status(&self) -> Reply<QueueStatus> {
        self.ask(|questions| &questions.status, GetStatus)
    }

    /// Asks what is remembered of a task.
    ///
    /// Answers [`Error::UnknownResult`] for a task that was never submitted, or whose record was removed.
    pub fn record(&self, task: TaskId) -> Reply<Record> {
        let (taken_in, record) = self.behind_submissions(|questions| &questions.record);
        let link = self.link.clone();
        Reply::new(async move {
            taken_in.await.map_err(|_| link.gone())?;
            ask(&record, GetRecord { task }).await.map_err(|_| link.gone())?
        })
    }

    /// Asks for the records of all settled tasks that are remembered, oldest first.
    pub fn records(&self) -> Reply<Vec<Record>> {
        self.ask(|questions| &questions.records, GetRecords)
    }

    /// Asks for the value of a task that was submitted with [`keep`](crate::With::keep), by its id.
    ///
    /// Answers [`Error::UnknownResult`] if it was not kept, and [`TaskError::ResultEvicted`] if there was no room
    /// for it any more. Waits for a task that is not settled.
    pub fn fetch<T: DeserializeOwned + Send + 'static>(&self, task: TaskId) -> Reply<T> {
        let (taken_in, fetch) = self.behind_submissions(|questions| &questions.fetch);
        let link = self.link.clone();
        Reply::new(async move {
            taken_in.await.map_err(|_| link.gone())?;
            loop {
                match ask(&fetch, FetchKept { task }).await.map_err(|_| link.gone())?? {
                    Kept::Value(bytes) => return read_kept(task, &bytes),
                    Kept::Pending(settled) => drop(settled.await),
                }
            }
        })
    }

    /// Has the result store forget the records and kept values of settled tasks.
    pub fn purge(&self) -> Reply<()> {
        self.ask(|questions| &questions.purge, Purge)
    }

    /// Has the cluster accept nothing more; answered when every task is settled.
    ///
    /// The engines' threads end with the [`Cluster`](crate::Cluster).
    pub fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.ask(|questions| &questions.stop, Stop { pending })
    }

    /// Returns where it is asked that a program runs on hosts, and where that its engines end.
    ///
    /// # Errors
    /// [`Error::Launch`] if the cluster is of this process.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn hosts(&self) -> Result<(ToAsk<RunOnHosts>, ToAsk<LeaveHosts>), Error> {
        let Questions { run_on_hosts, leave_hosts, .. } = self.link.questions();
        let problem = "the client's cluster is of this process; call cluster.launch(Hosts::any(), n)";
        let of_here = || Error::Launch { by: "hosts".into(), problem: problem.into() };
        run_on_hosts.clone().zip(leave_hosts.clone()).ok_or_else(of_here)
    }

    /// Says why there was no answer.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn gone(&self) -> Error {
        self.link.gone()
    }

    fn ask<M>(&self, to: impl FnOnce(&Questions) -> &Recipient<Asked<M>>, message: M) -> Reply<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (told, link) = (ask(to(self.link.questions()), message), self.link.clone());
        Reply::new(async move { told.await.map_err(|_| link.gone()) })
    }

    /// As `ask`, what may be refused.
    fn ask_for<M, T>(&self, to: impl FnOnce(&Questions) -> &Recipient<Asked<M>>, message: M) -> Reply<T>
    where
        M: Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let (told, link) = (ask(to(self.link.questions()), message), self.link.clone());
        Reply::new(async move { told.await.map_err(|_| link.gone())? })
    }

    /// Asks that what was submitted before is taken in; with it, where the question goes that waits for that.
    fn behind_submissions<M>(
        &self,
        to: impl FnOnce(&Questions) -> &Recipient<Asked<M>>,
    ) -> (oneshot::Receiver<()>, Recipient<Asked<M>>)
    where
        M: Message + Send,
        M::Result: Send,
    {
        let questions = self.link.questions();
        (ask(&questions.take_in, TakeIn), to(questions).clone())
    }
}

fn read_kept<T: DeserializeOwned>(task: TaskId, bytes: &[u8]) -> Result<T, Error> {
    let reason = match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => return Ok(value),
        Ok((_, rest)) => format!("{} bytes too many: it is of another type", rest.len()),
        Err(error) => error.to_string(),
    };
    Err(TaskError::undecodable(Coded::Result, &format!("task {task}"), &reason).into())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Client {:?}>", self.ids())
    }
}
