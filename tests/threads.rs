//! What holds on engines of this process only: they run closures, and share memory with whoever calls.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use callboard::prelude::*;
use callboard::{Error, Limits};
use serde::{Deserialize, Serialize};

mod support;
use support::{Gate, eventually};

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = Cluster::threads(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

#[test]
fn an_engine_whose_task_does_not_return_is_named_and_left() {
    static RELEASE: Gate = Gate::new();
    let mut limits = Limits::default();
    limits.stop_wait_ms_max = 50;
    let cluster = Cluster::threads(1).limits(limits).start().unwrap();
    let (tell, started) = mpsc::channel();
    cluster.client().engine(0).unwrap().apply_fn(move || {
        tell.send(()).unwrap();
        RELEASE.pass()
    });
    started.recv().unwrap();
    let error = cluster.shutdown(Pending::Cancel).get().unwrap_err();
    assert!(matches!(&error, Error::StillRunning { names, .. } if names == &["cb-engine-0"]), "{error}");
    RELEASE.open();
}

#[test]
fn closures_run_on_engines_of_this_process() {
    let (_cluster, rc) = cluster(2);
    let here = std::process::id();
    let not_serializable = Arc::new(std::sync::Mutex::new(5));
    let shared = not_serializable.clone();
    let ar = rc.load_balanced().apply_fn(move || {
        *shared.lock().unwrap() += 1;
        (std::process::id(), shared)
    });
    let (pid, shared) = ar.get().unwrap();
    assert_eq!((pid, *shared.lock().unwrap()), (here, 6));
    assert_eq!(rc.engine(-1).unwrap().apply_fn(|| 3).get(), Ok(3));
}

#[test]
fn engines_of_one_process_share_what_was_pushed_and_drop_it_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Serialize, Deserialize)]
    struct Big(Vec<u8>);
    impl Drop for Big {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    #[task]
    fn address_of(cx: &TaskContext) -> Result<usize, TaskFailure> {
        Ok(cx.pushed::<Big>("big")?.0.as_ptr() as usize)
    }
    let (cluster, rc) = cluster(4);
    rc.all().push("big", Big(vec![0; 1 << 20])).get().unwrap();
    let addresses = rc.all().apply(address_of()).get().unwrap();
    assert!(addresses.iter().all(|address| *address == addresses[0]), "uncopied");
    rc.all().push("big", Big(Vec::new())).get().unwrap();
    eventually("the first is dropped", || DROPPED.load(Ordering::Relaxed) == 1);
    drop(cluster);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 2);
}

/// A call whose copy panics.
#[derive(Serialize, Deserialize)]
struct NoCopy;

impl Clone for NoCopy {
    fn clone(&self) -> Self {
        panic!("no copies")
    }
}

#[task]
fn fails_without_copy(arg: NoCopy) -> Result<u8, String> {
    let _ = arg;
    Err("failed".into())
}

#[test]
fn a_call_that_cannot_be_copied_here_is_not_retried() {
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let ar = view.with().retries(3).apply(fails_without_copy(NoCopy));
    let Err(TaskError::Failed { place, text }) = ar.get() else { panic!("{ar:?}") };
    assert_eq!((&*text, place.attempt.0), ("failed", 1));
}
