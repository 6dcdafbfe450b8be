//! What actors say to each other: plain data, in the order in which one task meets it.
//!
//! ```text
//!   caller            Scheduler            Engine            ResultStore         Callbacks
//!     |    Submit         |                   |                   |                  |
//!     |------------------>|  Watch            |                   |                  |
//!     |                   |-------------------------------------->|                  |
//!     |                   |  Run              |                   |                  |
//!     |                   |------------------>|  Finished         |                  |
//!     |                   |                   |------------------>|  Dispatch        |
//!     |   the waiter of the AsyncResult is settled                |----------------->|
//!     |<----------------------------------------------------------|                  |  TaskDone
//!     |                   |  Settled          |                   |                  |-----> subscribers
//!     |                   |<--------------------------------------|                  |
//!     |    Cancel         |                   |                   |
//!     |------------------>|  Revoke           |                   |
//!     |                   |------------------>|                   |
//!     |                   |  HandedBack       |                   |
//!     |                   |<------------------|                   |
//! ```
//!
//! Every message about tasks carries a batch: a hop costs more than a task that does nothing.
//!
//! An engine is whatever takes [`Run`] and joins. This one answers every task with 99:
//!
//! ```
//! use actix::prelude::*;
//! use callboard::actors::{ResultStore, Scheduler};
//! use callboard::ledger::EngineOffer;
//! use callboard::messages::{Completion, EngineAddress, Finished, Join, Recall, Revoke, Run, StopEngine};
//! use callboard::{EngineId, prelude::*, task::Value};
//!
//! struct Always99 {
//!     scheduler: Addr<Scheduler>,
//!     store: Addr<ResultStore>,
//!     id: Option<EngineId>,
//! }
//!
//! impl Actor for Always99 {
//!     type Context = Context<Self>;
//!
//!     fn started(&mut self, ctx: &mut Context<Self>) {
//!         let address = EngineAddress::of(ctx.address());
//!         let join = Join { offer: EngineOffer { slots: 1, is_local: false, tasks: None }, address };
//!         let joining = self.scheduler.send(join).into_actor(self);
//!         ctx.wait(joining.map(|id, this, _| this.id = id.ok()));
//!     }
//! }
//!
//! impl Handler<Run> for Always99 {
//!     type Result = ();
//!     fn handle(&mut self, msg: Run, _: &mut Context<Self>) {
//!         let done = |task: callboard::ledger::Assignment| Completion {
//!             id: task.id,
//!             count: 1,
//!             attempt: task.attempt,
//!             engine: self.id,
//!             at: None,
//!             ran: None,
//!             outcome: Ok(Value::of(99_u64)),
//!             kept: None,
//!             printed: None,
//!         };
//!         self.store.do_send(Finished { batch: msg.batch.into_iter().map(done).collect() });
//!     }
//! }
//!
//! impl Handler<Revoke> for Always99 {
//!     type Result = ();
//!     fn handle(&mut self, _: Revoke, _: &mut Context<Self>) {} // what it was sent is done already
//! }
//!
//! impl Handler<Recall> for Always99 {
//!     type Result = ();
//!     fn handle(&mut self, _: Recall, _: &mut Context<Self>) {}
//! }
//!
//! impl Handler<StopEngine> for Always99 {
//!     type Result = ();
//!     fn handle(&mut self, _: StopEngine, ctx: &mut Context<Self>) {
//!         ctx.stop();
//!     }
//! }
//! # #[task] fn square(x: u64) -> u64 { x * x }
//!
//! # System::new().block_on(async {
//! let cluster = Cluster::threads(1).start()?;
//! let addresses = cluster.addresses();
//! let (scheduler, store) = (addresses.scheduler.clone(), addresses.result_store.clone());
//! let engine = Always99 { scheduler, store, id: None }.start();
//! let rc = cluster.client();
//! rc.wait_for_engines(2).await?;
//! assert_eq!(rc.all().apply(square(7)).await?, [49, 99]);
//! # drop(engine);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod submit;
mod watch;
mod run;
mod finished;
mod join;
mod done;
mod control;

pub use control::{
    AwaitSettled, FetchKept, Flow, GetRecord, GetRecords, GetState, GetStatus, Kept, LoseAll, Pending, Purge,
    PurgeClient, Stop, TakeIn,
};
pub use done::{Callback, Discard, Dispatch, TaskDone};
pub use finished::{Completion, Finished, HandedBack, Settled};
pub use join::{EngineAddress, EngineEvent, Failing, Join, Leave, Retire, Subscribe};
pub use run::{Look, Manner, Recall, Revoke, Run, StopEngine};
pub use submit::{Cancel, Submission, Submit};
pub use watch::{Aftermath, Expect, MoreCallbacks, Settle, Waiter, Watch, Watched};
