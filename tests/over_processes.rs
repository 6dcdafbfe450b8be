//! The promises of executors, on engines that are child processes. With a `main` of its own: each child is this very
//! program.
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;

mod conformance;
mod support;
use conformance::{Maker, Subject};

fn on_processes<E: Executor + 'static>(engines: usize, executor: impl FnOnce(&callboard::Client) -> E) -> Subject {
    let cluster = Cluster::processes(engines).start().unwrap();
    Subject { executor: Box::new(executor(&cluster.client())), guard: Box::new(cluster) }
}

fn main() {
    callboard::init();
    let makers = [
        Maker { name: "ViewExecutor", workers: 1, make: || on_processes(2, |rc| rc.engine(-1).unwrap().executor()) },
        Maker { name: "ViewExecutor", workers: 2, make: || on_processes(2, |rc| rc.all().executor()) },
        Maker { name: "ViewExecutor", workers: 2, make: || on_processes(2, callboard::Client::executor) },
    ];
    makers.iter().for_each(conformance::run);
}
