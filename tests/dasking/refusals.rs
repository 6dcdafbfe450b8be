//! What an executor says that cannot be had: each names what is missing, and what to do.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{DaskBuilder, DaskExecutor, Error, Limits};

use super::site::{Site, python};
use super::{Test, square};

pub(super) const TESTS: &[Test] = &[
    ("an_interpreter_that_is_missing_is_named", an_interpreter_that_is_missing_is_named),
    (
        "an_interpreter_without_distributed_is_told_how_to_get_it",
        an_interpreter_without_distributed_is_told_how_to_get_it,
    ),
    ("the_port_of_a_dashboard_is_told_from_the_schedulers", the_port_of_a_dashboard_is_told_from_the_schedulers),
    ("no_scheduler_is_an_error_in_time", no_scheduler_is_an_error_in_time),
    (
        "an_address_that_is_none_is_told_from_one_where_nobody_is",
        an_address_that_is_none_is_told_from_one_where_nobody_is,
    ),
    ("workers_of_another_kind_are_named", workers_of_another_kind_are_named),
    ("a_program_that_is_no_engine_is_told_so", a_program_that_is_no_engine_is_told_so),
    ("without_workers_tasks_wait_or_are_given_up", without_workers_tasks_wait_or_are_given_up),
    ("without_workers_that_may_run_them_tasks_wait_or_are_given_up", without_workers_that_may_run_them),
    ("too_much_at_once_is_refused", too_much_at_once_is_refused),
];

#[track_caller]
fn problem(builder: DaskBuilder) -> String {
    match builder.connect() {
        Err(Error::Dask { problem, .. }) => problem.into(),
        other => panic!("{other:?}"),
    }
}

fn an_interpreter_that_is_missing_is_named() {
    let told = problem(DaskExecutor::builder("tcp://127.0.0.1:1").python("/nowhere/python3"));
    assert!(told.starts_with("the interpreter /nowhere/python3 cannot be started: No such file"), "{told}");
    assert!(told.contains("CALLBOARD_PYTHON") && told.contains("-m pip install distributed"), "{told}");
}

fn an_interpreter_without_distributed_is_told_how_to_get_it() {
    // One that looks for packages nowhere.
    let place = tempfile::tempdir().unwrap();
    let (bare, real) = (place.path().join("python"), python().unwrap().display());
    std::fs::write(&bare, format!("#!/bin/sh\nexec {real} -I -S \"$@\"\n")).unwrap();
    std::fs::set_permissions(&bare, std::fs::Permissions::from_mode(0o700)).unwrap();
    let told = problem(DaskExecutor::builder("tcp://127.0.0.1:1").python(bare.display().to_string()));
    let line = format!("install it with: {real} -m pip install distributed");
    assert!(told.starts_with(&format!("{real} has no distributed (")) && told.ends_with(&line), "{told}");
}

fn the_port_of_a_dashboard_is_told_from_the_schedulers() {
    let site = Site::scheduler();
    let address = format!("tcp://127.0.0.1:{}", site.dashboard());
    let began = Instant::now();
    let told = problem(DaskExecutor::builder(&address).python(python().unwrap().display().to_string()));
    assert!(told.contains(&format!("what listens at {address} speaks HTTP")) && told.contains("8786"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(9), "before it is given up: {:?}", began.elapsed());
}

fn no_scheduler_is_an_error_in_time() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("tcp://{nobody}");
    let builder = DaskExecutor::builder(&address).python(python().unwrap().display().to_string());
    let told = problem(builder.connect_within(Duration::from_secs(1)));
    assert!(told.starts_with(&format!("no scheduler was found at {address} within 1 s")), "{told}");
}

fn an_address_that_is_none_is_told_from_one_where_nobody_is() {
    let told = |address: &str| problem(DaskExecutor::builder(address).python(python().unwrap().display().to_string()));
    for address in ["localhost", "http://127.0.0.1:8787"] {
        let told = told(address);
        assert!(told.starts_with(&format!("{address} is no address of a scheduler: ")), "{told}");
        assert!(told.ends_with("; write it as tcp://host:8786"), "{told}");
    }
    let told = told("tls://127.0.0.1:1");
    assert!(told.ends_with("needs the cluster's files: tls(ca, cert, key) of its builder"), "{told}");
}

fn workers_of_another_kind_are_named() {
    let mut site = Site::of(1);
    let preload = site.path().join("other.py");
    std::fs::write(&preload, "import platform\nplatform.machine = lambda: 'riscv64'\n").unwrap();
    site.add_worker_with(1, &["--no-nanny", "--preload", &preload.display().to_string()], &[]);
    site.await_workers(2);
    let told = problem(site.builder());
    let here = format!("the program is built for Linux {}", std::env::consts::ARCH);
    assert!(told.starts_with(&here) && told.contains("is Linux riscv64"), "{told}");
    assert_eq!(told.matches("tcp://").count(), 1, "only that one is named: {told}");
    let ours = site.workers_addresses().into_iter().find(|address| !told.contains(address)).unwrap();
    let ex = site.builder().workers([ours]).connect().unwrap();
    assert!((0..20).map(|x| ex.submit(square(x))).all(|ar| ar.get().is_ok()), "on the other one");
}

fn a_program_that_is_no_engine_is_told_so() {
    let site = Site::of(1);
    let told = problem(site.builder().engine_program("/bin/true"));
    assert!(told.contains("/bin/true on worker tcp://") && told.contains("callboard::init()"), "{told}");
    let told = problem(site.builder().engine_program("/nowhere/engine"));
    assert!(told.contains("/nowhere/engine cannot be read"), "{told}");
}

fn without_workers_tasks_wait_or_are_given_up() {
    let mut site = Site::scheduler();
    let patient = site.connect();
    let impatient = site.builder().unsatisfiable_after(Duration::from_secs(1)).connect().unwrap();
    assert_eq!((patient.workers(), patient.max_workers()), (0, 1));
    let (waits, given_up) = (patient.submit(square(2)), impatient.submit(square(3)));
    let error = given_up.get_timeout(Duration::from_secs(10)).unwrap_err();
    assert!(
        matches!(&error, TaskError::ExecutorLost { cause } if **cause == *"the cluster has had no worker for 1 s"),
        "{error}"
    );
    assert!(!waits.ready());
    site.add_worker(1);
    assert_eq!(waits.get_timeout(super::PATIENCE), Ok(4));
    assert_eq!(impatient.submit(square(3)).get_timeout(super::PATIENCE), Ok(9), "it goes on, too");
}

fn without_workers_that_may_run_them() {
    let mut site = Site::of(1);
    let lacking = |builder: DaskBuilder| {
        let ex = builder.unsatisfiable_after(Duration::from_secs(1)).connect().unwrap();
        assert_eq!((ex.workers(), ex.max_workers()), (0, 1));
        let error = ex.submit(square(3)).get_timeout(Duration::from_secs(10)).unwrap_err();
        let TaskError::ExecutorLost { cause } = error else { panic!("{error}") };
        cause
    };
    let told = |what: &str| format!("the cluster has had no worker for 1 s that may run them ({what}), among 1");
    assert_eq!(*lacking(site.builder().workers(["10.9.9.9", "alice"])), *told("workers 10.9.9.9, alice"));
    assert_eq!(*lacking(site.builder().resource("GPU", 2.0)), *told("resource GPU 2"));

    // One that has them comes.
    let named = site.builder().workers(["alice"]).connect().unwrap();
    let with_two = site.builder().resource("GPU", 2.0).connect().unwrap();
    let with_three = site.builder().workers(["alice"]).resource("GPU", 3.0);
    let (of_name, of_two) = (named.submit(parent()), with_two.submit(parent()));
    site.add_worker_with(1, &["--no-nanny", "--name=alice", "--resources", "GPU=2"], &[]);
    let alice = site.workers[1].id();
    assert_eq!(of_two.get_timeout(super::PATIENCE), Ok(alice));
    // A name that nobody has is taken for a host: when it is one of a worker, Dask takes any worker of that host.
    assert!(of_name.get_timeout(super::PATIENCE).is_ok());
    assert_eq!(named.submit(parent()).get_timeout(super::PATIENCE), Ok(alice));
    for ex in [&named, &with_two] {
        ex.refresh().get().unwrap();
        assert_eq!((ex.workers(), ex.max_workers()), (1, 1));
    }
    let told = "the cluster has had no worker for 1 s that may run them (workers alice; resource GPU 3), among 2";
    assert_eq!(*lacking(with_three), *told);
    // By address and by host, too.
    let addresses = site.workers_addresses();
    let by_name = addresses[0].replace("127.0.0.1", "localhost");
    for chosen in [&*addresses[0], "127.0.0.1", &by_name, by_name.strip_prefix("tcp://").unwrap()] {
        let ex = site.builder().workers([chosen]).unsatisfiable_after(Duration::from_secs(1)).connect().unwrap();
        assert_eq!(ex.submit(square(4)).get_timeout(super::PATIENCE), Ok(16), "{chosen:?}");
        assert!(ex.workers() >= 1);
    }
}

#[task]
fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

fn too_much_at_once_is_refused() {
    let site = Site::scheduler();
    let mut limits = Limits::default();
    limits.pending_tasks_max = 3;
    let ex = site.builder().limits(limits).connect().unwrap();
    let mut results: Vec<_> = (0..4).map(|x| ex.submit(square(x))).collect();
    let error = results.pop().unwrap().get().unwrap_err();
    assert_eq!(error, TaskError::Overloaded { what: "tasks", limit: 3 });
    assert!(results.iter().all(|ar| !ar.ready() && ar.cancel("enough")));
    assert!(results.iter().all(|ar| ar.get() == Err(TaskError::Cancelled { reason: "enough".into() })));
    assert!(!ex.submit(square(5)).ready(), "there is room again");
    ex.shutdown(Pending::Cancel).get_timeout(super::PATIENCE).unwrap();
}
