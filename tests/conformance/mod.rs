//! What every executor promises. `run` takes anything that makes one, and checks it all.
//!
//! Tasks are `#[task]`s of this module and share nothing with the tests but values and files, so executors of
//! other processes can be checked too. What a test cannot see without shared memory it learns from files in a
//! directory of its own ([`Scratch`]).
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{
    AsyncResult, Awaitable, Error, MapOptions, Promise, ReturnWhen, Status, TaskState, ThreadPoolExecutor,
    as_completed, wait,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use crate::support::eventually;

/// An executor and what must outlive it.
pub struct Subject {
    pub executor: Box<dyn Executor>,
    pub guard: Box<dyn Guard>,
}

impl Subject {
    /// An executor that outlives nothing.
    pub fn of(executor: impl Executor + 'static) -> Self {
        Self { executor: Box::new(executor), guard: Box::new(()) }
    }
}

/// What must outlive an executor.
pub trait Guard {
    /// Waits until what was cancelled has arrived where it is, if that is elsewhere. What a test does besides, by files,
    /// goes another way.
    fn catch_up(&self) {}
}

impl Guard for () {}

impl Guard for Cluster {}

impl Guard for crate::support::Cluster {
    fn catch_up(&self) {
        self.client().queue_status().get().unwrap();
    }
}

/// An executor under its name, and how to make a new one of two workers.
pub struct Maker {
    pub name: &'static str,
    pub workers: usize,
    pub make: fn() -> Subject,
}

type Check = fn(&Maker);

/// Every promise.
const CHECKS: &[(&str, Check)] = &[
    ("a_value_comes", a_value_comes),
    ("an_error_is_an_outcome", an_error_is_an_outcome),
    ("a_panic_is_an_outcome_and_the_worker_lives_on", a_panic_is_an_outcome_and_the_worker_lives_on),
    ("as_many_tasks_run_at_once_as_it_says", as_many_tasks_run_at_once_as_it_says),
    ("what_is_queued_can_be_cancelled_and_never_runs", what_is_queued_can_be_cancelled_and_never_runs),
    ("what_runs_can_be_cancelled_and_learns_of_it", what_runs_can_be_cancelled_and_learns_of_it),
    ("what_does_not_listen_can_be_cancelled_by_force", what_does_not_listen_can_be_cancelled_by_force),
    ("only_what_a_worker_began_has_started", only_what_a_worker_began_has_started),
    ("what_runs_is_told_from_what_waits", what_runs_is_told_from_what_waits),
    ("a_value_that_cannot_be_read_spoils_no_other", a_value_that_cannot_be_read_spoils_no_other),
    ("arguments_are_freed_once_they_are_not_needed", arguments_are_freed_once_they_are_not_needed),
    ("map_keeps_the_order", map_keeps_the_order),
    ("map_takes_items_lazily", map_takes_items_lazily),
    ("map_takes_an_endless_input", map_takes_an_endless_input),
    ("map_never_has_more_than_its_buffer_unread", map_never_has_more_than_its_buffer_unread),
    ("map_takes_items_in_chunks", map_takes_items_in_chunks),
    ("map_refuses_zeros", map_refuses_zeros),
    ("map_ends_when_its_time_is_up", map_ends_when_its_time_is_up),
    ("map_goes_on_after_an_error", map_goes_on_after_an_error),
    ("map_cancels_the_rest_when_it_is_dropped", map_cancels_the_rest_when_it_is_dropped),
    ("map_unordered_yields_each_once_as_they_come", map_unordered_yields_each_once_as_they_come),
    ("shutdown_finishes_what_is_pending", shutdown_finishes_what_is_pending),
    ("shutdown_cancels_what_is_pending", shutdown_cancels_what_is_pending),
    ("after_the_shutdown_everything_is_refused", after_the_shutdown_everything_is_refused),
    ("shutdown_may_be_asked_for_twice", shutdown_may_be_asked_for_twice),
    ("shutdown_may_be_waited_for_so_long_only", shutdown_may_be_waited_for_so_long_only),
    ("a_shutdown_that_nobody_waits_for_cancels_nothing", a_shutdown_that_nobody_waits_for_cancels_nothing),
    ("callbacks_run_once_and_in_order", callbacks_run_once_and_in_order),
    ("results_can_be_waited_for_together", results_can_be_waited_for_together),
    ("results_come_as_they_are_completed", results_come_as_they_are_completed),
    ("results_of_several_executors_mix", results_of_several_executors_mix),
    ("async_code_awaits_and_streams", async_code_awaits_and_streams),
    ("blocking_in_a_runtime_is_an_error", blocking_in_a_runtime_is_an_error),
    ("many_threads_share_it", many_threads_share_it),
];

/// Checks an executor.
pub fn run(maker: &Maker) {
    for (name, check) in CHECKS {
        println!("{}: {name}", maker.name);
        check(maker);
    }
}

// ---- tasks

#[task(name = "conformance::square")]
fn square(x: u64) -> u64 {
    x * x
}

#[task(name = "conformance::fails")]
fn fails(x: u64) -> Result<u64, String> {
    Err(format!("no {x}"))
}

#[task(name = "conformance::fails_at")]
fn fails_at(x: u64, at: u64) -> Result<u64, String> {
    if x == at { Err(format!("no {x}")) } else { Ok(x) }
}

#[task(name = "conformance::panics")]
fn panics(x: u64) -> u64 {
    panic!("oh {x}")
}

/// Leaves a file `name.started`, then waits for a file `open`, or to be cancelled: then it leaves `name.told`.
#[task(name = "conformance::waits")]
fn waits(cx: &TaskContext, dir: PathBuf, name: u64) -> u64 {
    std::fs::write(dir.join(format!("{name}.started")), "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !dir.join("open").exists() {
        if cx.is_cancelled() {
            std::fs::write(dir.join(format!("{name}.told")), "").unwrap();
            return 0;
        }
        assert!(Instant::now() < deadline, "the file was not there within 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    name
}

/// As `waits`, but does not listen.
#[task(name = "conformance::is_deaf")]
fn is_deaf(dir: PathBuf, name: u64) -> u64 {
    std::fs::write(dir.join(format!("{name}.started")), "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !dir.join("open").exists() {
        assert!(Instant::now() < deadline, "the file was not there within 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    name
}

#[task(name = "conformance::process")]
fn process() -> u32 {
    std::process::id()
}

/// A number that can be written, and read unless it is 13.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Picky(u64);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            13 => Err(serde::de::Error::custom("thirteen")),
            other => Ok(Self(other)),
        }
    }
}

#[task(name = "conformance::picky")]
fn picky(x: u64) -> Picky {
    Picky(x)
}

/// How many arguments of each test there are in this process.
static ARGUMENTS: Mutex<BTreeMap<u64, i64>> = Mutex::new(BTreeMap::new());

/// An argument that is counted, under the number of its test.
#[derive(Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
struct Counted(u64);

impl Counted {
    fn count(test: u64, by: i64) -> i64 {
        let mut counts = ARGUMENTS.lock().unwrap();
        let count = counts.entry(test).or_default();
        *count += by;
        *count
    }
}

impl From<u64> for Counted {
    fn from(test: u64) -> Self {
        Self::count(test, 1);
        Self(test)
    }
}

impl From<Counted> for u64 {
    fn from(counted: Counted) -> Self {
        counted.0
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::from(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        Self::count(self.0, -1);
    }
}

/// As `waits`, with an argument that is dropped when it returns.
#[task(name = "conformance::waits_with")]
fn waits_with(argument: Counted, dir: PathBuf, name: u64) -> u64 {
    let name = is_deaf(dir, name).call();
    drop(argument);
    name
}

/// A directory of one test's own, where its tasks leave and find files.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("callboard-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn waits(&self, name: u64) -> waits {
        waits(self.0.clone(), name)
    }

    fn open(&self) {
        std::fs::write(self.0.join("open"), "").unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn started(&self, name: u64) -> bool {
        self.has(&format!("{name}.started"))
    }

    /// How many tasks have started.
    fn count_started(&self) -> usize {
        let names = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".started")).count()
    }

    fn await_started(&self, name: u64) {
        eventually("a task starts", || self.started(name));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What still waits, after a failed assertion, is not to wait on.
        self.open();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An executor all of whose workers wait, and a directory to open.
fn busy(maker: &Maker) -> (Subject, Scratch, Vec<AsyncResult<u64>>) {
    let (subject, scratch) = ((maker.make)(), Scratch::new());
    let running: Vec<_> = (0..maker.workers as u64).map(|i| subject.executor.submit(scratch.waits(i))).collect();
    (0..maker.workers as u64).for_each(|i| scratch.await_started(i));
    (subject, scratch, running)
}

// ---- submit and cancel

fn a_value_comes(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    assert_eq!(executor.name(), maker.name);
    assert_eq!(executor.max_workers(), maker.workers);
    let ar = executor.submit(square(7));
    assert_eq!(ar.get(), Ok(49));
    let record = ar.metadata();
    assert_eq!((record.status, record.name(), record.attempt.0), (Status::Done, "square", 1));
    assert!(record.run_time().is_some() && record.id == ar.id());
}

fn an_error_is_an_outcome(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let ar = executor.submit(fails(7));
    let error = ar.get().unwrap_err();
    let TaskError::Failed { place, text } = &error else { panic!("{error:?}") };
    assert_eq!((&**text, place.name, place.attempt.0, place.task), ("no 7", "fails", 1, ar.id()));
    assert!(error.to_string().starts_with(&format!("fails (task {}", ar.id())), "{error}");
    assert_eq!(ar.metadata().status, Status::Failed);
}

fn a_panic_is_an_outcome_and_the_worker_lives_on(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    for round in 0..3 * maker.workers as u64 {
        let error = executor.submit(panics(round)).get().unwrap_err();
        let TaskError::Panicked { message, .. } = &error else { panic!("{error:?}") };
        assert_eq!(**message, *format!("oh {round}"));
    }
    assert_eq!(executor.submit(square(3)).get(), Ok(9));
}

fn as_many_tasks_run_at_once_as_it_says(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let one_more = subject.executor.submit(scratch.waits(99));
    scratch.open();
    for (i, ar) in running.iter().enumerate() {
        assert_eq!(ar.get(), Ok(i as u64));
    }
    assert_eq!(one_more.get(), Ok(99));
}

fn what_is_queued_can_be_cancelled_and_never_runs(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let queued: Vec<_> = (100..108).map(|i| subject.executor.submit(scratch.waits(i))).collect();
    for ar in &queued {
        assert!(ar.cancel("not needed"));
    }
    for ar in &queued {
        assert_eq!(ar.get_timeout(Duration::from_secs(10)), Err(TaskError::Cancelled { reason: "not needed".into() }));
        assert_eq!((ar.metadata().status, ar.metadata().attempt.0), (Status::Cancelled, 0));
        assert!(!ar.cancel("again"), "it is settled");
    }
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
    // Whatever was queued before is passed by now.
    let after: Vec<_> = (0..maker.workers as u64 * 4).map(|i| subject.executor.submit(square(i))).collect();
    assert!(after.iter().all(|ar| ar.get().is_ok()));
    assert_eq!(scratch.count_started(), maker.workers, "none of the cancelled ones started");
}

fn what_runs_can_be_cancelled_and_learns_of_it(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    assert!(running[0].cancel("too slow"));
    let outcome = running[0].get_timeout(Duration::from_secs(10));
    assert_eq!(outcome, Err(TaskError::Cancelled { reason: "too slow".into() }));
    eventually("the task is told", || scratch.has("0.told"));
    // Its worker is free again.
    let others = &running[1..];
    assert!(others.iter().all(|ar| !ar.ready()));
    eventually("another task runs there", || {
        subject.executor.submit(square(2)).get_timeout(Duration::from_millis(200)) == Ok(4)
    });
    scratch.open();
    assert!(others.iter().all(|ar| ar.get().is_ok()));
}

fn what_does_not_listen_can_be_cancelled_by_force(maker: &Maker) {
    let (subject, scratch) = ((maker.make)(), Scratch::new());
    let deaf = subject.executor.submit(is_deaf(scratch.0.clone(), 0));
    scratch.await_started(0);
    assert!(deaf.cancel_by_force("it does not listen"));
    let outcome = deaf.get_timeout(Duration::from_secs(10));
    assert_eq!(outcome, Err(TaskError::Cancelled { reason: "it does not listen".into() }));
    assert_eq!(deaf.metadata().status, Status::Cancelled);
    assert!(!deaf.cancel_by_force("again"), "it is settled");
    // Where it cannot be ended it keeps its worker until it returns. What it returns then changes nothing.
    scratch.open();
    let next: Vec<_> = (0..maker.workers as u64 * 4).map(|i| subject.executor.submit(square(i))).collect();
    for (x, ar) in (0..).zip(&next) {
        match ar.get_timeout(Duration::from_secs(20)) {
            // An executor of certain engines has lost the one that was ended.
            Err(TaskError::EngineLost { .. }) => {
                eventually("it has one engine less", || subject.executor.max_workers() < maker.workers);
            }
            outcome => assert_eq!(outcome, Ok(x * x)),
        }
    }
    assert!(matches!(deaf.get(), Err(TaskError::Cancelled { .. })));
}

fn only_what_a_worker_began_has_started(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let queued = subject.executor.submit(square(6));
    let cancelled = subject.executor.submit(square(7));
    let record = queued.metadata();
    assert_eq!((record.status, record.attempt.0, record.started, record.engine), (Status::Pending, 0, None, None));
    assert_eq!(format!("{queued:?}"), "<AsyncResult square: pending>");
    assert!(cancelled.cancel("not needed"));
    assert!(cancelled.get_timeout(Duration::from_secs(10)).is_err());
    assert_eq!((cancelled.metadata().attempt.0, cancelled.metadata().started), (0, None), "it never did");
    scratch.open();
    for ar in running.iter().chain([&queued]) {
        assert!(ar.get().is_ok());
        let record = ar.metadata();
        let (started, completed) = (record.started.unwrap(), record.completed.unwrap());
        assert_eq!((record.status, record.attempt.0), (Status::Done, 1));
        assert!(record.submitted <= started && started <= completed);
    }
}

fn what_runs_is_told_from_what_waits(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let waiting: Vec<_> = (100..104).map(|i| subject.executor.submit(scratch.waits(i))).collect();
    for ar in &running {
        // A worker elsewhere may tell a little later.
        eventually("what a worker began runs", || ar.running().get() == Ok(true));
    }
    let engines: Vec<_> = running.iter().map(|ar| ar.state().get().unwrap().engine()).collect();
    for ar in &waiting {
        let state = ar.state().get().unwrap();
        assert!(matches!(state, TaskState::Queued | TaskState::Sent { .. }), "{state}");
        assert_eq!(ar.running().get(), Ok(false));
    }
    for ar in &waiting[..2] {
        assert!(ar.cancel("not needed"));
        assert!(ar.get_timeout(Duration::from_secs(10)).is_err());
        assert_eq!(ar.state().get(), Ok(TaskState::Settled(Status::Cancelled)));
    }
    scratch.open();
    for (ar, engine) in running.iter().zip(engines) {
        assert!(ar.get().is_ok());
        assert_eq!((ar.state().get(), ar.running().get()), (Ok(TaskState::Settled(Status::Done)), Ok(false)));
        assert_eq!(ar.metadata().engine, engine, "where it was said to run");
    }
    for ar in &waiting[2..] {
        assert!(ar.get().is_ok());
        assert_eq!(ar.state().get(), Ok(TaskState::Settled(Status::Done)));
    }
    assert_eq!(scratch.count_started(), maker.workers + 2, "those that were cancelled never did");
}

fn a_value_that_cannot_be_read_spoils_no_other(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let is_here = executor.submit(process()).get() == Ok(std::process::id());
    let check = |x: u64, outcome: Result<Picky, TaskError>| match outcome {
        // A value that never leaves this process is not read.
        Err(TaskError::Undecodable { text, .. }) if x == 13 && !is_here => assert!(text.contains("picky"), "{text}"),
        outcome => assert_eq!(outcome, Ok(Picky(x))),
    };
    let results: Vec<_> = (0..20).map(|x| executor.submit(picky(x))).collect();
    (0..).zip(&results).for_each(|(x, ar)| check(x, ar.get()));
    assert_eq!(results[13].metadata().status, if is_here { Status::Done } else { Status::Failed });
    (0..).zip(executor.map(picky, 0..40)).for_each(|(x, outcome)| check(x, outcome));
    assert_eq!(executor.submit(square(3)).get(), Ok(9));
}

fn arguments_are_freed_once_they_are_not_needed(maker: &Maker) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (subject, scratch, test) = ((maker.make)(), Scratch::new(), NEXT.fetch_add(1, Ordering::Relaxed));
    let is_here = subject.executor.submit(process()).get() == Ok(std::process::id());
    let task = |name| waits_with(Counted::from(test), scratch.0.clone(), name);
    let running: Vec<_> = (0..maker.workers as u64).map(|i| subject.executor.submit(task(i))).collect();
    (0..maker.workers as u64).for_each(|i| scratch.await_started(i));
    if !is_here {
        eventually("what was encoded is freed, although it runs", || Counted::count(test, 0) == 0);
    }
    // What runs here has its own, and a copy where it may be tried again.
    let before = Counted::count(test, 0);
    let cancelled: Vec<_> = (100..110).map(|i| subject.executor.submit(task(i))).collect();
    assert!(cancelled.iter().all(|ar| ar.cancel("not needed")));
    eventually("what was cancelled is freed, although it is queued", || Counted::count(test, 0) <= before);
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
    eventually("nothing is kept for the result", || Counted::count(test, 0) == 0);
}

// ---- map

/// Counts what is taken from it, and remembers the most that was taken and not read.
struct Source<'a> {
    taken: &'a Cell<usize>,
    read: &'a Cell<usize>,
    most_unread: &'a Cell<usize>,
}

impl Iterator for Source<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let item = self.taken.get();
        self.taken.set(item + 1);
        self.most_unread.set(self.most_unread.get().max(item + 1 - self.read.get()));
        Some(item as u64)
    }
}

fn map_keeps_the_order(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    for count in [0, 1, 2, 100, 3_000] {
        let squares: Vec<u64> = executor.map(square, 0..count).collect::<Result<_, _>>().unwrap();
        assert_eq!(squares, (0..count).map(|x| x * x).collect::<Vec<_>>());
    }
    let by_closure: Vec<u64> =
        executor.map(|(x, y)| square(x + y), (0..5).zip(10..)).collect::<Result<_, _>>().unwrap();
    assert_eq!(by_closure, [100, 144, 196, 256, 324]);
}

fn map_takes_items_lazily(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let taken = Cell::new(0);
    let mut map = executor.map(square, (0..100_000).inspect(|_| taken.set(taken.get() + 1)));
    let first = taken.get();
    assert!((1..=2_048).contains(&first), "taken by the call itself: {first}");
    for i in 0..5_000 {
        assert_eq!(map.next(), Some(Ok(i * i)));
        assert!(taken.get() <= i as usize + 2_049);
    }
    assert!(taken.get() >= 5_000);
}

fn map_takes_an_endless_input(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let squares: Vec<u64> = executor.map(square, 0..).take(3_000).collect::<Result<_, _>>().unwrap();
    assert_eq!(squares.last(), Some(&(2_999 * 2_999)));
    let sum: u64 = executor.map_unordered(square, std::iter::repeat(2)).take(50).map(|(_, four)| four.unwrap()).sum();
    assert_eq!(sum, 200);
}

fn map_never_has_more_than_its_buffer_unread(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    for (buffersize, chunksize) in [(1, None), (3, None), (64, None), (8, Some(2)), (7, Some(3)), (2, Some(100))] {
        let (taken, read, most_unread) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let source = Source { taken: &taken, read: &read, most_unread: &most_unread };
        let options = MapOptions::new().buffersize(buffersize);
        let options = if let Some(chunk) = chunksize { options.chunksize(chunk) } else { options };
        let mut map = executor.map_with(options.clone(), square, source).unwrap();
        for i in 0..200 {
            assert_eq!(map.next(), Some(Ok(i * i)));
            read.set(read.get() + 1);
        }
        assert!(most_unread.get() <= buffersize, "{most_unread:?} unread of {buffersize}");
        assert!(most_unread.get() >= buffersize.min(2) / 2, "it works ahead");
        drop(map);

        let (taken, read, most_unread) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let source = Source { taken: &taken, read: &read, most_unread: &most_unread };
        let mut map = executor.map_unordered_with(options, square, source).unwrap();
        for _ in 0..200 {
            assert!(map.next().is_some_and(|(_, outcome)| outcome.is_ok()));
            read.set(read.get() + 1);
        }
        assert!(most_unread.get() <= buffersize, "{most_unread:?} unread of {buffersize}");
    }
}

fn map_takes_items_in_chunks(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let taken = Cell::new(0);
    let options = MapOptions::new().chunksize(5).buffersize(10);
    let mut map = executor.map_with(options, square, (0..12).inspect(|_| taken.set(taken.get() + 1))).unwrap();
    assert_eq!(taken.get(), 10, "two chunks");
    for i in 0..5 {
        assert_eq!((map.next(), taken.get()), (Some(Ok(i * i)), 10), "the next has no room until five were read");
    }
    assert_eq!((map.next(), taken.get()), (Some(Ok(25)), 12), "the last is smaller");
    assert_eq!(map.map(Result::unwrap).collect::<Vec<_>>(), [36, 49, 64, 81, 100, 121]);
}

fn map_refuses_zeros(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let refused = executor.map_with(MapOptions::new().chunksize(0), square, 0..3).unwrap_err();
    assert_eq!(refused.to_string(), "chunksize is zero; it must be at least 1");
    let refused = executor.map_unordered_with(MapOptions::new().buffersize(0), square, 0..3).unwrap_err();
    assert!(matches!(refused, Error::Zero { what: "buffersize" }));
}

fn map_ends_when_its_time_is_up(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let timeout = Duration::from_millis(30);
    let options = MapOptions::new().timeout(timeout).buffersize(4);
    let mut map = subject.executor.map_with(options.clone(), |i| scratch.waits(i), 100..).unwrap();
    let started = Instant::now();
    assert_eq!(map.next(), Some(Err(TaskError::TimedOut { deadline: timeout })));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((map.next(), map.next()), (None, None));
    let mut unordered = subject.executor.map_unordered_with(options, |i| scratch.waits(i), 200..).unwrap();
    assert_eq!(unordered.next(), Some((0, Err(TaskError::TimedOut { deadline: timeout }))));
    assert_eq!(unordered.next(), None);

    subject.guard.catch_up();
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
    let after: Vec<_> = (0..maker.workers as u64 * 4).map(|i| subject.executor.submit(square(i))).collect();
    assert!(after.iter().all(|ar| ar.get().is_ok()));
    assert_eq!(scratch.count_started(), maker.workers, "the rest was cancelled");

    // What is there by then is read all the same, and what was never submitted is too late.
    let options = MapOptions::new().timeout(timeout).buffersize(3);
    let mut map = subject.executor.map_with(options, square, 0..10).unwrap();
    std::thread::sleep(timeout + Duration::from_millis(300));
    assert_eq!([map.next(), map.next(), map.next()], [Some(Ok(0)), Some(Ok(1)), Some(Ok(4))]);
    assert_eq!(map.next(), Some(Err(TaskError::TimedOut { deadline: timeout })));
    assert_eq!(map.next(), None);
    // A time without end is no overflow.
    let mut map = subject.executor.map_with(MapOptions::new().timeout(Duration::MAX), square, 3..4).unwrap();
    assert_eq!((map.next(), map.next()), (Some(Ok(9)), None));
}

fn map_goes_on_after_an_error(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let outcomes: Vec<_> = executor.map(|x| fails_at(x, 2), 0..5).collect();
    assert_eq!(outcomes.len(), 5);
    assert!(matches!(&outcomes[2], Err(TaskError::Failed { text, .. }) if **text == *"no 2"));
    assert_eq!((outcomes[1].clone(), outcomes[3].clone(), outcomes[4].clone()), (Ok(1), Ok(3), Ok(4)));
    let stopped: Result<Vec<u64>, _> = executor.map(|x| fails_at(x, 2), 0..).collect();
    assert!(matches!(stopped, Err(TaskError::Failed { .. })), "Python's way");
}

fn map_cancels_the_rest_when_it_is_dropped(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    drop(subject.executor.map(|i| scratch.waits(i), 100..120));
    drop(subject.executor.map_unordered(|i| scratch.waits(i), 200..220));
    subject.guard.catch_up();
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
    let after: Vec<_> = (0..maker.workers as u64 * 4).map(|i| subject.executor.submit(square(i))).collect();
    assert!(after.iter().all(|ar| ar.get().is_ok()));
    assert_eq!(scratch.count_started(), maker.workers, "none of the maps' started");
}

fn map_unordered_yields_each_once_as_they_come(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let seen: HashSet<(usize, u64)> =
        executor.map_unordered(square, 0..2_000).map(|(position, square)| (position, square.unwrap())).collect();
    assert_eq!(seen, (0..2_000).map(|x| (x, (x * x) as u64)).collect());
    let failed: Vec<usize> = executor
        .map_unordered(|x| fails_at(x, 3), 0..6)
        .filter_map(|(position, outcome)| outcome.is_err().then_some(position))
        .collect();
    assert_eq!(failed, [3]);
    if maker.workers < 2 {
        return;
    }
    // The first one waits; the others pass it, where a worker is left for them.
    let scratch = Scratch::new();
    let mut outcomes = executor.map_unordered(|i| scratch.waits(i), 0..2);
    eventually("both start", || scratch.count_started() == 2);
    scratch.open();
    assert_eq!(outcomes.by_ref().count(), 2);
}

// ---- shutdown

fn shutdown_finishes_what_is_pending(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let queued: Vec<_> = (0..20).map(|i| subject.executor.submit(square(i))).collect();
    let ending = subject.executor.shutdown(Pending::Finish);
    assert!(queued.iter().all(|ar| !ar.ready()));
    scratch.open();
    ending.get().unwrap();
    assert!(running.iter().chain(&queued).all(AsyncResult::ready), "answered when all are settled");
    assert!(queued.iter().enumerate().all(|(i, ar)| ar.get() == Ok((i * i) as u64)));
    assert!(running.iter().all(|ar| ar.get().is_ok()));
}

fn shutdown_cancels_what_is_pending(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let queued: Vec<_> = (100..120).map(|i| subject.executor.submit(scratch.waits(i))).collect();
    subject.executor.shutdown(Pending::Cancel).get_timeout(Duration::from_secs(10)).unwrap();
    for ar in running.iter().chain(&queued) {
        assert!(ar.ready());
        assert!(matches!(ar.get(), Err(TaskError::Cancelled { .. })), "{:?}", ar.get());
    }
    eventually("what ran was asked to stop", || (0..maker.workers).all(|i| scratch.has(&format!("{i}.told"))));
    assert_eq!(scratch.count_started(), maker.workers);
}

fn after_the_shutdown_everything_is_refused(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    executor.shutdown(Pending::Finish).get().unwrap();
    let refused = executor.submit(square(2));
    assert!(refused.ready(), "at once");
    assert_eq!((refused.get(), refused.metadata().status), (Err(TaskError::ShutDown), Status::Refused));
    assert!(!refused.cancel("it is settled"));
    let outcomes: Vec<_> = executor.map(square, 0..3).collect();
    assert_eq!(outcomes, vec![Err(TaskError::ShutDown); 3]);
}

fn shutdown_may_be_asked_for_twice(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let (first, second) = (subject.executor.shutdown(Pending::Finish), subject.executor.shutdown(Pending::Finish));
    assert_eq!(subject.executor.submit(square(2)).get(), Err(TaskError::ShutDown), "from the first call on");
    assert!(!running[0].ready());
    let third = subject.executor.shutdown(Pending::Cancel);
    for ar in &running {
        assert!(matches!(ar.get_timeout(Duration::from_secs(10)), Err(TaskError::Cancelled { .. })), "after all");
    }
    // Finishing cannot be asked for any more; it is over.
    let fourth = subject.executor.shutdown(Pending::Finish);
    for reply in [first, second, third, fourth] {
        reply.get_timeout(Duration::from_secs(10)).unwrap();
    }
    drop(scratch);
}

fn shutdown_may_be_waited_for_so_long_only(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let wait = Duration::from_millis(20);
    let error = subject.executor.shutdown(Pending::Finish).get_timeout(wait).unwrap_err();
    assert!(matches!(error, Error::NotReady { waited } if waited == wait), "{error}");
    assert!(running.iter().all(|ar| !ar.ready()), "they go on");
    scratch.open();
    subject.executor.shutdown(Pending::Finish).get_timeout(Duration::from_secs(10)).unwrap();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
}

fn a_shutdown_that_nobody_waits_for_cancels_nothing(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let queued = subject.executor.submit(square(5));
    drop(subject.executor.shutdown(Pending::Finish));
    assert!(!running[0].ready());
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
    assert_eq!(queued.get(), Ok(25));
}

// ---- results

fn callbacks_run_once_and_in_order(maker: &Maker) {
    let (subject, scratch, _running) = busy(maker);
    let ar = subject.executor.submit(square(4));
    let (tell, told) = mpsc::channel();
    for i in 0..10 {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send((i, ar.get())).unwrap()).unwrap();
    }
    assert!(told.try_recv().is_err(), "not before it is done");
    scratch.open();
    assert_eq!(ar.get(), Ok(16));
    for i in 10..20 {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send((i, ar.get())).unwrap()).unwrap();
    }
    drop(tell);
    assert_eq!(told.iter().collect::<Vec<_>>(), (0..20).map(|i| (i, Ok(16))).collect::<Vec<_>>());
}

fn results_can_be_waited_for_together(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let cancelled = subject.executor.submit(square(1));
    cancelled.cancel("not needed");
    let waited = wait([&cancelled], ReturnWhen::AllCompleted).get_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(waited.done.len(), 1, "although every worker is busy");
    let queued = subject.executor.submit(square(6));
    let all = || running.iter().chain([&queued]);
    let waited = wait(all(), ReturnWhen::FirstCompleted).get_timeout(Duration::from_millis(10)).unwrap();
    assert_eq!((waited.done.len(), waited.pending.len()), (0, maker.workers + 1), "a timeout is no error");
    let mixed: Vec<Box<dyn Awaitable + '_>> = vec![Box::new(&queued), Box::new(cancelled)];
    let waited = wait(mixed, ReturnWhen::FirstException).get().unwrap();
    assert_eq!((waited.done.len(), waited.pending.len()), (1, 1));
    scratch.open();
    let waited = wait(all(), ReturnWhen::AllCompleted).get().unwrap();
    let ids: Vec<_> = waited.done.iter().map(|ar| ar.id()).collect();
    assert_eq!(ids, all().map(AsyncResult::id).collect::<Vec<_>>(), "in the order given");
}

fn results_come_as_they_are_completed(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let cancelled = subject.executor.submit(square(1));
    let id = cancelled.id();
    cancelled.cancel("not needed");
    let mut completed = as_completed(running.into_iter().chain([cancelled]));
    assert_eq!(completed.next().map(|ar| ar.id()), Some(id), "although it was given last");
    assert!(matches!(completed.next_timeout(Duration::from_millis(5)), Err(Error::NotReady { .. })));
    completed.push(subject.executor.submit(square(3)));
    scratch.open();
    let mut values: Vec<u64> = completed.map(|ar| ar.get().unwrap()).collect();
    values.sort_unstable();
    let mut expected: Vec<u64> = (0..maker.workers as u64).chain([9]).collect();
    expected.sort_unstable();
    assert_eq!(values, expected);
}

fn results_of_several_executors_mix(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let cluster = Cluster::threads(1).start().unwrap();
    let (promise, promised) = Promise::new("promised");
    let others =
        || [pool.submit(square(2)), cluster.client().executor().submit(square(3)), subject.executor.submit(square(4))];
    let mixed: Vec<_> = others().into_iter().chain([promised]).collect();
    let waited = wait(&mixed, ReturnWhen::FirstCompleted).get_timeout(Duration::from_secs(10)).unwrap();
    assert!(!waited.done.is_empty() && waited.pending.len() >= 2, "that of the busy one, and the promise");
    let mut completed = as_completed(running.into_iter().chain(mixed));
    let mut first: Vec<u64> = completed.by_ref().take(2).map(|ar| ar.get().unwrap()).collect();
    first.sort_unstable();
    assert_eq!(first, [4, 9], "from the two that are not busy");
    promise.fulfil(100);
    assert_eq!(completed.next().map(|ar| ar.get()), Some(Ok(100)));
    scratch.open();
    let mut rest: Vec<u64> = completed.map(|ar| ar.get().unwrap()).collect();
    rest.sort_unstable();
    let mut expected: Vec<u64> = (0..maker.workers as u64).chain([16]).collect();
    expected.sort_unstable();
    assert_eq!(rest, expected);
    let all: Vec<_> = others().into_iter().collect();
    let waited = wait(&all, ReturnWhen::AllCompleted).get().unwrap();
    assert_eq!(waited.done.iter().map(|ar| ar.get().unwrap()).collect::<Vec<_>>(), [4, 9, 16]);
}

fn async_code_awaits_and_streams(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(executor.submit(square(5)).await, Ok(25));
        let squares: Vec<_> = executor.map(square, 0..1_500).into_stream().collect().await;
        assert_eq!(squares, (0..1_500).map(|x| Ok(x * x)).collect::<Vec<_>>());
        let unordered: HashSet<_> =
            executor.map_unordered(square, 0..9).into_stream().map(|(i, square)| (i, square.unwrap())).collect().await;
        assert_eq!(unordered, (0..9).map(|x| (x, (x * x) as u64)).collect());
        let results: Vec<_> = (0..4).map(|x| executor.submit(square(x))).collect();
        let waited = wait(&results, ReturnWhen::AllCompleted).await;
        assert_eq!(waited.done.len(), 4);
        let mut completed = as_completed(results).into_stream();
        completed.push(executor.submit(square(10)));
        let mut sum = 0;
        while let Some(ar) = completed.next().await {
            sum += ar.await.unwrap();
        }
        assert_eq!(sum, 1 + 4 + 9 + 100);

        let scratch = Scratch::new();
        let timeout = Duration::from_millis(20);
        let options = MapOptions::new().timeout(timeout);
        let mut late = executor.map_with(options.clone(), |i| scratch.waits(i), 0..5).unwrap().into_stream();
        assert_eq!(late.next().await, Some(Err(TaskError::TimedOut { deadline: timeout })));
        assert_eq!(late.next().await, None);
        let mut late = executor.map_unordered_with(options, |i| scratch.waits(i), 0..5).unwrap().into_stream();
        assert_eq!(late.next().await, Some((0, Err(TaskError::TimedOut { deadline: timeout }))));
        executor.shutdown(Pending::Cancel).await.unwrap();
    });
}

fn blocking_in_a_runtime_is_an_error(maker: &Maker) {
    let (subject, scratch, running) = busy(maker);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut map = subject.executor.map(square, 0..3);
        assert_eq!((map.next(), map.next()), (Some(Err(TaskError::WouldBlock)), None));
        let mut unordered = subject.executor.map_unordered(square, 0..3);
        assert_eq!((unordered.next(), unordered.next()), (Some((0, Err(TaskError::WouldBlock))), None));
        let waited = wait(&running, ReturnWhen::AllCompleted).get();
        assert!(matches!(waited, Err(Error::WouldBlock)));
        let mut completed = as_completed(&running);
        assert!(matches!(completed.next_timeout(Duration::from_secs(1)), Err(Error::WouldBlock)));
        assert_eq!(completed.next().map(|ar| ar.get()), Some(Err(TaskError::WouldBlock)));
        assert!(matches!(subject.executor.shutdown(Pending::Finish).get(), Err(Error::WouldBlock)));
    });
    scratch.open();
    assert!(running.iter().all(|ar| ar.get().is_ok()));
}

fn many_threads_share_it(maker: &Maker) {
    let Subject { executor, guard: _guard } = (maker.make)();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let executor = &executor;
            scope.spawn(move || {
                let base = thread * 1_000;
                let squares: Vec<u64> = executor.map(square, base..base + 300).collect::<Result<_, _>>().unwrap();
                assert_eq!(squares, (base..base + 300).map(|x| x * x).collect::<Vec<_>>());
                let results: Vec<_> = (0..50).map(|x| executor.submit(square(base + x))).collect();
                assert!(results.iter().zip(base..).all(|(ar, x)| ar.get() == Ok(x * x)));
            });
        }
    });
    executor.shutdown(Pending::Finish).get().unwrap();
}
