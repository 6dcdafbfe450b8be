//! Everything at once, at random: singles, maps, cancels, splits, retries, deadlines, engines that come and go. At
//! the end each task has settled once, with its value or an outcome that it may have, and nothing is left.
//!
//! A failure names its seed; `CALLBOARD_SEED=.. cargo test --test chaos` tries that one again. `CALLBOARD_CASES` is how
//! many rounds each thread makes.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Limits, LoadBalancedView, Policy, Status};

mod support;
use support::{eventually, our_threads};

/// How often each task started, by what tells it from all others.
static STARTS: Mutex<Option<HashMap<u64, u16>>> = Mutex::new(None);

/// Takes as long, and ends, as `x` says: most at once and well.
#[task]
fn mixed(x: u64) -> Result<u64, String> {
    *STARTS.lock().unwrap().get_or_insert_default().entry(x).or_default() += 1;
    match x % 1_000 {
        0 => std::thread::sleep(Duration::from_millis(40)),
        1..10 => std::thread::sleep(Duration::from_millis(x % 5)),
        10..30 => return Err(format!("{x} is bad")),
        30..40 => panic!("{x} is worse"),
        _ => {}
    }
    Ok(x + 1)
}

const PATIENCE: Duration = Duration::from_secs(20);
const PENDING_MAX: usize = 50_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a task may end as, beside what its code makes of it.
#[derive(Clone, Copy, Default)]
struct May {
    be_cancelled: bool,
    time_out: bool,
    /// How often it may start again.
    retries: u16,
}

fn check(x: u64, outcome: &Result<u64, TaskError>, may: May) {
    match outcome {
        Ok(value) => assert!(*value == x + 1 && !(10..40).contains(&(x % 1_000)), "{x}: {value}"),
        Err(TaskError::Failed { text, .. }) => assert_eq!(**text, format!("{x} is bad")),
        Err(TaskError::Panicked { message, .. }) => assert_eq!(**message, format!("{x} is worse")),
        Err(TaskError::Cancelled { .. }) => assert!(may.be_cancelled, "{x}"),
        Err(TaskError::TimedOut { .. }) => assert!(may.time_out, "{x}"),
        Err(error) => panic!("{x}: {error}"),
    }
    let starts = STARTS.lock().unwrap().get_or_insert_default().get(&x).copied().unwrap_or(0);
    assert!(starts <= 1 + may.retries, "{x} started {starts} times");
    let has_run = !matches!(outcome, Err(TaskError::Cancelled { .. } | TaskError::TimedOut { .. }));
    assert!(starts >= u16::from(has_run), "{x} has an outcome and never ran");
}

/// Numbers that no other thread uses.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: u64) -> std::ops::Range<u64> {
        let first = self.0;
        self.0 += count;
        first..self.0
    }
}

fn view(random: &mut Random, rc: &Client) -> (LoadBalancedView, May) {
    let mut view = rc.load_balanced().with();
    let mut may = May::default();
    match random.below(8) {
        0 => view = view.chunksize(1 + random.below(50) as u32),
        1 => {
            may.retries = random.below(3) as u16;
            view = view.retries(may.retries);
        }
        2 => {
            may.time_out = true;
            view = view.deadline(Duration::from_millis(random.below(20)));
        }
        3 => view = view.label("chaos"),
        4 => view = view.keep(),
        _ => {}
    }
    (view, may)
}

/// One thing that a program does.
fn one_round(random: &mut Random, rc: &Client, numbers: &mut Numbers) {
    let (view, mut may) = view(random, rc);
    let count = [1, 10, 300, 3_000][random.below(4) as usize];
    let range = numbers.take(count);
    match random.below(9) {
        0 => {
            let results: Vec<_> = range.clone().map(|x| view.apply(mixed(x))).collect();
            if random.below(2) == 0 {
                may.be_cancelled = true;
                results.iter().step_by(3).for_each(|ar| _ = ar.cancel("chaos"));
            }
            for (x, ar) in range.zip(&results) {
                check(x, &ar.get_timeout(PATIENCE), may);
            }
        }
        1 => {
            let ar = view.map(mixed, range.clone());
            if random.below(2) == 0 {
                may.be_cancelled = true;
                std::thread::sleep(Duration::from_micros(random.below(2_000)));
                ar.cancel("chaos");
            }
            ar.wait_timeout(PATIENCE).unwrap();
            let records = ar.metadata();
            for ((x, outcome), record) in range.zip(ar.results().unwrap()).zip(records) {
                check(x, &outcome, may);
                assert_eq!(outcome.is_ok(), record.status == Status::Done);
            }
        }
        2 => {
            let ar = rc.every().map(mixed, range.clone());
            // What is bound to an engine that goes is lost.
            for (x, outcome) in range.zip(ar) {
                if !matches!(outcome, Err(TaskError::EngineLost { .. } | TaskError::NoEngines)) {
                    check(x, &outcome, may);
                }
            }
        }
        3 => {
            let results = view.map(mixed, range.clone()).split();
            may.be_cancelled = true;
            for ar in results.iter().skip(random.below(3) as usize).step_by(1 + random.below(9) as usize) {
                ar.cancel("chaos");
            }
            for (x, mut ar) in range.zip(results) {
                check(x, &ar.take_timeout(PATIENCE), may);
            }
        }
        4 => {
            let mut seen = vec![false; count as usize];
            for (position, outcome) in view.map(mixed, range.clone()).as_completed() {
                assert!(!std::mem::replace(&mut seen[position], true), "position {position} came twice");
                check(range.start + position as u64, &outcome, may);
            }
            assert!(seen.into_iter().all(|seen| seen), "each came");
        }
        5 => {
            // The rest is cancelled with the iterator.
            let executor = view.executor();
            for (x, outcome) in range.clone().zip(executor.map(mixed, range)).take(100) {
                check(x, &outcome, may);
            }
        }
        6 => drop(view.map(mixed, range)),
        7 => drop(view.map(mixed, range).cancel_on_drop()),
        _ => {
            let results: Vec<_> = range.clone().map(|x| view.apply(mixed(x))).collect();
            let waited = rc.wait().get_timeout(PATIENCE);
            waited.unwrap_or_else(|error| panic!("{error}: {:?}", rc.queue_status().get()));
            for (x, mut ar) in range.zip(results) {
                assert!(ar.ready(), "{x} was submitted before the wait");
                check(x, &ar.take(), may);
            }
        }
    }
}

/// Adds and removes engines until it is over; never the last.
fn shake(cluster: &Cluster, random: &mut Random, is_over: &AtomicBool) {
    let rc = cluster.client();
    while !is_over.load(Ordering::Relaxed) {
        if rc.len() < 4 || random.below(2) == 0 && rc.len() < 8 {
            cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
        } else {
            let oldest = rc.ids()[0];
            cluster.remove_engines([oldest]).get_timeout(PATIENCE).unwrap();
        }
        match random.below(10) {
            0 => rc.purge().get_timeout(PATIENCE).unwrap(),
            1 => drop(rc.queue_status().get_timeout(PATIENCE).unwrap()),
            _ => std::thread::sleep(Duration::from_micros(random.below(3_000))),
        }
    }
}

/// Ten thousand panics would hide everything else.
fn quiet() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !std::thread::current().name().is_some_and(|name| name.starts_with("cb-")) {
            default(info);
        }
    }));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn everything_at_once_settles_each_task_once_and_leaves_nothing() {
    quiet();
    let seed =
        number("CALLBOARD_SEED").unwrap_or_else(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    println!("CALLBOARD_SEED={seed}");
    let rounds = number("CALLBOARD_CASES").unwrap_or(40);
    let mut random = Random(seed);
    let policies = [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted];
    let mut limits = Limits::default();
    limits.pending_tasks_max = PENDING_MAX;
    limits.records_max = 1_000;
    let policy = policies[random.below(5) as usize];
    let cluster = Cluster::threads(3).policy(policy).limits(limits).start().unwrap();
    let rc = cluster.client();
    let is_over = Arc::new(AtomicBool::new(false));

    std::thread::scope(|scope| {
        let mut shaken = Random(random.below(u64::MAX));
        let (shaken_cluster, over) = (&cluster, is_over.clone());
        let shaker = scope.spawn(move || shake(shaken_cluster, &mut shaken, &over));
        let programs: Vec<_> = (0..3_u64)
            .map(|program| {
                let (mut random, rc) = (Random(random.below(u64::MAX)), rc.clone());
                scope.spawn(move || {
                    let mut numbers = Numbers(program << 40);
                    (0..rounds).for_each(|_| one_round(&mut random, &rc, &mut numbers));
                })
            })
            .collect();
        let ends: Vec<_> = programs.into_iter().map(|program| program.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        shaker.join().unwrap_or_else(|_| panic!("CALLBOARD_SEED={seed}"));
        assert!(ends.iter().all(Result::is_ok), "CALLBOARD_SEED={seed}");
    });

    rc.wait().get_timeout(PATIENCE).unwrap();
    eventually("every engine is free", || {
        let status = rc.queue_status().get().unwrap();
        status.engines.iter().all(|engine| engine.outstanding == 0 && engine.queued == 0)
    });
    let status = rc.queue_status().get().unwrap();
    assert_eq!((status.pending, status.queued), (0, 0), "CALLBOARD_SEED={seed}");
    // Admission has given everything back: all of it is there again.
    let all = rc.load_balanced().map(mixed, (1 << 50)..(1 << 50) + PENDING_MAX as u64);
    assert!(all.results().unwrap().iter().all(|outcome| !matches!(outcome, Err(TaskError::Overloaded { .. }))));
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    eventually("no thread is left", || our_threads().is_empty());
}
