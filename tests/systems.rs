//! A cluster in a System that the program runs, and ends: wherever its engines are.
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;
use serde::{Deserialize, Serialize};

mod support;
use support::CommonGate;

/// Panics when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic while one unwinds would end the process, whoever catches what.
        if !std::thread::panicking() {
            panic!("bomb dropped");
        }
    }
}

#[task]
fn takes_a_bomb(bomb: Bomb) -> u8 {
    std::mem::forget(bomb);
    1
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn calls_left_in_a_system_that_ends_first_harm_nobody() {
    let system = actix::System::new();
    let gate = CommonGate::new("left");
    let (cluster, waiting) = system.block_on(async {
        let cluster = support::engines(1).start().unwrap();
        let view = cluster.client().engine(0).unwrap();
        drop(view.apply(gate.task()));
        let waiting: Vec<_> = (0..10).map(|_| view.apply(takes_a_bomb(Bomb))).collect();
        // Once this is answered the first one was sent: a scheduler that outlives its engine for a moment, as the arbiters
        // end one after the other, would else say that this is lost.
        cluster.client().record(waiting[9].id()).await.unwrap();
        actix::System::current().stop();
        (cluster, waiting)
    });
    system.run().unwrap();
    for ar in &waiting {
        assert_eq!(ar.get_timeout(std::time::Duration::from_secs(10)), Err(TaskError::Disconnected));
    }
    gate.open();
    drop(cluster);
}
