//! A client that takes what its tasks return more slowly than engines make it: no more is made than waits for it.
#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Blob, Client, Listen};

mod support;
use support::Forwarder;

const PATIENCE: Duration = Duration::from_secs(20);

/// What one task returns, in bytes.
const VALUE_BYTES: usize = 100_000;

/// How many there are: of half a gigabyte.
const VALUES: usize = 5_000;

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// How many values were made by [`make`].
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Takes no time, so that engines make more than is taken.
#[task]
fn make(n: u64) -> Blob {
    MADE.fetch_add(1, Ordering::Relaxed);
    vec![n as u8; VALUE_BYTES].into()
}

#[test]
fn for_a_client_that_takes_little_no_more_is_made_than_waits_for_it_and_it_gets_everything() {
    let (cluster, network) = (Cluster::threads(2).start().unwrap(), Forwarder::start());
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    let rc = Client::connect(listening.client_file()).get().unwrap();
    let view = rc.load_balanced();
    let all: Vec<_> = (0..VALUES).map(|n| view.apply(make(n as u64))).collect();
    let (mut taken, mut most) = (0, 0);
    while taken < all.len() {
        // It takes something for a moment, again and again.
        network.stand_still();
        std::thread::sleep(Duration::from_millis(200));
        network.open();
        std::thread::sleep(Duration::from_millis(20));
        taken += all[taken..].iter().take_while(|ar| ar.ready()).count();
        most = most.max(MADE.load(Ordering::Relaxed).saturating_sub(taken) * VALUE_BYTES);
        assert_eq!(cluster.client().load_balanced().apply(square(3)).get_timeout(PATIENCE), Ok(9));
    }
    println!("{} MiB at most were made and not taken, of {} in all", most >> 20, (VALUES * VALUE_BYTES) >> 20);
    // 64 MiB, what is on its way, and what came since it was counted.
    assert!(most < 160 << 20, "{} MiB", most >> 20);
    for (n, ar) in all.iter().enumerate() {
        let is_right = ar.peek(|value| value.as_ref().is_ok_and(|value| value[..] == vec![n as u8; VALUE_BYTES]));
        assert_eq!(is_right, Some(true), "{n}");
    }
}

/// As much as takes more than may wait, at once.
#[task]
fn make_much(bytes: usize) -> Blob {
    vec![7; bytes].into()
}

#[test]
fn a_client_that_stands_still_for_seconds_while_much_is_on_its_way_gets_it() {
    const BYTES: usize = 200 << 20;
    let (cluster, network) = (Cluster::threads(1).start().unwrap(), Forwarder::start());
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    let rc = Client::connect(listening.client_file()).get().unwrap();
    let much = rc.load_balanced().apply(make_much(BYTES));
    while cluster.client().queue_status().get().unwrap().settled == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    network.stand_still();
    // Less than it takes to be given up for silent.
    std::thread::sleep(Duration::from_millis(2_500));
    network.open();
    let much = much.get_timeout(PATIENCE).unwrap();
    assert!(much.len() == BYTES && much.iter().all(|byte| *byte == 7));
}
