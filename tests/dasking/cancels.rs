//! What is cancelled: waiting, running, by force.

use std::time::Duration;

use callboard::prelude::*;
use callboard::{Status, wait};

use super::site::{Site, wait_for};
use super::{PATIENCE, Test, begun, is_there, linger, open, square};

pub(super) const TESTS: &[Test] = &[
    ("by_force_an_engine_is_ended_and_the_worker_lives_on", by_force_an_engine_is_ended_and_the_worker_lives_on),
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
