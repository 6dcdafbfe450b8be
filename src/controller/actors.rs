//! The actors of a controller, each with what it is to know of the others.

use std::sync::Arc;

use actix::prelude::*;

use super::Addresses;
use crate::actors::{
    CallbackCounts, Callbacks, EngineParts, Lane, Questions, ResultStore, ResultStoreParts, Roster, Scheduler,
    SchedulerParts, Threads,
};
use crate::admission::Admission;
use crate::ledger::Policy;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::views::LinkParts;

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
