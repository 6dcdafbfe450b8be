//! Clients whose controller is elsewhere: over TCP with TLS, as on another machine.
#![cfg(all(unix, feature = "remote"))]
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;
use callboard::{Client, Listen, Listening};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

fn listening(cluster: &Cluster) -> (tempfile::TempDir, Listening) {
    let directory = tempfile::tempdir().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    (directory, listening)
}

#[test]
fn a_client_elsewhere_does_what_one_of_the_cluster_does() {
    let cluster = Cluster::threads(3).start().unwrap();
    let (_directory, listening) = listening(&cluster);
    let rc = Client::connect(listening.client_file()).get().unwrap();
    assert_eq!(rc.ids(), cluster.client().ids());
    assert_eq!(rc.load_balanced().apply(square(7)).get(), Ok(49));
    assert_eq!(rc.all().apply(square(7)).get().unwrap(), [49; 3]);
    assert_eq!(rc.load_balanced().map(square, 0..1_000).get().unwrap(), (0..1_000).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(rc.queue_status().get().unwrap().settled, 1_004);
}

#[test]
fn engines_that_come_and_go_are_heard_of() {
    let cluster = Cluster::threads(1).start().unwrap();
    let (_directory, listening) = listening(&cluster);
    let rc = Client::connect(listening.client_file()).get().unwrap();
    let added = cluster.add_threads(1).get().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(rc.ids()[1..], added);
}
