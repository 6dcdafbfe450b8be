//! Every executor there is, and one of a third party, against one list of promises.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use callboard::executors::{Call, InFlight, Job};
use callboard::prelude::*;
use callboard::{Error, ExecutorSpec, Limits, Reply, ThreadPoolExecutor};

mod conformance;
mod support;
use conformance::{Maker, Subject};
use support::{Gate, eventually};

const WORKERS: usize = 2;

fn check(name: &'static str, workers: usize, make: fn() -> Subject) {
    conformance::run(&Maker { name, workers, make });
}

fn on_cluster<E: Executor + 'static>(engines: usize, executor: impl FnOnce(&callboard::Client) -> E) -> Subject {
    let cluster = Cluster::threads(engines).start().unwrap();
    Subject { executor: Box::new(executor(&cluster.client())), guard: Box::new(cluster) }
}

#[test]
fn a_thread_pool_keeps_every_promise() {
    check("ThreadPoolExecutor", WORKERS, || {
        let executor = ThreadPoolExecutor::new(WORKERS).unwrap();
        Subject { executor: Box::new(executor), guard: Box::new(()) }
    });
}

#[test]
fn the_executor_of_one_engine_keeps_every_promise() {
    check("ViewExecutor", 1, || on_cluster(2, |rc| rc.engine(-1).unwrap().executor()));
}

#[test]
fn the_executor_of_a_direct_view_keeps_every_promise() {
    check("ViewExecutor", WORKERS, || on_cluster(WORKERS, |rc| rc.all().executor()));
}

#[test]
fn the_executor_of_some_engines_keeps_every_promise() {
    check("ViewExecutor", WORKERS, || on_cluster(4, |rc| rc.executor_on(rc.ids().into_iter().step_by(2))));
}

#[test]
fn the_executor_of_a_client_keeps_every_promise() {
    check("ViewExecutor", WORKERS, || on_cluster(WORKERS, callboard::Client::executor));
}

#[test]
fn what_a_text_names_keeps_every_promise() {
    check("ViewExecutor", WORKERS, || Subject::of(ExecutorSpec::Engines(2).open().unwrap()));
    let pool = "threads:2".parse::<ExecutorSpec>().unwrap().open().unwrap();
    assert_eq!((pool.name(), pool.max_workers()), ("ThreadPoolExecutor", 2));
}

#[test]
fn what_a_text_names_ends_with_its_workers() {
    let ex = ExecutorSpec::Engines(2).open().unwrap();
    assert_eq!((ex.submit(square(3)).get(), ex.max_workers()), (Ok(9), 2));
    ex.shutdown(Pending::Finish).get().unwrap();
    assert_eq!((ex.submit(square(3)).get(), ex.max_workers()), (Err(TaskError::ShutDown), 0), "its engines are gone");
    let ex = ExecutorSpec::Engines(1).open().unwrap();
    let held = ex.submit(square(4));
    drop(ex);
    assert_eq!(held.get(), Ok(16), "what was submitted still comes");
    let nowhere = ExecutorSpec::Cluster("nowhere/callboard-client.json".into()).open().unwrap_err();
    assert!(
        nowhere.to_string().starts_with("connection file nowhere/callboard-client.json: it is not there"),
        "{nowhere}"
    );
}

#[test]
fn an_executor_of_a_third_party_keeps_every_promise() {
    check("ChannelExecutor", WORKERS, || Subject {
        executor: Box::new(Arc::new(ChannelExecutor::new(WORKERS))),
        guard: Box::new(()),
    });
}

/// What a third party would write: some threads behind a channel.
#[derive(Debug)]
struct ChannelExecutor {
    jobs: mpsc::Sender<Job>,
    in_flight: InFlight,
    threads: usize,
}

impl ChannelExecutor {
    fn new(threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            let next = move || queue.lock().unwrap().recv();
            std::thread::spawn(move || {
                while let Ok(job) = next() {
                    job.run();
                }
            });
        }
        Self { jobs, in_flight: InFlight::new(), threads }
    }
}

impl Executor for ChannelExecutor {
    fn name(&self) -> &'static str {
        "ChannelExecutor"
    }

    fn max_workers(&self) -> usize {
        self.threads
    }

    fn execute(&self, calls: Vec<Call<'_>>) {
        for job in calls.into_iter().filter_map(|call| self.in_flight.admit(call)) {
            self.jobs.send(job).unwrap();
        }
    }

    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.in_flight.shutdown(pending)
    }
}

// ---- what only some executors have

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn to_text(x: u32) -> String {
    x.to_string()
}

#[task]
fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_string()
}

/// Shared memory between task and test: only for executors of this process.
static GATE: Gate = Gate::new();

#[task]
fn pass_gate() {
    GATE.pass();
}

#[test]
fn the_loop_of_the_tutorial() {
    let cluster = Cluster::threads(4).start().unwrap();
    let rc = cluster.client();
    let executors: Vec<Box<dyn Executor>> =
        vec![Box::new(ThreadPoolExecutor::new(4).unwrap()), Box::new(rc.executor_on(rc.ids()))];
    let mut printed = Vec::new();
    for ex in &executors {
        let texts: Vec<String> = ex.map(to_text, 0..5).collect::<Result<_, _>>().unwrap();
        printed.push(format!("{} {texts:?}", ex.name()));
    }
    let texts = r#"["0", "1", "2", "3", "4"]"#;
    assert_eq!(printed, [format!("ThreadPoolExecutor {texts}"), format!("ViewExecutor {texts}")]);
    assert_eq!(format!("{:?}", rc.executor().view()), "<LoadBalancedView all>");
    assert_eq!(format!("{:?}", rc.all().executor().view().targets()), "[0, 1, 2, 3]");
}

#[test]
fn a_direct_views_executor_gives_each_task_to_one_engine_in_turn() {
    let cluster = Cluster::threads(3).start().unwrap();
    let rc = cluster.client();
    let ex = rc.all().executor();
    let results: Vec<_> = (0..6).map(|x| ex.submit(square(x))).collect();
    assert!(results.iter().zip(0..).all(|(ar, x): (_, u64)| ar.get() == Ok(x * x)));
    let engines: Vec<u32> = results.iter().map(|ar| ar.metadata().engine.unwrap().0).collect();
    assert_eq!(engines, [0, 1, 2, 0, 1, 2]);
    assert_eq!(rc.records().get().unwrap().len(), 6, "one task each");
    let nobody = rc.load_balanced_view([]).executor();
    assert_eq!(nobody.max_workers(), 0);
}

#[test]
fn a_views_options_hold_for_its_executor() {
    let cluster = Cluster::threads(1).start().unwrap();
    let ex = cluster.client().load_balanced().with().label("named").executor();
    let ar = ex.submit(square(3));
    assert_eq!((ar.get(), ar.metadata().label.as_deref()), (Ok(9), Some("named")));
    ex.shutdown(Pending::Finish).get().unwrap();
    let refused = ex.submit(square(3));
    assert_eq!((refused.get(), refused.metadata().label.as_deref()), (Err(TaskError::ShutDown), Some("named")));
}

#[test]
fn the_shutdown_of_a_views_executor_stops_neither_engines_nor_other_work() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let (ex, view, gate) = (rc.executor(), rc.load_balanced(), Arc::new(Gate::new()));
    let held = gate.clone();
    let running = view.apply_fn(move || held.pass());
    let others = view.apply(square(2));
    let own = ex.submit(square(3));
    ex.shutdown(Pending::Cancel).get().unwrap();
    assert!(matches!(own.get(), Err(TaskError::Cancelled { .. })));
    assert!(!others.ready() && !running.ready(), "it waits for its own only");
    gate.open();
    assert_eq!((running.get(), others.get()), (Ok(()), Ok(4)));
    assert_eq!(rc.executor().submit(square(4)).get(), Ok(16));
}

#[test]
fn engines_that_join_later_count() {
    let cluster = Cluster::threads(2).start().unwrap();
    let rc = cluster.client();
    assert_eq!((rc.executor().max_workers(), rc.all().executor().max_workers()), (2, 2));
    assert_eq!(rc.engine(0).unwrap().executor().max_workers(), 1);
    let ex = rc.executor();
    cluster.shutdown(Pending::Finish).get().unwrap();
    assert!(matches!(ex.submit(square(1)).get(), Err(TaskError::Disconnected | TaskError::Cancelled { .. })));
    ex.shutdown(Pending::Finish).get().unwrap();
}

#[test]
fn a_thread_pool_has_the_threads_it_was_asked_for_and_leaves_none() {
    let named = || our_threads_named("pool-x");
    let ex = ThreadPoolExecutor::builder(3).thread_name("pool-x").stack_size(256 << 10).start().unwrap();
    eventually("three threads", || named() == 3);
    assert!(ex.submit(thread_name()).get().unwrap().starts_with("pool-x-"));
    ex.shutdown(Pending::Finish).get().unwrap();
    // Joined; the system lists a thread for a moment longer than it takes to join it.
    eventually("none is left", || named() == 0);
    let dropped = ThreadPoolExecutor::builder(2).thread_name("pool-x").start().unwrap();
    let held = dropped.submit(square(4));
    drop(dropped);
    assert_eq!(held.get(), Ok(16), "what was submitted still comes");
    eventually("none is left", || named() == 0);
    let none = ThreadPoolExecutor::new(0).unwrap_err();
    assert_eq!(none.to_string(), "the number of threads is zero; it must be at least 1");
}

#[test]
fn more_workers_than_a_machine_is_for_and_names_that_are_none_are_refused() {
    let pool = |n| ThreadPoolExecutor::builder(n).initializer(|| Ok(())).start().unwrap_err();
    let engines = |n| Cluster::threads(n).start().unwrap_err();
    let cluster = Cluster::threads(1).start().unwrap();
    for asked in [4_097, 1_000_000, usize::MAX] {
        let too_many = |what| Error::TooMany { what, asked, max: 4_096 };
        assert_eq!(pool(asked), too_many("the number of threads"));
        assert_eq!(engines(asked), too_many("the number of engines"));
        assert_eq!(cluster.add_threads(asked).get(), Err(too_many("the number of engines")));
    }
    let sum = Cluster::threads(usize::MAX).threads(1).start().unwrap_err();
    assert_eq!(sum.to_string(), format!("the number of engines is {}; it must be at most 4096", usize::MAX));
    assert_eq!(cluster.add_threads(0).get(), Ok(Vec::new()));
    let named = ThreadPoolExecutor::builder(1).thread_name("a\0b").start().unwrap_err();
    assert_eq!(named.to_string(), r#"starting a thread pool: no thread can be called "a\0b": there is a zero in it"#);
}

#[test]
fn each_thread_of_a_pool_is_prepared_first_or_there_is_no_pool() {
    static PREPARED: AtomicUsize = AtomicUsize::new(0);
    let builder = || ThreadPoolExecutor::builder(3).thread_name("pool-i");
    let first = || {
        PREPARED.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let ex = builder().initializer(first).start().unwrap();
    assert_eq!(PREPARED.load(Ordering::Relaxed), 3, "all of them, before it is there");
    assert_eq!(ex.submit(square(3)).get(), Ok(9));
    drop(ex);
    // One of several is enough.
    let second = || match PREPARED.fetch_add(1, Ordering::Relaxed) {
        4 => Err("no licence".into()),
        _ => Ok(()),
    };
    let refused = builder().initializer(second).start().unwrap_err();
    assert_eq!(refused.to_string(), "an engine has not joined: its initializer failed: no licence");
    let refused = builder().initializer(|| panic!("not today")).start().unwrap_err();
    assert_eq!(refused.to_string(), "an engine has not joined: its initializer panicked: not today");
    eventually("none is left", || our_threads_named("pool-i") == 0);
}

fn our_threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.map(|entry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn a_map_keeps_within_what_may_be_pending() {
    let mut limits = Limits::default();
    limits.pending_tasks_max = 3;
    let pool = ThreadPoolExecutor::builder(1).limits(limits.clone()).start().unwrap();
    let cluster = Cluster::threads(1).limits(limits).start().unwrap();
    let executors: [Box<dyn Executor>; 2] = [Box::new(pool), Box::new(cluster.client().executor())];
    for ex in executors {
        assert_eq!(ex.pending_max(), 3);
        let mut map = ex.map(square, 0..50);
        for x in 0..50 {
            assert_eq!(map.next(), Some(Ok(x * x)), "{}", ex.name());
        }
    }
}

#[test]
fn a_flooded_thread_pool_refuses_by_name() {
    let mut limits = Limits::default();
    limits.pending_tasks_max = 3;
    let ex = ThreadPoolExecutor::builder(1).limits(limits).start().unwrap();
    let accepted = [ex.submit(pass_gate()), ex.submit(pass_gate()), ex.submit(pass_gate())];
    let refused = ex.submit(pass_gate());
    assert_eq!(refused.get(), Err(TaskError::Overloaded { what: "tasks", limit: 3 }));
    assert!(accepted[2].cancel("not needed"));
    assert_eq!(ex.submit(pass_gate()).get(), Err(TaskError::Overloaded { what: "tasks", limit: 3 }), "still queued");
    GATE.open();
    assert_eq!((accepted[0].get(), accepted[1].get()), (Ok(()), Ok(())));
    eventually("there is room again", || ex.submit(square(2)).get() == Ok(4));
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn engines_whose_main_forgets_to_be_one_are_told_what_to_do() {
    // Here `main` is that of the test harness.
    let error = "tcp:1".parse::<callboard::ExecutorSpec>().unwrap().open().unwrap_err().to_string();
    assert!(error.starts_with("an engine has not joined: process 0: it ended with "), "{error}");
    assert!(error.ends_with("; its main has to call callboard::init() first"), "{error}");
}
