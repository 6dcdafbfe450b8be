//! Questions that count when they are asked.
//!
//! actix skips a message that was `send` once nobody waits for its answer any more, and holds it back while the mailbox
//! is full until somebody does. What a caller orders is to be done also where the caller does not look.

use actix::dev::{MessageResponse, OneshotSender};
use actix::prelude::*;
use tokio::sync::oneshot;

use super::{ResultStore, Scheduler};
#[cfg(all(unix, feature = "remote"))]
use crate::host::{LeaveHosts, RunOnHosts};
use crate::messages::{
    AwaitSettled, FetchKept, GetRecord, GetRecords, GetState, GetStatus, Purge, PurgeClient, Stop, Subscribe, TakeIn,
};

/// A message, and where its answer goes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Asked<M: Message> {
    message: M,
    tell: OneshotSender<M::Result>,
}

#[cfg(feature = "remote")]
impl<M: Message> Asked<M> {
    pub(crate) fn new(message: M, tell: OneshotSender<M::Result>) -> Self {
        Self { message, tell }
    }

    pub(crate) fn into_parts(self) -> (M, OneshotSender<M::Result>) {
        (self.message, self.tell)
    }
}

/// Asks an actor; the receiver hears the answer, or that the actor is gone.
pub(crate) fn ask<M>(actor: &Recipient<Asked<M>>, message: M) -> oneshot::Receiver<M::Result>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let (tell, told) = oneshot::channel();
    actor.do_send(Asked { message, tell });
    told
}

/// Whom to ask.
#[cfg(all(unix, feature = "remote"))]
pub(crate) type ToAsk<M> = Recipient<Asked<M>>;

/// Where a client's questions go: to a Scheduler and a ResultStore, or to whoever stands for them in this process.
#[derive(Clone)]
pub(crate) struct Questions {
    pub(crate) subscribe: Recipient<Asked<Subscribe>>,
    pub(crate) take_in: Recipient<Asked<TakeIn>>,
    pub(crate) status: Recipient<Asked<GetStatus>>,
    pub(crate) state: Recipient<Asked<GetState>>,
    /// Has outcomes taken in that have come.
    pub(crate) outcomes: Recipient<Asked<TakeIn>>,
    pub(crate) stop: Recipient<Asked<Stop>>,
    pub(crate) settled: Recipient<Asked<AwaitSettled>>,
    pub(crate) record: Recipient<Asked<GetRecord>>,
    pub(crate) records: Recipient<Asked<GetRecords>>,
    pub(crate) fetch: Recipient<Asked<FetchKept>>,
    pub(crate) purge: Recipient<Asked<Purge>>,
    /// Asked for a client elsewhere.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "there are no clients elsewhere"))]
    pub(crate) purge_client: Recipient<Asked<PurgeClient>>,
    /// Of a controller elsewhere.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) run_on_hosts: Option<ToAsk<RunOnHosts>>,
    /// The same.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) leave_hosts: Option<ToAsk<LeaveHosts>>,
}

impl Questions {
    /// To the actors of a cluster of this process.
    pub(crate) fn to(scheduler: &Addr<Scheduler>, store: &Addr<ResultStore>) -> Self {
        Self {
            subscribe: scheduler.clone().recipient(),
            take_in: scheduler.clone().recipient(),
            status: scheduler.clone().recipient(),
            state: scheduler.clone().recipient(),
            outcomes: store.clone().recipient(),
            stop: scheduler.clone().recipient(),
            settled: store.clone().recipient(),
            record: store.clone().recipient(),
            records: store.clone().recipient(),
            fetch: store.clone().recipient(),
            purge: store.clone().recipient(),
            purge_client: store.clone().recipient(),
            #[cfg(all(unix, feature = "remote"))]
            run_on_hosts: None,
            #[cfg(all(unix, feature = "remote"))]
            leave_hosts: None,
        }
    }
}

macro_rules! can_be_asked {
    ($($actor:ty),*) => {$(
        impl<M> Handler<Asked<M>> for $actor
        where
            Self: Handler<M>,
            M: Message + 'static,
        {
            type Result = ();

            fn handle(&mut self, msg: Asked<M>, ctx: &mut Context<Self>) {
                Handler::handle(self, msg.message, ctx).handle(ctx, Some(msg.tell));
            }
        }
    )*};
}

can_be_asked!(Scheduler, ResultStore);
