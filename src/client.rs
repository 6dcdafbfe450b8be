//! A handle on a running cluster: its engines, its views, its records.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::async_result::Reply;
use crate::controller::Addresses;
use crate::error::{Coded, Error, TaskError};
use crate::ledger::QueueStatus;
use crate::messages::{FetchKept, GetRecord, GetRecords, GetStatus, Kept, Pending, Purge, Stop, TakeIn};
use crate::task::{EngineId, Record, TaskId};
use crate::views::{DirectView, EngineView, Link, LinkParts, LoadBalancedView};

/// A client of a cluster. Cheap to clone; clones are the same client.
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
    addresses: Addresses,
}

impl Client {
    pub(crate) fn new(link: LinkParts, addresses: Addresses) -> Self {
        Self { link: Link::new(link), addresses }
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
        let have = self.ids();
        let found = match usize::try_from(index) {
            Ok(id) => have.iter().find(|engine| engine.0 as usize == id),
            Err(_) => usize::try_from(index.unsigned_abs())
                .ok()
                .and_then(|back| have.len().checked_sub(back))
                .and_then(|at| have.get(at)),
        };
        match found {
            Some(&engine) => Ok(EngineView::new(self.link.clone(), engine)),
            None => Err(Error::NoSuchEngine { asked: index, have }),
        }
    }

    /// Returns a view of the engines that are there now; each runs every task. `rc[:]` in ipyparallel.
    pub fn all(&self) -> DirectView {
        DirectView::new(self.link.clone(), self.ids().into())
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

    /// Asks where the tasks are.
    pub fn queue_status(&self) -> Reply<QueueStatus> {
        Reply::ask(self.addresses.scheduler.clone().recipient().send(GetStatus))
    }

    /// Asks what is remembered of a task.
    ///
    /// Answers [`Error::UnknownResult`] for a task that was never submitted, or whose record was removed.
    pub fn record(&self, task: TaskId) -> Reply<Record> {
        let (taken_in, store) = (self.addresses.scheduler.send(TakeIn), self.addresses.result_store.clone());
        Reply::new(async move {
            taken_in.await.map_err(|_| Error::ClusterStopped)?;
            store.send(GetRecord { task }).await.map_err(|_| Error::ClusterStopped)?
        })
    }

    /// Asks for the records of all settled tasks that are remembered, oldest first.
    pub fn records(&self) -> Reply<Vec<Record>> {
        Reply::ask(self.addresses.result_store.clone().recipient().send(GetRecords))
    }

    /// Asks for the value of a task that was submitted with [`keep`](crate::With::keep), by its id.
    ///
    /// Answers [`Error::UnknownResult`] if it was not kept, and [`TaskError::ResultEvicted`] if there was no room
    /// for it any more. Waits for a task that is not settled.
    pub fn fetch<T: DeserializeOwned + Send + 'static>(&self, task: TaskId) -> Reply<T> {
        let (taken_in, store) = (self.addresses.scheduler.send(TakeIn), self.addresses.result_store.clone());
        Reply::new(async move {
            taken_in.await.map_err(|_| Error::ClusterStopped)?;
            loop {
                match store.send(FetchKept { task }).await.map_err(|_| Error::ClusterStopped)?? {
                    Kept::Value(bytes) => return read_kept(task, &bytes),
                    Kept::Pending(settled) => drop(settled.await),
                }
            }
        })
    }

    /// Has the result store forget the records and kept values of settled tasks.
    pub fn purge(&self) -> Reply<()> {
        Reply::ask(self.addresses.result_store.clone().recipient().send(Purge))
    }

    /// Has the cluster accept nothing more; answered when every task is settled.
    ///
    /// The engines' threads end with the [`Cluster`](crate::Cluster).
    pub fn shutdown(&self, pending: Pending) -> Reply<()> {
        Reply::ask(self.addresses.scheduler.clone().recipient().send(Stop { pending }))
    }

    /// Returns the addresses of the cluster's actors.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

fn read_kept<T: DeserializeOwned>(task: TaskId, bytes: &[u8]) -> Result<T, Error> {
    postcard::from_bytes(bytes)
        .map_err(|error| TaskError::undecodable(Coded::Result, &format!("task {task}"), &error.to_string()).into())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Client {:?}>", self.ids())
    }
}
