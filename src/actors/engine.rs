//! A thread engine: a control lane that always answers, and a worker thread that runs tasks.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::Scheduler;
use super::lane::Lane;
use super::spin::Spin;
use super::threads::Threads;
use super::tray::{Revoked, Tray};
use super::witness::Witness;
use super::worker::Worker;
use crate::apart;
use crate::error::Error;
use crate::ledger::{Assignment, EngineOffer, HandBack};
use crate::messages::{Completion, EngineAddress, HandedBack, Join, Leave, Look, Recall, Revoke, Run, StopEngine};
use crate::registry::Registry;
use crate::task::EngineId;

/// The control lane of an engine whose worker is a thread of this process.
pub struct Engine {
    id: Option<EngineId>,
    tray: Arc<Tray>,
    parts: EngineParts,
    /// Until it has started.
    joining: Option<Joining>,
}

/// What an engine is made of.
#[derive(Clone)]
pub(crate) struct EngineParts {
    pub(crate) registry: Arc<Registry>,
    pub(crate) finished: Arc<Lane<Completion>>,
    pub(crate) handed_back: Recipient<HandedBack>,
    pub(crate) threads: Arc<Threads>,
    pub(crate) patience: Duration,
    /// Who is told what the worker does, where another process has to know.
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

/// Who asked for an engine, and whom it joins.
struct Joining {
    scheduler: Addr<Scheduler>,
    tell: oneshot::Sender<Result<EngineId, Error>>,
}

impl Engine {
    /// Starts an engine on the present arbiter; returns its id when it has joined.
    ///
    /// # Errors
    /// Where the arbiter is gone, or there is no thread for the worker.
    pub(crate) async fn join(parts: EngineParts, scheduler: Addr<Scheduler>) -> Result<EngineId, Error> {
        let (tell, told) = oneshot::channel();
        let joining = Some(Joining { scheduler, tell });
        Self { id: None, tray: Arc::default(), parts, joining }.start();
        told.await.unwrap_or(Err(Error::ClusterStopped))
    }

    /// Starts an engine on the present arbiter that has its id already.
    ///
    /// # Errors
    /// Where there is no thread for the worker.
    #[cfg(feature = "remote")]
    pub(crate) fn start_as(id: EngineId, parts: EngineParts) -> Result<Addr<Self>, Error> {
        let mut engine = Self { id: None, tray: Arc::default(), parts, joining: None };
        engine.begin(id)?;
        Ok(engine.start())
    }

    /// Starts the worker.
    fn begin(&mut self, id: EngineId) -> Result<EngineId, Error> {
        self.id = Some(id);
        let worker = Worker {
            engine: id,
            tray: self.tray.clone(),
            registry: self.parts.registry.clone(),
            finished: self.parts.finished.clone(),
            handed_back: self.parts.handed_back.clone(),
            spin: Spin::new(self.parts.patience),
            witness: self.parts.witness.clone(),
        };
        self.parts.threads.spawn(format!("cb-engine-{id}"), move || worker.run())?;
        Ok(id)
    }

    fn hand_back(&self, tasks: Vec<Assignment>) {
        let Some(engine) = self.id else { return };
        if tasks.is_empty() {
            return;
        }
        let batch = tasks.into_iter().map(HandBack::unstarted).collect();
        self.parts.handed_back.do_send(HandedBack { engine, batch });
    }
}

impl Actor for Engine {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(Joining { scheduler, tell }) = self.joining.take() else { return };
        let address = EngineAddress::of(ctx.address()).telling(ctx.address().recipient());
        let offer = EngineOffer { slots: 1, is_local: true, tasks: None };
        let joined = scheduler.send(Join { offer, address }).into_actor(self);
        // No message is handled before: an engine without an id could hand nothing back.
        ctx.wait(joined.map(move |id, engine, ctx| {
            let begun = id.map_err(|_| Error::ClusterStopped).and_then(|id| engine.begin(id));
            if let (Err(error), Some(id)) = (&begun, engine.id) {
                scheduler.do_send(Leave { engine: id, cause: error.to_string().into(), had: Vec::new() });
                ctx.stop();
            }
            // Who asked may have gone away.
            let _ = tell.send(begun);
        }));
    }
}

impl Handler<Run> for Engine {
    type Result = ();

    fn handle(&mut self, msg: Run, _: &mut Context<Self>) {
        self.tray.put(msg.batch);
    }
}

impl Handler<Revoke> for Engine {
    type Result = ();

    fn handle(&mut self, msg: Revoke, _: &mut Context<Self>) {
        let mut back = Vec::new();
        for task in msg.tasks {
            match self.tray.revoke(task) {
                Revoked::NotStarted(assignment) => back.push(assignment),
                // It has been asked to stop; its outcome comes when it returns. Or it has come already.
                Revoked::Running(rest) => back.extend(rest),
                Revoked::NotHere => {}
            }
        }
        self.hand_back(back);
    }
}

impl Handler<Recall> for Engine {
    type Result = ();

    fn handle(&mut self, _: Recall, _: &mut Context<Self>) {
        let left = self.tray.take_all();
        self.hand_back(left);
    }
}

impl Handler<Look> for Engine {
    type Result = ();

    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        // Who asked may have gone away.
        let _ = msg.tell.send(self.tray.is_at());
    }
}

impl Handler<StopEngine> for Engine {
    type Result = ();

    fn handle(&mut self, _: StopEngine, ctx: &mut Context<Self>) {
        let left = self.tray.stop();
        self.hand_back(left);
        ctx.stop();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // However the arbiter ends, the worker ends too.
        apart::discard(self.tray.abandon());
    }
}
