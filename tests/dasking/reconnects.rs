//! Another bridge, behind one that was lost.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use callboard::prelude::*;

use super::losses::taken;
use super::site::{Site, python, wait_for};
use super::{PATIENCE, Test, begun, bridges, children, is_there, kill, linger, new_bridge, residents, square};
use crate::support::Forwarder;

pub(super) const TESTS: &[Test] = &[
    ("behind_a_killed_bridge_comes_another", behind_a_killed_bridge_comes_another),
    ("behind_a_connection_that_is_cut_comes_another", behind_a_connection_that_is_cut_comes_another),
    ("an_interpreter_that_does_not_read_holds_up_nobody", an_interpreter_that_does_not_read_holds_up_nobody),
    ("behind_a_killed_scheduler_comes_another", behind_a_killed_scheduler_comes_another),
    ("an_executor_ends_while_it_connects_anew", an_executor_ends_while_it_connects_anew),
];

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
