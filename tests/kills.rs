//! Engines are killed at random while they work: every task settles once, others take their place, no child is left.
//! With a `main` of its own: each child is this very program. `CALLBOARD_CASES` is how many are killed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Attempt, EngineEvent, EngineEvents, EngineId, Limits, Status};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);
const ENGINES: usize = 4;

/// Safe to run twice, so the loss of an engine is not its end.
#[task(idempotent)]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn spin_us(us: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(us) {}
    us
}

/// The processes that this one has launched and that are there.
fn children() -> Vec<Pid> {
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let lists: Vec<String> = fs::read_dir("/proc/self/task").unwrap().flatten().map(of_thread).collect();
    let ids = lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|id| Pid::from_raw(id.parse().ok()?));
    ids.filter(|id| !is_zombie(*id)).collect()
}

fn is_zombie(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

/// Follows engines until the cluster ends: why those left that did, and how long each time until another joined.
fn follow(mut events: EngineEvents) -> (BTreeMap<EngineId, String>, Vec<Duration>) {
    let (mut left, mut at) = (BTreeMap::new(), (Vec::new(), Vec::new()));
    while let Some(event) = events.recv().unwrap() {
        match event {
            EngineEvent::Left { engine, cause } => {
                left.insert(engine, cause.to_string());
                at.0.push(Instant::now());
            }
            EngineEvent::Joined { .. } => at.1.push(Instant::now()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at.0.len(), at.1.len(), "another was in the place of each");
    // The next may have joined before the scheduler let this one go.
    let mut waits: Vec<_> = at.0.iter().zip(&at.1).map(|(left, joined)| joined.duration_since(*left)).collect();
    waits.sort_unstable();
    (left, waits)
}

/// What became of the tasks of one thread.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    lost: u64,
}

/// Tasks that may start again, one by one and as maps.
fn work_that_may_start_again(rc: &Client, is_over: &AtomicBool) -> Tally {
    let view = rc.load_balanced().with().retries_on_loss(1_000);
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let singles: Vec<_> = (0..1_000).map(|x| view.apply(square(x))).collect();
        let map = view.map(square, 0..1_000);
        for (x, ar) in (0..).zip(&singles) {
            assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
        }
        assert_eq!(map.get_timeout(PATIENCE).unwrap(), (0..1_000).map(|x| x * x).collect::<Vec<u64>>());
        tally.done += 2_000;
    }
    tally
}

/// Tasks that may not: each has its value of its first attempt, or is lost with its engine.
fn work_that_may_not(rc: &Client, is_over: &AtomicBool) -> Tally {
    let view = rc.load_balanced();
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let singles: Vec<_> = (0..200).map(|n| view.apply(spin_us(n))).collect();
        for (n, ar) in (0..).zip(&singles) {
            match ar.get_timeout(PATIENCE) {
                Ok(value) => {
                    assert_eq!((value, ar.metadata().attempt), (n, Attempt(1)));
                    tally.done += 1;
                }
                Err(TaskError::EngineLost { attempt, cause, .. }) => {
                    assert_eq!((attempt, ar.metadata().status), (Attempt(1), Status::Lost));
                    assert!(cause.contains("signal: 9"), "{cause}");
                    tally.lost += 1;
                }
                Err(other) => panic!("{other}: {:?} {:?}", ar.id(), rc.queue_status().get_timeout(PATIENCE)),
            }
        }
    }
    tally
}

/// Kills engines at random moments; returns how many.
fn kill_some(kills: u64, seed: u64) -> u64 {
    let mut random = seed | 1;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut killed = 0;
    while killed < kills {
        thread::sleep(Duration::from_micros(1_000 + next(30_000)));
        let children = children();
        let Some(id) = children.get(next(children.len().max(1) as u64) as usize) else { continue };
        killed += u64::from(kill_process(*id, Signal::KILL).is_ok());
    }
    killed
}

fn main() {
    callboard::init();
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let kills: u64 = number("CALLBOARD_CASES").unwrap_or(60);
    let seed: u64 =
        number("CALLBOARD_SEED").unwrap_or_else(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    println!("CALLBOARD_SEED={seed}");

    let mut limits = Limits::default();
    limits.engine_restarts_max = u32::MAX;
    let cluster = Cluster::processes(ENGINES).limits(limits).start().unwrap();
    let rc = cluster.client();
    let events = rc.engine_events();
    let following = thread::spawn(move || follow(events));
    let is_over = AtomicBool::new(false);
    let (killed, tallies) = thread::scope(|scope| {
        let again = scope.spawn(|| work_that_may_start_again(&rc, &is_over));
        let once = scope.spawn(|| work_that_may_not(&rc, &is_over));
        let killed = kill_some(kills, seed);
        is_over.store(true, Ordering::Relaxed);
        (killed, [again.join().unwrap(), once.join().unwrap()])
    });
    let status = rc.queue_status().get_timeout(PATIENCE).unwrap();
    assert_eq!((status.pending, status.queued), (0, 0));
    assert_eq!(status.settled, tallies.iter().map(|tally| tally.done + tally.lost).sum::<u64>());
    rc.wait_for_engines(ENGINES).get_timeout(PATIENCE).unwrap();

    assert_eq!(rc.len(), ENGINES);
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(children(), [], "no child is left");

    // Each that had joined and was killed has left, and another was in its place.
    let (left, waits) = following.join().unwrap();
    assert!(left.values().all(|cause| cause.contains("signal: 9")), "{left:?}");
    assert!(left.len() <= killed as usize && left.len() > killed as usize / 2, "{} of {killed} left", left.len());
    let (half, most) = (waits[waits.len() / 2], waits[(waits.len() - 1) * 99 / 100]);
    assert!(most < Duration::from_secs(1), "replaced within {most:?}");
    println!("{killed} killed, {tallies:?}; another joined within {half:?} (p50), {most:?} (p99)");
}
