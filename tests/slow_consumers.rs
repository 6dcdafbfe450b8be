//! Clients that take nothing of what their tasks return: each is cut off before that fills the controller's memory, and nobody
//! else notices.
#![cfg(all(target_os = "linux", feature = "remote"))]
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Blob, Client, Listen};
use cap::Cap;

mod support;
use support::{Forwarder, eventually, resident};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const PATIENCE: Duration = Duration::from_secs(20);

/// What one task returns, in bytes.
const VALUE_BYTES: usize = 100_000;

/// What is produced, in bytes: more than twice as much as may wait for a client.
const PRODUCED_BYTES: usize = 200 << 20;

/// Takes 5 ms, so that two engines make 40 MB a second.
#[task]
fn produce(n: u64) -> Blob {
    std::thread::sleep(Duration::from_millis(5));
    vec![n as u8; VALUE_BYTES].into()
}

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Counts the lines of the log that tell of a slow client.
struct Cuts(Arc<AtomicUsize>);

impl tracing::Subscriber for Cuts {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct IsCut(bool);

        impl tracing::field::Visit for IsCut {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= format!("{value:?}").contains("takes too little of what is said to it");
            }
        }

        let mut is_cut = IsCut(false);
        event.record(&mut is_cut);
        self.0.fetch_add(is_cut.0.into(), Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_what_was_kept_is_there_for_another() {
    let cuts = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Cuts(cuts.clone())).unwrap();
    let (cluster, network) = (Cluster::threads(2).start().unwrap(), Forwarder::start());
    let directory = tempfile::tempdir().unwrap();
    let listen = |directory| Listen::at("127.0.0.1:0").directory(directory);
    let slow = cluster.listen(listen(directory.path()).reached_at(network.address())).unwrap();
    network.forward_to(slow.address());
    let rc = Client::connect(slow.client_file()).get().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let direct = cluster.listen(listen(elsewhere.path())).unwrap();
    let other = Client::connect(direct.client_file()).get().unwrap();
    assert_eq!(other.load_balanced().apply(square(2)).get_timeout(PATIENCE), Ok(4));
    let (before, allocated) = (resident(), ALLOCATOR.allocated());

    let kept = rc.load_balanced().with().keep().apply(square(9));
    let much: Vec<_> = (0..PRODUCED_BYTES / VALUE_BYTES).map(|n| rc.load_balanced().apply(produce(n as u64))).collect();
    assert_eq!(kept.get_timeout(PATIENCE), Ok(81));
    network.stand_still();
    let (mut most, mut waits) = (0, Vec::new());
    while cuts.load(Ordering::Relaxed) == 0 {
        let asked = Instant::now();
        assert_eq!(other.load_balanced().apply(square(3)).get_timeout(PATIENCE), Ok(9));
        waits.push(asked.elapsed());
        most = most.max(resident().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(5));
        let has_value = |ar: &AsyncResult<Blob>| ar.peek(Result::is_ok).unwrap_or(false);
        assert!(!much.iter().all(has_value), "it takes everything");
    }
    waits.sort_unstable();
    let (most_waits, slowest) = (waits[waits.len() * 9 / 10], waits[waits.len() - 1]);
    println!("{} MiB more at most; another client waited for {most_waits:?}, {slowest:?} at most", most >> 20);
    // 64 MiB, and what is on its way.
    assert!(most < 80 << 20, "{} MiB", most >> 20);
    // Of a busy machine one may be slow, but none waits for the other client.
    assert!(most_waits < Duration::from_millis(500) && slowest < Duration::from_secs(5), "{most_waits:?} {slowest:?}");
    eventually("what waited for it is dropped", || ALLOCATOR.allocated().saturating_sub(allocated) < 8 << 20);

    // It is told when it is back, and begins anew.
    let lost = much.last().unwrap().get_timeout(PATIENCE);
    assert_eq!(lost, Err(TaskError::Disconnected));
    network.cut();
    network.open();
    let anew = Client::connect(slow.client_file()).get().unwrap();
    assert_eq!(anew.fetch::<u64>(kept.id()).get_timeout(PATIENCE), Ok(81));
    eventually("it is back", || rc.queue_status().get_timeout(PATIENCE).is_ok());
    // Behind what it had submitted before, which runs on.
    assert_eq!(rc.load_balanced().apply(square(5)).get_timeout(4 * PATIENCE), Ok(25));
}
