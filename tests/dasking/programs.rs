//! Other programs: two on one cluster, and one that is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use callboard::prelude::*;

use super::site::{Site, python, wait_for};
use super::{PATIENCE, Test, begun, bridges, is_there, kill, linger, new_bridge, open, residents, square};

pub(super) const TESTS: &[Test] = &[
    ("two_programs_share_a_cluster", two_programs_share_a_cluster),
    ("a_killed_program_leaves_no_engine", a_killed_program_leaves_no_engine),
    ("what_a_killed_bridge_has_left_is_taken_back_and_nothing_else", what_a_killed_bridge_has_left),
];

/// Is one of these programs, if the arguments say so.
pub(super) fn be_one(arguments: &[String]) -> bool {
    let [what, address, rest @ ..] = arguments else { return false };
    let connect = || {
        let builder = callboard::DaskExecutor::builder(address).python(python().unwrap().display().to_string());
        builder.connect().unwrap()
    };
    match (&**what, rest) {
        ("squares", []) => println!("{}", connect().map(square, 0..200).map(Result::unwrap).sum::<u64>()),
        ("lingers", [dir]) => {
            let ex = connect();
            let outcome = ex.submit(linger(dir.into())).get();
            println!("{outcome:?}");
        }
        _ => return false,
    }
    true
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

fn two_programs_share_a_cluster() {
    let site = Site::of(2);
    let mut others: Vec<Child> = (0..2).map(|_| start(&["squares", &site.address])).collect();
    let ours = site.connect().map(square, 0..200).map(Result::unwrap).sum::<u64>();
    assert_eq!(ours, (0..200).map(|x| x * x).sum::<u64>());
    for other in &mut others {
        let printed = BufReader::new(other.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        assert_eq!(printed, ours.to_string());
        assert!(other.wait().unwrap().success());
    }
    wait_for("their engines end with them", || {
        site.workers.iter().all(|worker| residents(worker.id()).is_empty()).then_some(())
    });
}

fn a_killed_program_leaves_no_engine() {
    let site = Site::of(1);
    let (worker, dir) = (site.workers[0].id(), tempfile::tempdir().unwrap());
    let mut program = start(&["lingers", &site.address, &dir.path().display().to_string()]);
    let [engine, _] = wait_for("it runs", || begun(dir.path()).pop());
    program.kill().unwrap();
    program.wait().unwrap();
    wait_for("its engine ends", || (!is_there(engine)).then_some(()));
    wait_for("no engine is left", || residents(worker).is_empty().then_some(()));
    wait_for("its plugin is taken back", || site.plugins().is_empty().then_some(()));
    assert_eq!(site.connect().submit(square(7)).get_timeout(PATIENCE), Ok(49));
}

fn what_a_killed_bridge_has_left() {
    let mut site = Site::of(2);
    let (one, before) = (site.connect(), bridges());
    let ([ours], dir) = (<[String; 1]>::try_from(site.plugins()).unwrap(), tempfile::tempdir().unwrap());
    let runs = one.submit(linger(dir.path().into()));
    wait_for("it runs", || begun(dir.path()).pop());
    let other = site.connect();
    assert_eq!((other.submit(square(7)).get_timeout(PATIENCE), site.plugins().len()), (Ok(49), 2));
    // Nobody connects in its place.
    kill(new_bridge(&before));
    wait_for("its plugin is taken back", || (site.plugins() == [&*ours]).then_some(()));
    assert!(!runs.ready());
    open(dir.path());
    assert!(runs.get_timeout(PATIENCE).is_ok());
    assert_eq!(begun(dir.path()).len(), 1, "it was not disturbed");
    assert_eq!(one.submit(square(8)).get_timeout(PATIENCE), Ok(64));
    site.add_worker(1);
    wait_for("the worker has come", || (one.workers() == 3).then_some(()));
    let engines = || residents(site.workers[2].id()).len();
    wait_for("it has engines of those who are there", || (engines() == 1).then_some(()));
    one.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(site.plugins(), [""; 0]);
}
