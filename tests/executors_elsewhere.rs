//! The promises of executors, where engines are child processes, dial in over TCP, or are those of a controller in another
//! process. With a `main` of its own: each of these is this very program.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use callboard::prelude::*;

mod conformance;
mod support;
use conformance::{Maker, Subject};

const KINDS: [&str; 3] = ["processes", "tcp", "elsewhere"];

/// Of which kind the engines are now.
static KIND: AtomicUsize = AtomicUsize::new(0);

fn on_two<E: Executor + 'static>(executor: impl FnOnce(&callboard::Client) -> E) -> Subject {
    let cluster = support::engines_of(KINDS[KIND.load(Ordering::Relaxed)], 2).start().unwrap();
    Subject { executor: Box::new(executor(&cluster.client())), guard: Box::new(cluster) }
}

fn main() {
    support::engine();
    let makers = [
        Maker { name: "ViewExecutor", workers: 1, make: || on_two(|rc| rc.engine(-1).unwrap().executor()) },
        Maker { name: "ViewExecutor", workers: 2, make: || on_two(|rc| rc.all().executor()) },
        Maker { name: "ViewExecutor", workers: 2, make: || on_two(callboard::Client::executor) },
    ];
    for (number, kind) in KINDS.iter().enumerate() {
        println!("engines: {kind}");
        KIND.store(number, Ordering::Relaxed);
        makers.iter().for_each(conformance::run);
    }
}
