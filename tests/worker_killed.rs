//! One worker of each mechanism is killed in the middle of 200 tasks of 20 ms: none is lost. With a `main` of its own: each worker
//! is this very program. Prints the table of `docs/executors.md`; its lines of Dask are printed by `tests/dask.rs`.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use callboard::executors::RetryPolicy;
use callboard::prelude::*;
use callboard::{ExecutorSpec, Listen, ThreadPoolExecutor};

mod killed;
mod support;

use killed::{PATIENCE, WORKERS, kill, nap, none_is_lost};

/// The same, for whoever is not told that it may run twice.
#[task]
fn nap_once(n: u64) -> (u64, i32) {
    nap(n).call()
}

#[task]
fn fall() {
    panic!("a worker falls")
}

/// Is the controller of a cluster of processes, until its standard input ends; says where its connection file for clients is.
fn control(directory: &str) {
    let cluster = Cluster::processes(WORKERS).start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    println!("{}", listening.client_file().display());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[task]
fn dies() {
    std::process::abort()
}

/// As many tasks as there are workers end the one that runs them; others take their places.
fn others_come_where_all_have_died(executor: &dyn Executor) {
    let lost: Vec<_> = (0..WORKERS).map(|_| executor.submit(dies())).collect();
    let work: Vec<_> = (0..100).map(|n| executor.submit(nap(n))).collect();
    for ar in lost {
        let lost = ar.get_timeout(PATIENCE);
        assert!(matches!(lost, Err(TaskError::EngineLost { .. })), "{lost:?}");
    }
    for (n, ar) in (0..).zip(work) {
        assert_eq!(ar.get_timeout(PATIENCE).unwrap().0, n);
    }
}

/// The executor is in this process, its cluster in another, and the engine that is killed in a third.
fn with_a_controller_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let mut controller = Command::new(std::env::current_exe().unwrap());
    controller.arg("controls").arg(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut controller = controller.spawn().unwrap();
    let said = BufReader::new(controller.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let executor = ExecutorSpec::Cluster(said).open().unwrap();
    none_is_lost("`cluster:FILE`, an engine of its four processes, `kill -9`", &executor, nap, 1, kill);
    executor.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    drop(controller.stdin.take());
    assert!(controller.wait().unwrap().success());
}

fn main() {
    support::engine();
    if let [what, directory] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
        && what == "controls"
    {
        return control(directory);
    }
    println!(
        "| executor, and what happens to a worker | lost | started twice | 200 tasks of 20 ms |\n|---|---|---|---|"
    );

    let pool = ThreadPoolExecutor::new(WORKERS).unwrap();
    none_is_lost("`threads:4`, its task panics", &pool, nap, 1, |_| {
        assert!(matches!(pool.submit(fall()).get_timeout(PATIENCE), Err(TaskError::Panicked { .. })));
    });

    let cluster = Cluster::threads(WORKERS).start().unwrap();
    let rc = cluster.client();
    none_is_lost("`engines:4`, it is removed", &rc.executor(), nap, 1, |_| {
        cluster.remove_engines([rc.ids()[0]]).get_timeout(PATIENCE).unwrap();
    });

    let processes = ExecutorSpec::Processes(WORKERS).open().unwrap();
    none_is_lost("`processes:4`, `kill -9`", &processes, nap, 1, kill);

    let processes = ExecutorSpec::Processes(WORKERS).open().unwrap().retry(RetryPolicy::new(2));
    none_is_lost("`processes:4` with `retry`, `kill -9`", &processes, nap_once, 1, kill);

    let tcp = ExecutorSpec::Tcp(WORKERS).open().unwrap();
    none_is_lost("`tcp:4`, `kill -9`", &tcp, nap, 1, kill);

    with_a_controller_elsewhere();

    for spec in [ExecutorSpec::Processes(WORKERS), ExecutorSpec::Tcp(WORKERS)] {
        others_come_where_all_have_died(&spec.open().unwrap());
    }
}
