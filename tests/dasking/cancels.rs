//! What is cancelled: waiting, running, by force.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Status, wait};

use super::site::{Site, wait_for};
use super::{
    AccessMode, PATIENCE, Still, Test, begun, bridges, is_pipe, is_there, kill, linger, new_bridge, open, residents,
    square, unread,
};

pub(super) const TESTS: &[Test] = &[
    ("by_force_an_engine_is_ended_and_the_worker_lives_on", by_force_an_engine_is_ended_and_the_worker_lives_on),
    ("an_engine_that_has_just_died_keeps_no_other_from_a_cancel", an_engine_that_has_just_died),
    ("what_is_asked_to_stop_by_the_end_has_the_time_for_it", what_is_asked_to_stop_by_the_end),
    ("only_what_has_begun_is_said_to_have", only_what_has_begun_is_said_to_have),
    ("results_mix_with_those_of_other_executors", results_mix_with_those_of_other_executors),
];

fn by_force_an_engine_is_ended_and_the_worker_lives_on() {
    let site = Site::of(1);
    let ex = site.connect();
    let dir = tempfile::tempdir().unwrap();
    let hangs = ex.submit(linger(dir.path().into()));
    let [engine, worker] = wait_for("it runs", || begun(dir.path()).pop());
    assert_eq!(worker, site.workers[0].id());
    // It does not listen.
    assert!(hangs.cancel("please"));
    let told = hangs.get_timeout(PATIENCE);
    assert_eq!(told, Err(TaskError::Cancelled { reason: "please".into() }));
    let next = ex.submit(square(6));
    assert!(next.get_timeout(Duration::from_millis(300)).is_err(), "the worker's thread is still taken");
    assert!(is_there(engine) && !hangs.cancel_by_force("it hangs"), "it is settled, and ended all the same");
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
    assert_eq!(next.get_timeout(PATIENCE), Ok(36));

    let dir = tempfile::tempdir().unwrap();
    let hangs = ex.submit(linger(dir.path().into()));
    let [engine, _] = wait_for("it runs", || begun(dir.path()).pop());
    assert!(hangs.cancel_by_force("it hangs"));
    assert_eq!(hangs.get_timeout(PATIENCE), Err(TaskError::Cancelled { reason: "it hangs".into() }));
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
    assert_eq!(ex.submit(square(7)).get_timeout(PATIENCE), Ok(49), "on another engine of the same worker");
    assert!(is_there(worker));
}

/// Has a child of its own hold the pipe by which it answers, and kills its own process: nobody hears of that end.
#[task]
fn end_unheard(dir: PathBuf) {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let mut numbers = numbers.map(|name| name.into_string().unwrap()).filter(|name| name.parse::<u32>().unwrap() > 2);
    let answers = numbers.find(|number| is_pipe("self", number, AccessMode::Writes)).unwrap();
    let answers = std::fs::File::options().write(true).open(format!("/proc/self/fd/{answers}")).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(answers).spawn().unwrap();
    std::fs::write(dir.join(format!("{}.{}.begun", std::process::id(), child.id())), "").unwrap();
    kill(std::process::id());
    // It does not come to this.
    child.wait().unwrap();
}

/// Leaves a file, waits until it is told to stop, takes so long for that, and leaves another one.
#[task]
fn listen(cx: &TaskContext, dir: PathBuf, stops_within: Duration) {
    std::fs::write(dir.join("listens"), "").unwrap();
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(stops_within);
    std::fs::write(dir.join("stopped"), "").unwrap();
}

fn an_engine_that_has_just_died() {
    let (mut site, before) = (Site::scheduler(), bridges());
    site.add_worker(2);
    site.await_workers(1);
    let ex = site.connect();
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let dies = ex.submit(end_unheard(first.path().into()));
    let [engine, holder] = wait_for("it ends", || begun(first.path()).pop());
    wait_for("it has ended", || (!is_there(engine)).then_some(()));
    let listens = ex.submit(listen(second.path().into(), Duration::ZERO));
    wait_for("it listens", || second.path().join("listens").exists().then_some(()));
    assert!(!dies.ready(), "nobody has heard of its end");
    // So that the worker is told of both together, and first of the one whose pipe is broken.
    let bridge = new_bridge(&before);
    let still = Still::hold(bridge);
    assert!(dies.cancel("enough") && listens.cancel("enough"));
    wait_for("both are said", || (unread(bridge) == 2 * 13).then_some(()));
    drop(still);
    for ar in [&dies, &listens] {
        assert_eq!(ar.get_timeout(PATIENCE), Err(TaskError::Cancelled { reason: "enough".into() }));
    }
    wait_for("it is told", || second.path().join("stopped").exists().then_some(()));
    assert!(is_there(holder), "what is asked is not killed");
    assert!(!dies.cancel_by_force("it hangs"), "it is settled, and ended all the same");
    wait_for("what it has left ends", || (!is_there(holder)).then_some(()));
    let dir = tempfile::tempdir().unwrap();
    let both = [(); 2].map(|()| ex.submit(linger(dir.path().into())));
    wait_for("both threads are free", || (begun(dir.path()).len() == 2).then_some(()));
    open(dir.path());
    assert!(both.iter().all(|ar| ar.get_timeout(PATIENCE).is_ok()));
}

fn what_is_asked_to_stop_by_the_end() {
    let (site, dir) = (Site::of(1), tempfile::tempdir().unwrap());
    let ex = site.connect();
    let ar = ex.submit(listen(dir.path().into(), Duration::from_millis(500)));
    wait_for("it listens", || dir.path().join("listens").exists().then_some(()));
    let engines = residents(site.workers[0].id());
    ex.shutdown(Pending::Cancel).get_timeout(PATIENCE).unwrap();
    assert!(matches!(ar.get(), Err(TaskError::Cancelled { .. })));
    assert!(dir.path().join("stopped").exists(), "it had begun to stop");
    assert!(engines.len() == 1 && !engines.iter().any(|engine| is_there(*engine)));

    // What does not listen is waited for no longer than that.
    let (ex, dir) = (site.connect(), tempfile::tempdir().unwrap());
    let hangs = ex.submit(linger(dir.path().into()));
    let [engine, _] = wait_for("it runs", || begun(dir.path()).pop());
    ex.shutdown(Pending::Cancel).get_timeout(PATIENCE).unwrap();
    assert!(matches!(hangs.get(), Err(TaskError::Cancelled { .. })) && !is_there(engine));
}

fn only_what_has_begun_is_said_to_have() {
    let site = Site::of(1);
    let ex = site.connect();
    let dir = tempfile::tempdir().unwrap();
    let runs = ex.submit(linger(dir.path().into()));
    wait_for("it runs", || begun(dir.path()).pop());
    let waits: Vec<_> = (0..5).map(|_| ex.submit(linger(dir.path().into()))).collect();
    ex.refresh().get().unwrap();
    for ar in waits.iter().chain([&runs]) {
        ar.cancel("enough");
        assert_eq!(ar.get_timeout(PATIENCE), Err(TaskError::Cancelled { reason: "enough".into() }));
    }
    let record = runs.metadata();
    assert_eq!((record.status, record.attempt.0, record.started.is_some()), (Status::Cancelled, 1, true));
    for ar in &waits {
        let record = ar.metadata();
        assert_eq!((record.status, record.attempt.0, record.started), (Status::Cancelled, 0, None));
    }
    open(dir.path());
    assert_eq!(ex.submit(square(7)).get_timeout(PATIENCE), Ok(49));
    assert_eq!(begun(dir.path()).len(), 1);
}

fn results_mix_with_those_of_other_executors() {
    let site = Site::of(1);
    let (dask, threads) = (site.connect(), callboard::ThreadPoolExecutor::new(1).unwrap());
    let results = [dask.submit(square(2)), threads.submit(square(3)), dask.submit(square(4))];
    let waited = wait(&results, callboard::ReturnWhen::AllCompleted).get_timeout(PATIENCE).unwrap();
    assert_eq!(waited.done.len(), 3);
    let mut squares: Vec<u64> = callboard::as_completed(results).map(|ar| ar.get().unwrap()).collect();
    squares.sort_unstable();
    assert_eq!(squares, [4, 9, 16]);
}
