//! Where a controller's engines are made: threads here, child processes, and others of the same kinds in their place.

use actix::prelude::*;

use crate::actors::{Engine, EngineParts, Scheduler};
use crate::error::Error;
use crate::messages::{GetStatus, Retire};
#[cfg(not(all(unix, feature = "remote")))]
use crate::no_processes::Processes;
#[cfg(all(unix, feature = "remote"))]
use crate::process::Processes;
use crate::task::EngineId;

/// Where further engines are made.
#[derive(Clone)]
pub(super) struct Nursery {
    pub(super) arbiter: ArbiterHandle,
    pub(super) parts: EngineParts,
    pub(super) scheduler: Addr<Scheduler>,
}

impl Nursery {
    /// Starts engines; returns their ids when all have joined.
    pub(super) async fn add(
        &self,
        children: &Processes,
        threads: usize,
        processes: usize,
    ) -> Result<Vec<EngineId>, Error> {
        let mut ids = Vec::with_capacity(threads + processes);
        for _ in 0..threads {
            ids.push(Engine::join(self.parts.clone(), self.scheduler.clone()).await?);
        }
        ids.extend(children.launch(processes).await?);
        Ok(ids)
    }

    /// Lets engines go, then starts as many of the same kinds.
    pub(super) async fn restart(
        &self,
        children: &Processes,
        mut engines: Vec<EngineId>,
    ) -> Result<Vec<EngineId>, Error> {
        // One that is named twice goes once, and one comes for it.
        engines.sort_unstable();
        engines.dedup();
        let status = self.scheduler.send(GetStatus).await.map_err(|_| Error::ClusterStopped)?;
        let is_local = |id| status.engines.iter().any(|engine| engine.id == id && engine.is_local);
        let dialled = |id: &EngineId| !is_local(*id) && !children.has(*id);
        let is_there = |id: &EngineId| status.engines.iter().any(|engine| engine.id == *id);
        if let Some(engine) = engines.iter().copied().find(|id| is_there(id) && dialled(id)) {
            return Err(Error::StartedElsewhere { engine });
        }
        let threads = engines.iter().filter(|id| is_local(**id)).count();
        let processes = engines.len() - threads;
        let retire = Retire { engines, cause: "it was restarted on request".into() };
        self.scheduler.send(retire).await.map_err(|_| Error::ClusterStopped)??;
        self.add(children, threads, processes).await
    }
}
