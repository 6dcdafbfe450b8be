//! Engines are added and removed in a loop while tens of thousands of tasks run. In a process of its own, which
//! counts its threads.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Attempt, EngineEvent, EngineEvents, EngineId, Error, Policy};

mod support;
use support::{eventually, our_threads};

const PATIENCE: Duration = Duration::from_secs(20);
const REMOVED: &str = "it was removed from the cluster";

/// How often each task ran.
const TASKS: usize = 1 << 20;
static RUNS: [AtomicU8; TASKS] = [const { AtomicU8::new(0) }; TASKS];

#[task]
fn square(x: u64) -> u64 {
    RUNS[x as usize].fetch_add(1, Ordering::Relaxed);
    x * x
}

/// Some of the numbers, each given once.
struct Numbers(std::ops::Range<u64>);

impl Numbers {
    fn next(&mut self, count: usize) -> std::ops::Range<u64> {
        let from = self.0.start;
        self.0.start += count as u64;
        assert!(self.0.start <= self.0.end, "the numbers have run out");
        from..self.0.start
    }
}

/// What became of the tasks of one thread.
#[derive(Default)]
struct Tally {
    settled: u64,
    ran: u64,
    lost: u64,
}

/// Any engine may run these, so each has its value, of its first attempt, whichever engines go.
fn run_anywhere(rc: &Client, numbers: &mut Numbers, tally: &mut Tally) {
    let view = rc.load_balanced();
    let singles: Vec<_> = numbers.next(1_000).map(|x| (x, view.apply(square(x)))).collect();
    let items = numbers.next(1_000);
    let map = view.map(square, items.clone());
    for (x, ar) in &singles {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
        assert_eq!(ar.metadata().attempt, Attempt(1), "moving on uses no attempt");
        assert_eq!(RUNS[*x as usize].load(Ordering::Relaxed), 1, "{x}");
    }
    assert_eq!(map.get_timeout(PATIENCE).unwrap(), items.clone().map(|x| x * x).collect::<Vec<_>>());
    assert!(items.clone().all(|x| RUNS[x as usize].load(Ordering::Relaxed) == 1));
    tally.settled += 2_000;
    tally.ran += 2_000;
}

/// One engine may run each of these: it runs, or never began because the engine went.
fn run_where_bound(rc: &Client, numbers: &mut Numbers, tally: &mut Tally) {
    let every = rc.every();
    let items = numbers.next(300);
    let map = every.map(square, items.clone());
    let outcomes = map.results().unwrap();
    assert_eq!(outcomes.len(), 300);
    for (x, outcome) in items.zip(outcomes) {
        let runs = RUNS[x as usize].load(Ordering::Relaxed);
        tally.settled += 1;
        match outcome {
            Ok(value) => {
                assert_eq!((value, runs), (x * x, 1));
                tally.ran += 1;
            }
            Err(TaskError::EngineLost { attempt, cause, .. }) => {
                assert_eq!((attempt, runs), (Attempt(0), 0), "{x} is lost before it began");
                assert!(&*cause == REMOVED || &*cause == "it has left the cluster", "{cause}");
                tally.lost += 1;
            }
            Err(error) => panic!("{x}: {error}"),
        }
    }
}

/// Adds two engines and removes two, again and again; the oldest, so that the order is known.
fn come_and_go(cluster: &Cluster, rounds: u32) {
    let rc = cluster.client();
    for _ in 0..rounds {
        let added = cluster.add_threads(2).get_timeout(PATIENCE).unwrap();
        let oldest: Vec<_> = rc.ids().into_iter().take(2).collect();
        assert!(added[0] > oldest[1], "ids are never given twice");
        cluster.remove_engines(oldest.clone()).get_timeout(PATIENCE).unwrap();
        assert!(rc.ids().iter().all(|id| !oldest.contains(id)), "they have left");
    }
}

/// Each engine came once, in the order of their ids, and all but the last two went once, after they came.
fn check_events(mut events: EngineEvents, rounds: u32) {
    let (mut there, mut seen) = (BTreeSet::from([0, 1]), 2);
    for _ in 0..4 * rounds {
        match events.recv_timeout(PATIENCE).unwrap().unwrap() {
            EngineEvent::Joined { engine } => {
                assert_eq!(engine, EngineId(seen));
                seen += 1;
                there.insert(engine.0);
            }
            EngineEvent::Left { engine, cause } => {
                assert!(there.remove(&engine.0), "{engine} went and was not there");
                assert_eq!(&*cause, REMOVED);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(there, BTreeSet::from([2 * rounds, 2 * rounds + 1]));
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), None, "the cluster has ended");
}

#[test]
fn whichever_engines_come_and_go_each_task_settles_once_and_nothing_is_left() {
    const ROUNDS: u32 = 60;
    let (mut given, mut lost) = (0, 0);
    for policy in [Policy::LeastLoad, Policy::Lru, Policy::TwoBin] {
        let cluster = Cluster::threads(2).policy(policy).start().unwrap();
        let rc = cluster.client();
        let events = rc.engine_events();
        let is_over = AtomicBool::new(false);
        let per_thread = (TASKS / 6) as u64;
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let work = |first: u64, round: fn(&Client, &mut Numbers, &mut Tally)| {
                let (rc, is_over) = (rc.clone(), &is_over);
                let mut numbers = Numbers(first..first + per_thread);
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    // Ten thousand at least, and as long as engines come and go.
                    while tally.settled < 10_000 || !is_over.load(Ordering::Relaxed) {
                        if numbers.0.end - numbers.0.start < 2_000 {
                            break;
                        }
                        round(&rc, &mut numbers, &mut tally);
                    }
                    tally
                })
            };
            let threads = [work(given, run_anywhere), work(given + per_thread, run_where_bound)];
            come_and_go(&cluster, ROUNDS);
            is_over.store(true, Ordering::Relaxed);
            threads.map(|thread| thread.join().unwrap()).into()
        });
        given += 2 * per_thread;
        let [settled, ran, gone] = [|t: &Tally| t.settled, |t: &Tally| t.ran, |t: &Tally| t.lost]
            .map(|count| tallies.iter().map(count).sum::<u64>());
        assert_eq!(settled, ran + gone);
        assert!(tallies.iter().all(|tally| tally.settled >= 10_000));
        lost += gone;

        let status = rc.queue_status().get_timeout(PATIENCE).unwrap();
        assert_eq!((status.pending, status.queued, status.settled), (0, 0, settled), "{policy:?}");
        assert_eq!(rc.ids(), [EngineId(2 * ROUNDS), EngineId(2 * ROUNDS + 1)]);
        eventually("the threads of engines that went have ended", || {
            our_threads().iter().filter(|name| name.starts_with("cb-engine")).count() == 2
        });
        cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
        check_events(events, ROUNDS);
        eventually("no thread is left", || our_threads().is_empty());
        assert!(matches!(rc.wait().get(), Err(Error::ClusterStopped)));
    }
    println!("{lost} bound tasks were lost before they began");
}
