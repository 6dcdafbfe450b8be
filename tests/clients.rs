//! Clients whose controller is elsewhere, over TCP with TLS: what they can do, what they see of each other, and what becomes of
//! it where connections are lost.
#![cfg(all(unix, feature = "remote"))]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Blob, Client, Dial, EngineEvent, EngineId, Error, Limits, Listen, Listening, Status};

mod support;
use support::{Forwarder, Gate, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn echo(blob: Blob) -> Blob {
    blob
}

/// A cluster of threads that listens, and a stretch of network on the way there.
struct Elsewhere {
    cluster: Cluster,
    listening: Listening,
    network: Forwarder,
    _directory: tempfile::TempDir,
}

fn elsewhere(engines: usize) -> Elsewhere {
    elsewhere_within(engines, Limits::default())
}

fn elsewhere_within(engines: usize, limits: Limits) -> Elsewhere {
    let (cluster, network) = (Cluster::threads(engines).limits(limits).start().unwrap(), Forwarder::start());
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    Elsewhere { cluster, listening, network, _directory: directory }
}

impl Elsewhere {
    fn connect(&self) -> Client {
        Client::connect(self.listening.client_file()).get().unwrap()
    }
}

#[test]
fn a_client_elsewhere_does_what_one_of_the_cluster_does() {
    let there = elsewhere(3);
    let rc = there.connect();
    assert_eq!(rc.ids(), there.cluster.client().ids());
    assert_eq!(rc.load_balanced().apply(square(7)).get(), Ok(49));
    assert_eq!(rc.all().apply(square(7)).get().unwrap(), [49; 3]);
    assert_eq!(rc.load_balanced().map(square, 0..1_000).get().unwrap(), (0..1_000).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(rc.queue_status().get().unwrap().settled, 1_004);
    let large = Blob::from(vec![7; 20 << 20]);
    assert!(rc.load_balanced().apply(echo(large.clone())).get().unwrap() == large, "20 MiB there and back");
    let mut events = rc.engine_events();
    let added = there.cluster.add_threads(1).get().unwrap();
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Some(EngineEvent::Joined { engine: added[0] }));
    assert_eq!(rc.ids()[3..], added);
}

#[test]
fn items_that_cannot_be_encoded_are_told_here_and_left_nowhere_else() {
    fn only_even<S: serde::Serializer>(x: &u64, to: S) -> Result<S::Ok, S::Error> {
        if x.is_multiple_of(2) { to.serialize_u64(*x) } else { Err(serde::ser::Error::custom("it is odd")) }
    }
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Even(#[serde(serialize_with = "only_even")] u64);
    #[task]
    fn double(x: Even) -> u64 {
        2 * x.0
    }
    let there = elsewhere(2);
    let rc = there.connect();
    for items in [vec![1, 3, 5], vec![1], vec![1, 2, 3, 3, 4, 6, 7], vec![2, 4]] {
        let results = rc.load_balanced().map(double, items.iter().map(|x| Even(*x))).results();
        for (x, result) in items.iter().zip(results.unwrap()) {
            match result {
                Ok(value) => assert_eq!(value, 2 * x),
                Err(error) => assert!(x % 2 == 1 && matches!(error, TaskError::Undecodable { .. }), "{x}: {error}"),
            }
        }
        let pending = || there.cluster.client().queue_status().get().unwrap().pending;
        eventually("nothing of them is pending", || pending() == 0);
    }
}

#[test]
fn clients_have_ids_of_their_own_and_each_sees_its_own_work() {
    let there = elsewhere(1);
    let [first, second] = [there.connect(), there.connect()];
    let kept = first.load_balanced().with().label("mine").keep().apply(square(3));
    let other = second.load_balanced().apply(square(4));
    assert_eq!((kept.get(), other.get()), (Ok(9), Ok(16)));
    assert_ne!(kept.id().client, other.id().client);
    let records = |rc: &Client| rc.records().get().unwrap().iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!((records(&first), records(&second)), (vec![kept.id()], vec![other.id()]));
    assert_eq!(first.queue_status().get().unwrap().settled, 2, "that is of all");
    // By its id another may have it.
    assert_eq!(second.fetch::<u64>(kept.id()).get(), Ok(9));
    let record = second.record(kept.id()).get().unwrap();
    assert_eq!((record.name(), record.status, record.label.as_deref()), ("square", Status::Done, Some("mine")));
    assert!(record.run_time().is_some());
    // What one purges is its own.
    second.purge().get().unwrap();
    assert_eq!((records(&first), records(&second)), (vec![kept.id()], vec![]));
    assert_eq!(second.fetch::<u64>(kept.id()).get(), Ok(9));
    assert_eq!(second.record(other.id()).get().unwrap_err(), Error::UnknownResult { task: other.id() });
    first.purge().get().unwrap();
    assert_eq!(second.fetch::<u64>(kept.id()).get().unwrap_err(), Error::UnknownResult { task: kept.id() });
}

#[test]
fn a_client_with_much_to_do_does_not_hold_up_another() {
    static GATE: Gate = Gate::new();
    #[task]
    fn wait() {
        GATE.pass();
    }
    #[task]
    fn nap(x: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(20));
        x
    }
    let there = elsewhere(1);
    let [busy, other] = [there.connect(), there.connect()];
    let blocked = there.cluster.client().load_balanced().apply(wait());
    let much: Vec<_> = (0..200).map(|x| busy.load_balanced().apply(nap(x))).collect();
    eventually("it is all there", || there.cluster.client().queue_status().get().unwrap().pending == 201);
    let one = other.load_balanced().apply(square(5));
    eventually("it is there, too", || there.cluster.client().queue_status().get().unwrap().pending == 202);
    GATE.open();
    assert_eq!((blocked.get(), one.get_timeout(PATIENCE)), (Ok(()), Ok(25)));
    let done = much.iter().filter(|ar| ar.ready()).count();
    assert!(done < 20, "{done} of the other's 200 were done before");
}

#[test]
fn connections_that_are_lost_again_and_again_lose_no_task_and_run_none_twice() {
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task]
    fn counted(x: u64, filler: Vec<u8>) -> (u64, Vec<u8>) {
        RAN.fetch_add(1, Ordering::SeqCst);
        (x, filler)
    }
    let there = elsewhere(2);
    let rc = there.connect();
    let filler = |x: u64| vec![x as u8; x as usize % 5_000];
    std::thread::scope(|scope| {
        let cutting = scope.spawn(|| {
            for _ in 0..25 {
                std::thread::sleep(Duration::from_millis(30));
                there.network.cut();
            }
        });
        let mut all = Vec::new();
        while !cutting.is_finished() {
            let first = all.len() as u64;
            all.extend((first..first + 20).map(|x| rc.load_balanced().apply(counted(x, filler(x)))));
            std::thread::sleep(Duration::from_millis(1));
        }
        for (x, ar) in (0..).zip(&all) {
            assert_eq!(ar.get_timeout(PATIENCE), Ok((x, filler(x))));
        }
        assert_eq!(RAN.load(Ordering::SeqCst) as usize, all.len());
        let status = rc.queue_status().get().unwrap();
        assert_eq!((status.late_outcomes, status.settled as usize, status.pending), (0, all.len(), 0));
    });
}

/// Returns after how long a result was told that the controller is away.
fn told_after(ar: &callboard::AsyncResult<()>, since: Instant) -> Duration {
    assert_eq!(ar.get_timeout(PATIENCE), Err(TaskError::Disconnected));
    since.elapsed()
}

#[test]
fn a_controller_that_stays_away_is_told_within_five_seconds_and_one_that_is_back_is_found() {
    static GATES: [Gate; 2] = [Gate::new(), Gate::new()];
    #[task]
    fn stay(gate: usize) {
        GATES[gate].pass();
    }
    for stands_still in [false, true] {
        let there = elsewhere(1);
        let rc = there.connect();
        let waiting = rc.load_balanced().apply(stay(stands_still.into()));
        eventually("it is there", || there.cluster.client().queue_status().get().unwrap().pending == 1);
        let since = Instant::now();
        if stands_still {
            there.network.stand_still()
        } else {
            there.network.close()
        }
        let after = told_after(&waiting, since);
        // Silence counts from the last word, up to a second before.
        let bounds = if stands_still { 3_900..=5_500 } else { 4_800..=5_500 };
        assert!(bounds.contains(&after.as_millis()), "{after:?}");
        assert!(rc.is_empty());
        let late = rc.load_balanced().apply(square(1));
        assert_eq!(late.get_timeout(Duration::from_secs(1)), Err(TaskError::Disconnected), "at once");
        assert_eq!(rc.queue_status().get().unwrap_err(), Error::Disconnected);
        there.network.cut();
        there.network.open();
        rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        GATES[usize::from(stands_still)].open();
        assert_eq!(rc.load_balanced().apply(square(6)).get_timeout(PATIENCE), Ok(36));
    }
}

#[test]
fn a_client_may_end_the_cluster_and_whoever_has_a_client_of_it_is_told() {
    let there = elsewhere(1);
    let [first, second] = [there.connect(), there.connect()];
    let ar = first.load_balanced().apply(square(9));
    first.shutdown(Pending::Finish).get().unwrap();
    assert_eq!(ar.get(), Ok(81));
    assert_eq!(second.load_balanced().apply(square(1)).get_timeout(PATIENCE), Err(TaskError::Disconnected));
    assert_eq!(second.wait_for_engines(2).get_timeout(PATIENCE), Err(Error::ClusterStopped));
    there.cluster.shutdown(Pending::Finish).get().unwrap();
    eventually("it has heard", || second.queue_status().get() == Err(Error::ClusterStopped));
    assert!(first.is_empty() && second.is_empty());
}

#[test]
fn what_is_wrong_with_a_connection_is_said_with_what_to_do() {
    let there = elsewhere(1);
    let refused = |dial: Dial| dial.search_for(Duration::from_millis(300)).connect().get().unwrap_err().to_string();
    let told = refused(Dial::with(there.listening.engine_file()));
    assert!(told.contains("it is for an engine, and this is a client; take the other file"), "{told}");
    let told = Dial::with(there.listening.client_file()).run_engine().unwrap_err().to_string();
    assert!(told.contains("it is for a client, and this is an engine; take the other file"), "{told}");
    assert!(refused(Dial::with("no/such/file.json")).contains("it is not there"));
    there.network.close();
    let told = refused(Dial::with(there.listening.client_file()));
    assert!(told.contains("no controller was found at"), "{told}");
    there.network.open();
    let old = std::fs::read(there.listening.client_file()).unwrap();
    there.listening.renew().unwrap();
    let file = there.listening.client_file().with_file_name("old.json");
    std::fs::write(&file, old).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let told = refused(Dial::with(&file));
    assert!(told.contains("take the file that it writes"), "{told}");
    assert_eq!(there.connect().ids(), [EngineId(0)]);
}

/// Copies a connection file and changes what it says of its role, not its certificate.
fn disguised(file: &Path, to: &str, role: &str) -> PathBuf {
    let to = file.with_file_name(to);
    let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    content["role"] = role.into();
    std::fs::copy(file, &to).unwrap();
    std::fs::write(&to, content.to_string()).unwrap();
    to
}

#[test]
fn whoever_says_to_be_what_its_certificate_does_not_say_is_refused() {
    let there = elsewhere(1);
    let (engine, client) = (there.listening.engine_file(), there.listening.client_file());
    let before = there.listening.refused();
    let began = Instant::now();
    let refused = Client::connect(disguised(&engine, "disguised.json", "client")).get().unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { reason, .. } if reason.contains("says that it is a client")),
        "{refused}"
    );
    let refused = callboard::run_engine(disguised(&client, "disguised.json", "engine")).unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { reason, .. } if reason.contains("says that it is an engine")),
        "{refused}"
    );
    assert!(began.elapsed() < Duration::from_secs(2), "at once");
    eventually("each tried once", || there.listening.refused() == before + 2);
    assert_eq!((there.cluster.client().len(), there.connect().len()), (1, 1));
    for file in [&engine, &client] {
        // Whoever poses as the controller makes its certificates with a key that may make none.
        let posing = tempfile::tempdir().unwrap();
        std::fs::rename(disguised(file, "posing.json", "controller"), posing.path().join("callboard-controller.json"))
            .unwrap();
        let impostor = Cluster::without_engines().start().unwrap();
        let listen = Listen::at("127.0.0.1:0").directory(posing.path());
        let Ok(listening) = impostor.listen(listen) else { continue };
        there.network.cut();
        there.network.forward_to(listening.address());
        let refused = Client::connect(&client).get().unwrap_err().to_string();
        assert!(refused.contains("is not the controller of this file"), "{refused}");
        let refused = callboard::run_engine(&engine).unwrap_err().to_string();
        assert!(refused.contains("is not the controller of this file"), "{refused}");
        there.network.forward_to(there.listening.address());
    }
    assert_eq!(there.connect().load_balanced().apply(square(2)).get_timeout(PATIENCE), Ok(4));
}

#[test]
fn beyond_the_number_of_sessions_a_peer_is_refused_with_what_to_do() {
    let mut limits = Limits::default();
    limits.sessions_max = 2;
    let there = elsewhere_within(1, limits);
    let [first, second] = [there.connect(), there.connect()];
    let refused = Client::connect(there.listening.client_file()).get().unwrap_err();
    assert!(matches!(&refused, Error::Refused { reason, .. } if reason.contains("limits.sessions_max")), "{refused}");
    let refused = callboard::run_engine(there.listening.engine_file()).unwrap_err();
    assert!(matches!(&refused, Error::Refused { reason, .. } if reason.contains("limits.sessions_max")), "{refused}");
    // Who is in comes back over another connection.
    there.network.cut();
    for rc in [&first, &second] {
        assert_eq!(rc.load_balanced().apply(square(3)).get_timeout(PATIENCE), Ok(9));
    }
    drop(first);
    let third = Client::connect(there.listening.client_file()).get().unwrap();
    assert_eq!(third.load_balanced().apply(square(4)).get_timeout(PATIENCE), Ok(16));
}

#[test]
fn whoever_cancels_thousands_of_tasks_one_by_one_before_they_have_come_stays_connected() {
    const TASKS: u64 = 6_000;
    let there = elsewhere(1);
    let rc = there.connect();
    let view = rc.load_balanced();
    assert_eq!(view.apply(square(7)).get_timeout(PATIENCE), Ok(49));
    there.network.stand_still();
    // One after the other, so that each is behind another number of calls.
    let cancelled = |x: u64| {
        let ar = view.apply(square(x));
        ar.cancel("no need");
        ar
    };
    let all: Vec<_> = (0..TASKS).map(cancelled).collect();
    there.network.open();
    for (x, ar) in (0..TASKS).zip(&all) {
        match ar.get_timeout(PATIENCE) {
            Ok(value) => assert_eq!(value, x * x),
            Err(error) => assert!(matches!(error, TaskError::Cancelled { .. }), "{error}"),
        }
    }
    assert_eq!(view.apply(square(8)).get_timeout(PATIENCE), Ok(64));
    assert_eq!(there.cluster.client().queue_status().get().unwrap().pending, 0);
}

#[test]
fn a_view_of_before_means_no_engine_of_a_controller_that_took_the_place_of_the_first() {
    let there = elsewhere(2);
    let rc = there.connect();
    let (before, all) = (rc.engine(1).unwrap(), rc.all());
    assert_eq!(all.apply(square(3)).get().unwrap(), [9, 9]);
    there.network.close();
    eventually("its client is told", || rc.ids().is_empty());
    // As one that is started again: another cluster, with the same files.
    let second = Cluster::threads(2).start().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(there.listening.client_file().parent().unwrap());
    let listening = second.listen(listen.reached_at(there.network.address())).unwrap();
    there.network.forward_to(listening.address());
    there.network.open();
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    assert_eq!((rc.ids(), second.client().ids()), (vec![EngineId(2), EngineId(3)], vec![EngineId(0), EngineId(1)]));
    let error = before.apply(square(4)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(&error, TaskError::EngineLost { engine: EngineId(1), .. }), "{error}");
    assert!(all.apply(square(4)).get_timeout(PATIENCE).is_err());
    let ar = rc.engine(3).unwrap().apply(square(5));
    assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().engine), (Ok(25), Some(EngineId(3))));
    assert_eq!(rc.all().apply(square(6)).get_timeout(PATIENCE).unwrap(), [36, 36]);
    let engines = rc.queue_status().get().unwrap().engines;
    assert_eq!(engines.iter().map(|engine| engine.id).collect::<Vec<_>>(), rc.ids());
}
