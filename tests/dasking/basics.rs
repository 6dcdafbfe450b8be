//! Values, errors, retries; what Dask sees of it.

use std::path::PathBuf;
use std::process::Command;

use callboard::prelude::*;
use callboard::{Deliver, Error, Status, TaskState};

use super::site::{Site, python};
use super::{Test, linger, open, square};
use crate::support::eventually;

pub(super) const TESTS: &[Test] = &[
    ("a_norm_comes_back", a_norm_comes_back),
    ("dask_shows_tasks_by_the_names_of_their_functions", dask_shows_tasks_by_the_names_of_their_functions),
    ("megabytes_travel_both_ways", megabytes_travel_both_ways),
    ("dask_makes_a_task_again_that_fails", dask_makes_a_task_again_that_fails),
    ("what_a_task_prints_spoils_nothing", what_a_task_prints_spoils_nothing),
    ("a_task_runs_once_its_worker_has_told", a_task_runs_once_its_worker_has_told),
    ("the_program_is_delivered_where_it_is_not", the_program_is_delivered_where_it_is_not),
    ("tls_is_spoken_with_dasks_own_files", tls_is_spoken_with_dasks_own_files),
];

/// The 2-norm of the numbers below `n`.
#[task]
fn norm(n: u64) -> f64 {
    (0..n).map(|x| (x * x) as f64).sum::<f64>().sqrt()
}

fn a_norm_comes_back() {
    let site = Site::of(1);
    let ex = site.connect();
    assert_eq!((ex.name(), ex.workers(), ex.max_workers()), ("DaskExecutor", 1, 1));
    assert_eq!(ex.submit(norm(4)).get(), Ok(14_f64.sqrt()));
    assert_eq!(format!("{ex:?}"), format!("<DaskExecutor {}: 1 workers>", site.address));
    ex.shutdown(Pending::Finish).get().unwrap();
    assert_eq!(ex.submit(norm(4)).get(), Err(TaskError::ShutDown));
}

fn dask_shows_tasks_by_the_names_of_their_functions() {
    let site = Site::of(1);
    let ex = site.connect();
    assert_eq!(ex.map(square, 0..20).map(Result::unwrap).sum::<u64>(), 2_470);
    assert_eq!(ex.submit(norm(0)).get(), Ok(0.0));
    let script = "import sys; from distributed import Client\n\
                  print(sorted(Client(sys.argv[1]).run_on_scheduler(lambda dask_scheduler: dask_scheduler.task_prefixes)))";
    let printed = Command::new(python().unwrap()).args(["-c", script, &site.address]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("'norm'") && printed.contains("'square'"), "{printed}");
}

#[task]
fn reversed(bytes: Blob, more: Vec<u32>) -> (Blob, Vec<u32>) {
    (bytes.iter().rev().copied().collect::<Vec<u8>>().into(), more.into_iter().rev().collect())
}

fn megabytes_travel_both_ways() {
    let site = Site::of(1);
    let ex = site.connect();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| n as u8).collect();
    let (back, more) = ex.submit(reversed(bytes.clone().into(), (0..1_000_000).collect())).get().unwrap();
    assert!(back.iter().eq(bytes.iter().rev()) && more.iter().copied().eq((0..1_000_000).rev()));
    let too_long = ex.submit(reversed(Blob::default(), vec![u32::MAX; 4 << 20])).get().unwrap_err();
    assert!(too_long.to_string().contains("put large ones into a Blob"), "{too_long}");
}

/// Fails as long as fewer than `n` files are in a directory, and leaves one each time.
#[task]
fn fails_at_first(dir: PathBuf, n: usize) -> Result<usize, String> {
    let had = std::fs::read_dir(&dir).unwrap().count();
    std::fs::write(dir.join(had.to_string()), "").unwrap();
    if had < n { Err(format!("{had} is too few")) } else { Ok(had) }
}

fn dask_makes_a_task_again_that_fails() {
    let site = Site::of(1);
    let dir = tempfile::tempdir().unwrap();
    let never = site.connect();
    let error = never.submit(fails_at_first(dir.path().into(), 2)).get().unwrap_err();
    assert!(matches!(&error, TaskError::Failed { text, .. } if **text == *"0 is too few"), "{error}");
    let twice = site.builder().retries(2).connect().unwrap();
    assert_eq!(twice.submit(fails_at_first(dir.path().into(), 2)).get(), Ok(2));
    let dir = tempfile::tempdir().unwrap();
    let error = twice.submit(fails_at_first(dir.path().into(), 9)).get().unwrap_err();
    assert!(matches!(&error, TaskError::Failed { text, .. } if **text == *"2 is too few"), "the last: {error}");
}

#[task]
fn say(what: String) -> usize {
    println!("{what}");
    eprintln!("{what}");
    // There is nothing to be read.
    std::io::read_to_string(std::io::stdin()).unwrap().len()
}

fn what_a_task_prints_spoils_nothing() {
    let site = Site::of(1);
    let ex = site.connect();
    assert_eq!(ex.submit(say("on both streams".into())).get(), Ok(0));
    assert_eq!(ex.submit(square(3)).get(), Ok(9));
    let log = std::fs::read_to_string(site.path().join("worker.log")).unwrap();
    assert_eq!(log.matches("on both streams").count(), 2, "it is in the worker's log");
}

fn a_task_runs_once_its_worker_has_told() {
    let (site, dir) = (Site::of(1), tempfile::tempdir().unwrap());
    let ex = site.connect();
    let (running, sent) = (ex.submit(linger(dir.path().into())), ex.submit(square(3)));
    eventually("its worker has told", || running.state().get() == Ok(TaskState::Running { engine: None }));
    eventually("it is with Dask", || sent.state().get() == Ok(TaskState::Sent { engine: None }));
    assert_eq!((running.running().get(), sent.running().get()), (Ok(true), Ok(false)));
    open(dir.path());
    assert!(running.get().is_ok() && sent.get() == Ok(9));
    assert_eq!([running.state().get(), sent.state().get()], [const { Ok(TaskState::Settled(Status::Done)) }; 2]);
}

#[task]
fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn the_program_is_delivered_where_it_is_not() {
    let here = std::env::current_exe().unwrap();
    let run = |site: &Site, deliver| {
        let ex = site.builder().deliver(deliver).connect()?;
        Ok::<_, Error>(ex.submit(program()).get().unwrap())
    };
    let site = Site::of(1);
    let delivered = site.path().join("worker-0");
    for deliver in [Deliver::Needed, Deliver::Never] {
        assert_eq!(run(&site, deliver).unwrap(), here);
    }
    assert!(run(&site, Deliver::Always).unwrap().starts_with(&delivered));

    // A worker to which the program is not there.
    let mut site = Site::scheduler();
    let preload = site.path().join("hide.py");
    let hide = "import builtins, io, os\nreal = io.open\ndef hiding(path, *args, **kwargs):\n    \
                if path == os.environ['HIDDEN']:\n        raise FileNotFoundError(path)\n    \
                return real(path, *args, **kwargs)\nbuiltins.open = hiding\n";
    std::fs::write(&preload, hide).unwrap();
    let hidden = [("HIDDEN", here.to_str().unwrap())];
    site.add_worker_with(1, &["--no-nanny", "--preload", preload.to_str().unwrap()], &hidden);
    site.await_workers(1);
    let refused = run(&site, Deliver::Never).unwrap_err();
    let told = format!("{} on worker tcp://", here.display());
    assert!(refused.to_string().contains(&told) && refused.to_string().contains("have it delivered"), "{refused}");
    assert!(run(&site, Deliver::Needed).unwrap().starts_with(site.path().join("worker-0")));
}

fn tls_is_spoken_with_dasks_own_files() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).display().to_string();
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let pem = [made.cert.pem(), made.signing_key.serialize_pem()].concat();
        std::fs::write(place.path().join(name), pem).unwrap();
    };
    certificate("ours.pem");
    certificate("others.pem");
    let args = |role: &str| {
        let (ca, cert) = (file("ours.pem"), file("ours.pem"));
        vec![format!("--tls-ca-file={ca}"), format!("--tls-cert={cert}"), format!("--tls-key={cert}"), role.to_owned()]
    };
    let mut site = Site::scheduler_with(&args("--protocol=tls"));
    site.add_worker(1);
    site.await_workers(1);
    assert!(site.address.starts_with("tls://"), "{}", site.address);
    let ours = file("ours.pem");
    let ex = site.builder().tls(&ours, &ours, &ours).connect().unwrap();
    assert_eq!(ex.submit(square(5)).get(), Ok(25));
    let others = file("others.pem");
    let wait = std::time::Duration::from_secs(3);
    let refused = site.builder().tls(&others, &others, &others).connect_within(wait).connect().unwrap_err();
    assert!(matches!(&refused, Error::Dask { problem, .. } if problem.contains("no scheduler was found")), "{refused}");
}
