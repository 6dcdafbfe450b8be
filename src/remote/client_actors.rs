//! The actors of a client whose controller is elsewhere: those of a cluster, but for the Scheduler, for which the
//! controller's proxy stands.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::controller_proxy::{ControllerProxy, ControllerProxyParts};
use crate::actors::{CallbackCounts, Callbacks, End, Lane, Questions, ResultStore, ResultStoreParts, Roster, Threads};
use crate::admission::Admission;
use crate::limits::Limits;
use crate::messages::Settled;
use crate::registry::Registry;
use crate::views::LinkParts;

/// They, and what the client's views are made with.
pub(crate) struct ClientActors {
    pub(crate) proxy: Addr<ControllerProxy>,
    pub(crate) link: LinkParts,
    store: Addr<ResultStore>,
    callbacks: Addr<Callbacks>,
}

impl ClientActors {
    /// Starts them in the present task set, for the client of this number; `ready` is told when it is known which
    /// engines there are.
    pub(crate) fn start(
        client: u64,
        limits: Limits,
        registry: Registry,
        threads: Arc<Threads>,
        ready: oneshot::Sender<()>,
    ) -> Self {
        let counts = Arc::new(CallbackCounts::default());
        let (admission, roster) = (Arc::new(Admission::new(&limits)), Arc::new(Roster::new()));
        let (submissions, finished) = (Lane::new(), Lane::new());
        let callbacks = Callbacks::new(&limits, threads, counts.clone()).start();
        let mut store = None;
        let proxy = ControllerProxy::create(|ctx| {
            let scheduler: Recipient<Settled> = ctx.address().recipient();
            let result_store = ResultStore::new(ResultStoreParts {
                limits: limits.clone(),
                scheduler,
                callbacks: callbacks.clone(),
                admission: admission.clone(),
                finished: finished.clone(),
            });
            let store = store.insert(result_store.start());
            let parts = ControllerProxyParts {
                client,
                store: store.clone(),
                callbacks: callbacks.clone(),
                counts: counts.clone(),
                roster: roster.clone(),
                submissions: submissions.clone(),
                finished: finished.clone(),
                registry: Arc::new(registry),
                patience: limits.spin(),
            };
            ControllerProxy::new(parts, ready)
        });
        let store = store.expect("`create` runs its closure before it returns");
        let questions = Questions {
            subscribe: proxy.clone().recipient(),
            take_in: proxy.clone().recipient(),
            status: proxy.clone().recipient(),
            state: proxy.clone().recipient(),
            outcomes: store.clone().recipient(),
            stop: proxy.clone().recipient(),
            settled: store.clone().recipient(),
            record: proxy.clone().recipient(),
            records: proxy.clone().recipient(),
            fetch: proxy.clone().recipient(),
            purge: proxy.clone().recipient(),
            purge_client: store.clone().recipient(),
            run_on_hosts: Some(proxy.clone().recipient()),
            leave_hosts: Some(proxy.clone().recipient()),
        };
        let cancel = proxy.clone().recipient();
        let callbacks_too = callbacks.clone();
        let link =
            LinkParts { limits, submissions, admission, roster, cancel, questions, callbacks: callbacks_too, counts };
        Self { proxy, link, store, callbacks }
    }

    /// Ends them, once everything is settled; the proxy has ended.
    pub(crate) async fn end(self) {
        // A mailbox that is closed is an actor that is gone already.
        let _ = self.store.send(End).await;
        let _ = self.callbacks.send(End).await;
    }
}
