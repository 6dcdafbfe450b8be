//! What dies, and what becomes of the tasks that it had.

use std::path::PathBuf;
use std::time::Duration;

use callboard::prelude::*;

use super::site::{Site, wait_for};
use super::{PATIENCE, Test, begun, bridges, is_there, kill, linger, new_bridge, open, residents, square};

pub(super) const TESTS: &[Test] = &[
    ("a_crash_ends_an_engine_and_not_the_worker", a_crash_ends_an_engine_and_not_the_worker),
    ("a_crash_is_tried_again_where_retries_allow_it", a_crash_is_tried_again_where_retries_allow_it),
    ("a_task_that_may_run_twice_survives_two_engines", a_task_that_may_run_twice_survives_two_engines),
    ("what_a_killed_worker_ran_runs_again_once", what_a_killed_worker_ran_runs_again_once),
    ("values_are_not_looked_for_at_a_worker_that_is_lost", values_are_not_looked_for_at_a_worker_that_is_lost),
    ("a_worker_that_does_not_answer_holds_up_nothing", a_worker_that_does_not_answer_holds_up_nothing),
    ("a_nanny_starts_a_worker_again_and_it_has_engines", a_nanny_starts_a_worker_again_and_it_has_engines),
    ("a_killed_scheduler_settles_everything", a_killed_scheduler_settles_everything),
    (
        "a_killed_bridge_settles_everything_and_leaves_no_engine",
        a_killed_bridge_settles_everything_and_leaves_no_engine,
    ),
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

/// Leaves a file for each attempt, and kills its own process in the first so many. Returns which attempt this is.
#[task(idempotent)]
fn crash_at_first(cx: &TaskContext, dir: PathBuf, crashes: u32) -> u32 {
    let attempt = cx.attempt().0;
    std::fs::write(dir.join(attempt.to_string()), "").unwrap();
    if attempt <= crashes {
        kill(std::process::id());
    }
    attempt
}

/// Leaves its process in a file for each attempt, then waits for a file `open`.
#[task(idempotent)]
fn linger_again(cx: &TaskContext, dir: PathBuf) -> u32 {
    let marks = dir.join(format!("attempt-{}", cx.attempt().0));
    std::fs::create_dir(&marks).unwrap();
    std::fs::write(marks.join(std::process::id().to_string()), "").unwrap();
    while !dir.join("open").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    cx.attempt().0
}

fn a_task_that_may_run_twice_survives_two_engines() {
    let site = Site::of(1);
    let never = site.builder().retries(0).connect().unwrap();
    let by_dask = site.builder().retries(2).connect().unwrap();
    // As over processes: the same, attempt by attempt.
    let usual: [Box<dyn Executor>; 2] =
        [Box::new(callboard::ProcessPoolExecutor::new(1).unwrap()), Box::new(site.connect())];
    for ex in &usual {
        for (crashes, attempts) in [(0, 1), (1, 2), (2, 3), (3, 3)] {
            let dir = tempfile::tempdir().unwrap();
            let ar = ex.submit(crash_at_first(dir.path().into(), crashes));
            match ar.get_timeout(PATIENCE) {
                Ok(attempt) => assert!(attempt == attempts && crashes < 3, "{ex:?}: {attempt}"),
                Err(TaskError::EngineLost { attempt, .. }) => assert!(attempt.0 == 3 && crashes == 3, "{ex:?}"),
                Err(error) => panic!("{ex:?}: {error}"),
            }
            assert_eq!(ar.metadata().attempt.0, attempts, "{ex:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), attempts as usize, "{ex:?}");
        }
        // One that is known to run, and is lost by another's doing.
        let dir = tempfile::tempdir().unwrap();
        let ar = ex.submit(linger_again(dir.path().into()));
        for attempt in 1..=2 {
            let engine =
                wait_for("it runs", || std::fs::read_dir(dir.path().join(format!("attempt-{attempt}"))).ok()?.next());
            wait_for("it is told", || ar.running().get().unwrap().then_some(()));
            if attempt == 1 {
                kill(engine.unwrap().file_name().to_str().unwrap().parse().unwrap());
            }
        }
        open(dir.path());
        assert_eq!(ar.get_timeout(PATIENCE), Ok(2), "{ex:?}");
        assert_eq!(ar.metadata().attempt.0, 2, "{ex:?}");
    }

    // What is said of retries is what counts.
    let dir = tempfile::tempdir().unwrap();
    let error = never.submit(crash_at_first(dir.path().into(), 1)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(&error, TaskError::EngineLost { attempt, .. } if attempt.0 == 1), "{error}");
    // Dask does not tell a task how often it was begun.
    let dir = tempfile::tempdir().unwrap();
    let ar = by_dask.submit(crash_at_first(dir.path().into(), 1));
    assert!(matches!(ar.get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "each took itself for the first");
}

fn what_a_killed_worker_ran_runs_again_once() {
    let mut site = Site::of(2);
    let ex = site.connect();
    let dir = tempfile::tempdir().unwrap();
    let ar = ex.submit(linger(dir.path().into()));
    let [engine, worker] = wait_for("it runs", || begun(dir.path()).pop());
    wait_for("it is told", || ar.running().get().unwrap().then_some(()));
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

fn a_worker_that_does_not_answer_holds_up_nothing() {
    let mut site = Site::of(1);
    let ex = site.builder().connect().unwrap();
    // One that takes no values, so that it cannot be claimed.
    let preload = site.path().join("hangs.py");
    let hangs = "import asyncio\nasync def hang(*args, **kwargs):\n    await asyncio.sleep(3600)\n\
                 def dask_setup(worker):\n    worker.handlers['update_data'] = hang\n";
    std::fs::write(&preload, hangs).unwrap();
    site.add_worker_with(1, &["--no-nanny", "--preload", &preload.display().to_string()], &[]);
    wait_for("both are counted", || (ex.workers() == 2).then_some(()));
    let squares: Vec<u64> = ex.map(square, 0..20).collect::<Result<_, _>>().unwrap();
    assert_eq!(squares, (0..20).map(|x| x * x).collect::<Vec<_>>());
    ex.shutdown(Pending::Finish).get_timeout(Duration::from_secs(10)).unwrap();
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
pub(super) fn taken(
    site: &Site,
) -> (callboard::DaskExecutor, [callboard::AsyncResult<u32>; 2], u32, tempfile::TempDir) {
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
