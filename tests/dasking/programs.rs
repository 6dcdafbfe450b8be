//! Other programs: two on one cluster, and one that is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use callboard::prelude::*;

use super::site::{Site, python, wait_for};
use super::{PATIENCE, Test, begun, is_there, linger, residents, square};

pub(super) const TESTS: &[Test] = &[
    ("two_programs_share_a_cluster", two_programs_share_a_cluster),
    ("a_killed_program_leaves_no_engine", a_killed_program_leaves_no_engine),
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
