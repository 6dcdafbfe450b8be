//! Engines on the workers of a Dask cluster, which dial.

use std::time::Duration;

use callboard::launchers::{Dask, JobState};
use callboard::prelude::*;
use callboard::{Error, Listen};

use super::site::{Site, wait_for};
use super::{PATIENCE, Still, Test, bridges, children, is_there, kill, new_bridge, square, unread};

pub(super) const TESTS: &[Test] = &[
    ("engines_on_workers_dial_and_end_with_their_launch", engines_on_workers_dial_and_end_with_their_launch),
    (
        "engines_on_workers_end_with_their_worker_and_the_bridge",
        engines_on_workers_end_with_their_worker_and_the_bridge,
    ),
    ("engines_are_killed_also_where_that_comes_with_the_end", engines_are_killed_also_where_that_comes_with_the_end),
    ("a_worker_that_stands_still_keeps_no_engine_from_being_told", a_worker_that_stands_still),
    ("engines_without_workers_are_an_error", engines_without_workers_are_an_error),
];

#[task]
fn worker() -> u32 {
    std::os::unix::process::parent_id()
}

/// A cluster that listens.
fn listening() -> (Cluster, tempfile::TempDir) {
    let (cluster, directory) = (Cluster::without_engines().start().unwrap(), tempfile::tempdir().unwrap());
    cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    (cluster, directory)
}

fn dialling(site: &Site, worker: usize) -> Vec<u32> {
    children(site.workers[worker].id(), "--callboard-dial")
}

fn engines_on_workers_dial_and_end_with_their_launch() {
    let site = Site::of(2);
    let (cluster, _directory) = listening();
    let launched = cluster.launch(Dask::with(site.builder()), 4).unwrap();
    assert_eq!(launched.joined().get_timeout(PATIENCE).unwrap().len(), 4);
    assert_eq!(launched.states(), [(format!("Dask {}", site.address), JobState::Running)]);
    let rc = cluster.client();
    let mut workers = rc.all().apply(worker()).get().unwrap();
    workers.sort_unstable();
    let mut expected: Vec<u32> = site.workers.iter().flat_map(|part| [part.id(); 2]).collect();
    expected.sort_unstable();
    assert_eq!(workers, expected, "two on each");
    let squares: Vec<u64> = rc.load_balanced().map(square, 0..1_000).get().unwrap();
    assert_eq!(squares, (0..1_000).map(|x| x * x).collect::<Vec<_>>());
    let all: Vec<u32> = (0..2).flat_map(|worker| dialling(&site, worker)).collect();
    assert_eq!(all.len(), 4);
    launched.end().get_timeout(PATIENCE).unwrap();
    assert!(rc.is_empty());
    let state = wait_for("it is over", || launched.states().pop().filter(|(_, state)| state.is_ended()));
    assert_eq!(state.1, JobState::Ended { cause: "its engines have ended: exit status 0".into() });
    assert!(!all.iter().any(|engine| is_there(*engine)));
}

fn engines_on_workers_end_with_their_worker_and_the_bridge() {
    let mut site = Site::of(2);
    let (cluster, _directory) = listening();
    let before = bridges();
    let launched = cluster.launch(Dask::with(site.builder()), 2).unwrap();
    launched.joined().get_timeout(PATIENCE).unwrap();
    let [[first], [second]] = [0, 1].map(|worker| <[u32; 1]>::try_from(dialling(&site, worker)).unwrap());
    site.workers[0].kill();
    wait_for("it ends with its worker", || (!is_there(first)).then_some(()));
    wait_for("it has left", || (cluster.client().len() == 1).then_some(()));
    assert!(is_there(second));
    assert_eq!(cluster.client().load_balanced().apply(square(7)).get_timeout(PATIENCE), Ok(49));
    kill(new_bridge(&before));
    wait_for("it ends with the bridge", || (!is_there(second)).then_some(()));
    wait_for("it has left", || cluster.client().is_empty().then_some(()));
    assert!(launched.states()[0].1.is_ended());
    wait_for("its plugin is taken back", || site.plugins().is_empty().then_some(()));
}

fn engines_are_killed_also_where_that_comes_with_the_end() {
    let (site, before) = (Site::of(1), bridges());
    let (cluster, _directory) = listening();
    let launched = cluster.launch(Dask::with(site.builder()), 2).unwrap();
    launched.joined().get_timeout(PATIENCE).unwrap();
    let engines = dialling(&site, 0);
    assert_eq!(engines.len(), 2);
    // What stands still cannot leave, and the bridge hears of everything at once.
    let _still: Vec<Still> = engines.iter().map(|engine| Still::hold(*engine)).collect();
    let bridge = new_bridge(&before);
    let still = Still::hold(bridge);
    launched.end_within(Duration::ZERO).get_timeout(3 * PATIENCE).unwrap();
    drop(launched);
    // To leave, to be killed, once more where it is dropped, and the end.
    wait_for("all of it is said", || (unread(bridge) == 4 * 5).then_some(()));
    assert!(engines.iter().all(|engine| is_there(*engine)));
    drop(still);
    wait_for("they are killed", || (!engines.iter().any(|engine| is_there(*engine))).then_some(()));
    wait_for("the bridge ends", || (!is_there(bridge)).then_some(()));
    assert_eq!(site.plugins(), [""; 0]);
}

fn a_worker_that_stands_still() {
    let site = Site::of(2);
    let (cluster, _directory) = listening();
    let launched = cluster.launch(Dask::with(site.builder()), 2).unwrap();
    launched.joined().get_timeout(PATIENCE).unwrap();
    let [[first], [second]] = [0, 1].map(|worker| <[u32; 1]>::try_from(dialling(&site, worker)).unwrap());
    let worker = Still::hold(site.workers[0].id());
    wait_for("it is not waited for", || launched.output()[0].stderr.contains("cannot be told to look").then_some(()));
    assert_eq!(launched.states()[0].1, JobState::Running);
    // What stands still cannot leave.
    let _still = [first, second].map(Still::hold);
    let ending = launched.end_within(Duration::ZERO);
    wait_for("it is killed", || (!is_there(second)).then_some(()));
    drop(worker);
    wait_for("so is that of the worker, when it goes on", || (!is_there(first)).then_some(()));
    ending.get_timeout(3 * PATIENCE).unwrap();
}

fn engines_without_workers_are_an_error() {
    let site = Site::scheduler();
    let (cluster, _directory) = listening();
    let refused = cluster.launch(Dask::with(site.builder()), 2).unwrap_err();
    assert!(
        matches!(&refused, Error::Dask { problem, .. } if problem.starts_with("the cluster has no workers")),
        "{refused}"
    );
}
