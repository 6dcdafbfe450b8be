//! What a client elsewhere leaves behind when it goes. Alone in its process, where threads and descriptors are counted.
#![cfg(all(unix, feature = "remote"))]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use callboard::prelude::*;
use callboard::{Client, Listen};

mod support;
use support::{descriptors, eventually, our_threads};

#[test]
fn a_client_that_goes_leaves_nothing_behind_and_what_it_submitted_runs() {
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task]
    fn count() {
        RAN.fetch_add(1, Ordering::SeqCst);
    }
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::threads(1).start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    let connect = || Client::connect(listening.client_file()).get().unwrap();
    drop(connect());
    let before = (descriptors(), our_threads().len());
    for round in 1..=10 {
        let rc = connect();
        rc.load_balanced().apply(count()).get().unwrap();
        (0..9).for_each(|_| drop(rc.load_balanced().apply(count())));
        drop(rc);
        eventually("what it submitted runs", || RAN.load(Ordering::SeqCst) == 10 * round);
    }
    eventually("nothing is left", || descriptors() <= before.0 && our_threads().len() <= before.1);
}
