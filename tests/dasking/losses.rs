//! What dies, and what becomes of the tasks that it had.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use callboard::prelude::*;

use super::site::{Site, python, wait_for};
use super::{PATIENCE, Test, begun, bridges, children, is_there, kill, linger, new_bridge, open, residents, square};
use crate::support::Forwarder;

pub(super) const TESTS: &[Test] = &[
    ("a_crash_ends_an_engine_and_not_the_worker", a_crash_ends_an_engine_and_not_the_worker),
    ("a_crash_is_tried_again_where_retries_allow_it", a_crash_is_tried_again_where_retries_allow_it),
    ("what_a_killed_worker_ran_runs_again_once", what_a_killed_worker_ran_runs_again_once),
    ("values_are_not_looked_for_at_a_worker_that_is_lost", values_are_not_looked_for_at_a_worker_that_is_lost),
    ("a_nanny_starts_a_worker_again_and_it_has_engines", a_nanny_starts_a_worker_again_and_it_has_engines),
    ("a_killed_scheduler_settles_everything", a_killed_scheduler_settles_everything),
    (
        "a_killed_bridge_settles_everything_and_leaves_no_engine",
        a_killed_bridge_settles_everything_and_leaves_no_engine,
    ),
    ("behind_a_killed_bridge_comes_another", behind_a_killed_bridge_comes_another),
    ("behind_a_connection_that_is_cut_comes_another", behind_a_connection_that_is_cut_comes_another),
    ("an_interpreter_that_does_not_read_holds_up_nobody", an_interpreter_that_does_not_read_holds_up_nobody),
    ("behind_a_killed_scheduler_comes_another", behind_a_killed_scheduler_comes_another),
    ("an_executor_ends_while_it_connects_anew", an_executor_ends_while_it_connects_anew),
];

/// Kills its own process, if it is the first to come.
#[task]
fn crash(dir: PathBuf) -> u32 {
    let is_first = std::fs::create_dir(dir.join("came")).is_ok();
    if is_first {
        kill(std::process::id());
    }
    std::process::id()
}

fn a_crash_ends_an_engine_and_not_the_worker() {
    let site = Site::of(1);
    let ex = site.connect();
    let [engine] = residents(site.workers[0].id())[..] else { panic!("one for each thread") };
    let dir = tempfile::tempdir().unwrap();
    let ar = ex.submit(crash(dir.path().into()));
    let error = ar.get_timeout(PATIENCE).unwrap_err();
    let TaskError::EngineLost { engine: lost, attempt, cause } = &error else { panic!("{error}") };
    assert_eq!((lost.0, attempt.0, ar.metadata().attempt.0), (engine, 1, 1));
    assert!(cause.contains("on worker tcp://") && cause.ends_with("ended with signal 9 (SIGKILL)"), "{cause}");
    assert_eq!(ex.submit(square(7)).get_timeout(PATIENCE), Ok(49));
    assert_ne!(residents(site.workers[0].id()), [engine]);
}

fn a_crash_is_tried_again_where_retries_allow_it() {
    let site = Site::of(1);
    let ex = site.builder().retries(1).connect().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ar = ex.submit(crash(dir.path().into()));
    let engine = ar.get_timeout(PATIENCE).unwrap();
    assert_eq!(residents(site.workers[0].id()), [engine]);
}

fn what_a_killed_worker_ran_runs_again_once() {
    let mut site = Site::of(2);
    let ex = site.connect();
    let dir = tempfile::tempdir().unwrap();
    let ar = ex.submit(linger(dir.path().into()));
    let [engine, worker] = wait_for("it runs", || begun(dir.path()).pop());
    // So that it is known to have begun.
    std::thread::sleep(Duration::from_millis(100));
    site.workers.iter_mut().find(|part| part.id() == worker).unwrap().kill();
    wait_for("its engine ends with it", || (!is_there(engine)).then_some(()));
    wait_for("it runs again", || (begun(dir.path()).len() == 2).then_some(()));
    open(dir.path());
    let again = ar.get_timeout(PATIENCE).unwrap();
    assert!(begun(dir.path()).len() == 2 && again != engine, "once");
    assert_eq!(ar.metadata().attempt.0, 2);
}

fn values_are_not_looked_for_at_a_worker_that_is_lost() {
    // A scheduler that takes a second between who has a value and asking for it. It then looks for that worker for half a minute.
    let place = tempfile::tempdir().unwrap();
    let (preload, asked) = (place.path().join("late.py"), place.path().join("asked"));
    let late = format!(
        "import asyncio\nfrom distributed import scheduler\nreal = getattr(scheduler, 'real', scheduler.gather_from_workers)\n\
         async def late(*args, **kwargs):\n    open({asked:?}, 'w')\n    await asyncio.sleep(1)\n    \
         return await real(*args, **kwargs)\n\
         scheduler.real, scheduler.gather_from_workers = real, late\n"
    );
    std::fs::write(&preload, late).unwrap();
    let mut site = Site::scheduler_with(&[format!("--preload={}", preload.display())]);
    (0..2).for_each(|_| site.add_worker(1));
    site.await_workers(2);
    let ex = site.connect();
    let results: Vec<_> = (0..20).map(|x| ex.submit(square(x))).collect();
    wait_for("values are asked for", || asked.exists().then_some(()));
    site.workers[0].kill();
    for (x, ar) in (0..).zip(&results) {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(x * x));
    }
}

fn a_nanny_starts_a_worker_again_and_it_has_engines() {
    let mut site = Site::scheduler();
    site.add_worker_with(1, &["--nanny"], &[]);
    site.await_workers(1);
    let ex = site.connect();
    let dir = tempfile::tempdir().unwrap();
    let ar = ex.submit(linger(dir.path().into()));
    let [engine, worker] = wait_for("it runs", || begun(dir.path()).pop());
    kill(worker);
    wait_for("its engine ends with it", || (!is_there(engine)).then_some(()));
    let again = wait_for("it runs again", || begun(dir.path()).into_iter().find(|[other, _]| *other != engine));
    assert_ne!(again[1], worker);
    open(dir.path());
    assert_eq!(ar.get_timeout(PATIENCE), Ok(again[0]));
}

/// An executor whose worker is taken by a task that runs, and another that waits.
fn taken(site: &Site) -> (callboard::DaskExecutor, [callboard::AsyncResult<u32>; 2], u32, tempfile::TempDir) {
    let (ex, dir) = (site.connect(), tempfile::tempdir().unwrap());
    let runs = ex.submit(linger(dir.path().into()));
    let [engine, _] = wait_for("it runs", || begun(dir.path()).pop());
    let waits = ex.submit(linger(dir.path().into()));
    (ex, [runs, waits], engine, dir)
}

#[track_caller]
fn all_are_lost(ex: &callboard::DaskExecutor, results: &[callboard::AsyncResult<u32>], cause_has: &str) {
    for ar in results {
        let error = ar.get_timeout(PATIENCE).unwrap_err();
        assert!(matches!(&error, TaskError::ExecutorLost { cause } if cause.contains(cause_has)), "{error}");
    }
    let later = ex.submit(square(2)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(&later, TaskError::ExecutorLost { cause } if cause.contains(cause_has)), "{later}");
    assert!(ex.refresh().get().unwrap_err().to_string().contains("was lost"));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
}

fn a_killed_scheduler_settles_everything() {
    let mut site = Site::of(1);
    let (ex, results, engine, _dir) = taken(&site);
    site.scheduler.kill();
    let cause = format!("the connection to the scheduler at {} was lost", site.address);
    all_are_lost(&ex, &results, &cause);
    // A worker without a scheduler ends, and its engines with it.
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
}

fn a_killed_bridge_settles_everything_and_leaves_no_engine() {
    let (site, before) = (Site::of(1), bridges());
    let (ex, results, engine, _dir) = taken(&site);
    kill(new_bridge(&before));
    all_are_lost(&ex, &results, "the bridge to Dask ended with signal: 9");
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
    let worker = site.workers[0].id();
    wait_for("no engine is left", || residents(worker).is_empty().then_some(()));
    assert!(is_there(worker));
    // The cluster is as good as new.
    assert_eq!(site.connect().submit(square(7)).get_timeout(PATIENCE), Ok(49));
}

/// Submits until a task has a value: each one settles, at once or as a value.
#[track_caller]
fn it_works_again(ex: &callboard::DaskExecutor) {
    let value = wait_for("it works again", || match ex.submit(square(7)).get_timeout(PATIENCE) {
        Ok(value) => Some(value),
        Err(TaskError::ExecutorLost { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(value, 49);
    ex.refresh().get().unwrap();
    assert_eq!((ex.workers(), ex.max_workers()), (1, 1));
    let squares: Vec<u64> = ex.map(square, 0..100).collect::<Result<_, _>>().unwrap();
    assert_eq!(squares, (0..100).map(|x| x * x).collect::<Vec<_>>());
}

#[track_caller]
fn is_lost(ar: &callboard::AsyncResult<u32>) {
    let error = ar.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::ExecutorLost { .. }), "{error}");
}

fn behind_a_killed_bridge_comes_another() {
    let (site, before) = (Site::of(1), bridges());
    let (ex, results, _, dir) = taken(&site);
    for _ in 0..2 {
        kill(new_bridge(&before));
        results.iter().for_each(is_lost);
        it_works_again(&ex);
        assert_eq!(site.plugins().len(), 1, "what the killed one had registered is taken back");
    }
    assert_eq!(begun(dir.path()).len(), 1, "what was lost is not submitted again");
    let worker = site.workers[0].id();
    wait_for("only the engine of now is left", || (residents(worker).len() == 1).then_some(()));
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    wait_for("no engine is left", || residents(worker).is_empty().then_some(()));
    assert!(bridges().iter().all(|bridge| before.contains(bridge)), "its bridge has ended");
}

fn behind_a_connection_that_is_cut_comes_another() {
    // Dask's client makes another connection by itself, and has given up all that it had.
    let (site, network, before) = (Site::of(1), Forwarder::start(), bridges());
    network.forward_to(site.address.strip_prefix("tcp://").unwrap().parse().unwrap());
    let address = format!("tcp://{}", network.address());
    let ex = callboard::DaskExecutor::builder(&address).python(python().unwrap().display().to_string());
    let ex = ex.connect().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let results: Vec<_> = (0..3).map(|_| ex.submit(linger(dir.path().into()))).collect();
    let [engine, _] = wait_for("it runs", || begun(dir.path()).pop());
    network.cut();
    for ar in &results {
        let error = ar.get_timeout(PATIENCE).unwrap_err();
        let cause = format!("the connection to the scheduler at {address} was lost");
        assert_eq!(error, TaskError::ExecutorLost { cause: cause.into() });
    }
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
    it_works_again(&ex);

    // Also where nothing is pending.
    let idle = new_bridge(&before);
    network.cut();
    wait_for("it is seen", || (!is_there(idle)).then_some(()));
    it_works_again(&ex);
    assert_eq!(begun(dir.path()).len(), 1, "what was lost is not submitted again");
    assert_eq!(site.plugins().len(), 1, "what was registered before is taken back");
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(site.plugins(), [""; 0]);
}

fn an_interpreter_that_does_not_read_holds_up_nobody() {
    let (site, before, place) = (Site::of(1), bridges(), tempfile::tempdir().unwrap());
    let (stuck, interpreter) = (place.path().join("stuck"), place.path().join("python"));
    let script = "#!/bin/sh\n[ -e \"${0%/*}/stuck\" ] && exec sleep 61\nexec";
    std::fs::write(&interpreter, format!("{script} {} \"$@\"\n", python().unwrap().display())).unwrap();
    std::fs::set_permissions(&interpreter, std::fs::Permissions::from_mode(0o700)).unwrap();
    // More than a pipe takes.
    let builder = site.builder().python(interpreter.display().to_string()).engine_args(["x".repeat(100_000)]);
    let ex = builder.connect().unwrap();
    std::fs::write(&stuck, "").unwrap();
    kill(new_bridge(&before));
    let sleeps = wait_for("another one is started", || {
        let error = ex.submit(square(2)).get_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, TaskError::ExecutorLost { .. }), "{error}");
        children(std::process::id(), "sleep").pop()
    });
    let began = Instant::now();
    let error = ex.submit(square(2)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::ExecutorLost { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    std::fs::remove_file(&stuck).unwrap();
    kill(sleeps);
    it_works_again(&ex);
}

fn behind_a_killed_scheduler_comes_another() {
    let mut site = Site::of(1);
    let ex = site.builder().connect_within(Duration::from_secs(1)).connect().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runs = ex.submit(linger(dir.path().into()));
    wait_for("it runs", || begun(dir.path()).pop());
    site.scheduler.kill();
    is_lost(&runs);
    let cause = wait_for("it was tried in vain", || match ex.submit(square(2)).get_timeout(PATIENCE).unwrap_err() {
        TaskError::ExecutorLost { cause } => cause.contains("anew").then_some(cause),
        error => panic!("{error}"),
    });
    let (lost, since) = cause.split_once("; ").unwrap();
    assert_eq!(lost, format!("the connection to the scheduler at {} was lost", site.address));
    assert!(since.starts_with("connecting anew failed: ") && since.contains("no scheduler was found"), "{since}");
    site.start_another_scheduler();
    site.add_worker(1);
    site.await_workers(1);
    it_works_again(&ex);
    ex.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
}

fn an_executor_ends_while_it_connects_anew() {
    let (mut site, before) = (Site::of(1), bridges());
    let ex = site.connect();
    site.scheduler.kill();
    let bridge = new_bridge(&before);
    let anew = wait_for("it connects anew", || {
        let error = ex.submit(square(2)).get_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, TaskError::ExecutorLost { .. }), "{error}");
        bridges().into_iter().find(|anew| *anew != bridge && !before.contains(anew))
    });
    // For ten seconds it would look for a scheduler.
    ex.shutdown(Pending::Finish).get_timeout(Duration::from_secs(6)).unwrap();
    assert!(!is_there(anew));
    assert_eq!(ex.submit(square(2)).get(), Err(TaskError::ShutDown));
}
