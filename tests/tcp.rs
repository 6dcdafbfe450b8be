//! Engines that dial their cluster over TCP with TLS: who is let in, who is not, and what becomes of connections that are lost.
//! With a `main` of its own: engines and controllers are this very program. `CALLBOARD_CASES` is how many strangers come, and how many
//! bits are changed: name the test beside it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Blob, Dial, EngineEvent, Error, Listen, Listening, Status};
use rustix::process::Signal;

mod support;
use support::own_main::{run, tests};
use support::tasks::{pid, square, squares};
use support::{CommonCount, CommonGate, Dialling, Forwarder, descriptors, dialling, eventually, resident};

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn echo(blob: Blob) -> Blob {
    blob
}

/// A cluster that listens in a directory of its own.
struct Listens {
    cluster: Cluster,
    listening: Listening,
    directory: tempfile::TempDir,
}

fn listens() -> Listens {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    Listens { cluster, listening, directory }
}

/// What tells this program to be a controller that listens, at an address and by files in a directory.
const LISTENS: &str = "--listens";

fn dial(file: &Path) -> Dialling {
    Dialling::start(&mut dialling(file))
}

fn engines_join_work_and_end_with_their_cluster() {
    let Listens { cluster, listening, directory } = listens();
    let engines = [dial(&listening.engine_file()), dial(&listening.engine_file())];
    let rc = cluster.client();
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    let mut pids = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    let mut ids = engines.each_ref().map(|engine| engine.0.id());
    pids.sort_unstable();
    ids.sort_unstable();
    assert_eq!(pids, ids);
    squares(&rc, 10_000);
    let bytes: Blob = (0..5_000_000_u32).map(|n| n as u8).collect::<Vec<u8>>().into();
    assert_eq!(rc.load_balanced().apply(echo(bytes.clone())).get_timeout(PATIENCE), Ok(bytes));
    // Only the files of this cluster are there, and nobody else may read them.
    for file in fs::read_dir(directory.path()).unwrap().flatten() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let began = Instant::now();
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    for engine in engines {
        let (status, said) = engine.end();
        assert!(status.success(), "{status}: {said}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Those that the cluster has launched itself may be started again by it; no child takes the place of one that dialled.
fn an_engine_that_dialled_is_not_restarted_from_here() {
    let Listens { cluster, listening, directory: _directory } = listens();
    let _engine = dial(&listening.engine_file());
    let rc = cluster.client();
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let dialled = rc.ids()[0];
    let child = cluster.add_processes(1).get_timeout(PATIENCE).unwrap()[0];
    for engines in [vec![dialled], vec![child, dialled]] {
        let refused = cluster.restart_engines(engines).get_timeout(PATIENCE);
        assert_eq!(refused, Err(callboard::Error::StartedElsewhere { engine: dialled }));
    }
    assert_eq!(rc.ids(), [dialled, child], "none has gone");
    let fresh = cluster.restart_engines([child]).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.ids(), [dialled, fresh[0]]);
    squares(&rc, 100);
}

fn one_program_may_be_several_engines() {
    let Listens { cluster, listening, directory: _directory } = listens();
    let engines = Dial::with(listening.engine_file()).engines(3);
    let engines = std::thread::spawn(|| engines.run_engine());
    let rc = cluster.client();
    rc.wait_for_engines(3).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.all().apply(pid()).get_timeout(PATIENCE).unwrap(), [std::process::id(); 3]);
    let napping: Vec<_> =
        (0..3).map(|n| rc.load_balanced().apply(CommonGate::named(format!("nap {n}")).nap(200))).collect();
    (0..3).for_each(|n| CommonGate::named(format!("nap {n}")).pass());
    assert!(napping.iter().all(|ar| ar.get_timeout(PATIENCE) == Ok(200)));
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(engines.join().unwrap().map_err(|error| error.to_string()), Ok(()));
}

fn plain_tcp_is_spoken_where_it_is_asked_for_and_on_loopback_only() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let plain = || Listen::at("127.0.0.1:0").directory(directory.path()).plain_tcp();
    let listening = cluster.listen(plain()).unwrap();
    let _engine = dial(&listening.engine_file());
    cluster.client().wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(cluster.client().load_balanced().apply(square(9)).get_timeout(PATIENCE), Ok(81));
    // Listening again it is the same cluster, to whoever has a file of it.
    let file = |listening: &Listening| {
        serde_json::from_slice::<serde_json::Value>(&fs::read(listening.client_file()).unwrap()).unwrap()
    };
    let before = file(&listening);
    assert_eq!(file(&cluster.listen(plain()).unwrap())["cluster"], before["cluster"]);
    let elsewhere = Listen::at("0.0.0.0:0").directory(directory.path()).reached_at("example.org:1").plain_tcp();
    let error = cluster.listen(elsewhere).unwrap_err();
    assert!(error.to_string().contains("plain TCP is spoken on loopback only"), "{error}");
    // An engine that speaks it with a cluster that does not.
    let Listens { cluster, listening: secure, .. } = listens();
    let copy = directory.path().join("copy.json");
    let address = secure.address().to_string();
    changed(&listening.engine_file(), &copy, |file| file["address"] = address.as_str().into());
    let error = Dial::with(&copy).search_for(Duration::from_millis(200)).run_engine().unwrap_err();
    assert!(matches!(error, Error::Refused { .. } | Error::Unreachable { .. }), "{error}");
    assert_eq!(cluster.client().len(), 0);
}

fn an_engine_that_is_killed_is_lost_at_once_and_its_work_moves_on() {
    let Listens { cluster, listening, directory: _directory } = listens();
    let rc = cluster.client();
    let dialled = Instant::now();
    let first = dial(&listening.engine_file());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    // It might come back: for that it has half a second, and four times what it took to come, and not the 5 s of one that is silent.
    let at_once = Duration::from_millis(500) + 4 * dialled.elapsed() + Duration::from_secs(2);
    let (lost, moved) = (rc.engine(0).unwrap().apply(CommonGate::named("lost".into()).nap(60_000)), rc.load_balanced());
    CommonGate::new("lost").pass();
    let moved = moved.with().retries_on_loss(1).apply(square(7));
    let killed = Instant::now();
    first.signal(Signal::KILL);
    let error = lost.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::EngineLost { .. }), "{error}");
    assert!(killed.elapsed() < at_once, "{:?}, and not within {at_once:?}", killed.elapsed());
    assert_eq!(lost.metadata().status, Status::Lost);
    let _second = dial(&listening.engine_file());
    assert_eq!(moved.get_timeout(PATIENCE), Ok(49));
}

fn an_engine_that_stands_still_is_lost_and_comes_back_as_another() {
    let Listens { cluster, listening, directory: _directory } = listens();
    let rc = cluster.client();
    let engine = dial(&listening.engine_file());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let napping = rc.engine(0).unwrap().apply(CommonGate::named("stands".into()).nap(1));
    napping.get_timeout(PATIENCE).unwrap();
    let stopped = Instant::now();
    engine.signal(Signal::STOP);
    eventually("it is lost", || rc.ids().is_empty());
    let lost = stopped.elapsed().as_secs_f64();
    assert!((3.5..6.5).contains(&lost), "{lost}");
    engine.signal(Signal::CONT);
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.ids(), [callboard::EngineId(1)]);
    assert_eq!(rc.load_balanced().apply(square(3)).get_timeout(PATIENCE), Ok(9));
}

/// A cluster without engines, with a stretch of network on the way there.
fn listens_behind(network: &Forwarder) -> Listens {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listen = Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    Listens { cluster, listening, directory }
}

/// Counts itself; must not run twice.
#[task]
fn once(x: u64, filler: Vec<u8>) -> (u64, Vec<u8>) {
    CommonCount::new("once").add();
    (x, filler)
}

fn an_engine_whose_connection_is_lost_again_and_again_stays_the_same_and_runs_nothing_twice() {
    let network = Forwarder::start();
    let Listens { cluster, listening, directory: _directory } = listens_behind(&network);
    let rc = cluster.client();
    let _engine = dial(&listening.engine_file());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let view = rc.engine(0).unwrap();
    let filler = |x: u64| vec![x as u8; x as usize % 5_000];
    let napping = view.apply(CommonGate::named("cut".into()).nap(1_000));
    let all: Vec<_> = (0..500).map(|x| view.apply(once(x, filler(x)))).collect();
    CommonGate::new("cut").pass();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        network.cut();
    }
    assert_eq!(napping.get_timeout(PATIENCE), Ok(1_000));
    for (x, ar) in (0..).zip(all) {
        assert_eq!(ar.get_timeout(PATIENCE), Ok((x, filler(x))));
        assert_eq!(ar.metadata().attempt.0, 1);
    }
    assert_eq!((CommonCount::new("once").get(), rc.ids()), (500, vec![callboard::EngineId(0)]));
    assert_eq!(rc.queue_status().get().unwrap().late_outcomes, 0);
}

fn an_engine_that_stays_away_is_lost_and_comes_back_as_another() {
    let network = Forwarder::start();
    let Listens { cluster, listening, directory: _directory } = listens_behind(&network);
    let rc = cluster.client();
    let mut events = rc.engine_events();
    let _engine = dial(&listening.engine_file());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let (lost, again) = (rc.engine(0).unwrap().apply(CommonGate::named("away".into()).nap(300)), rc.load_balanced());
    CommonGate::new("away").pass();
    let again = again.with().retries_on_loss(1).apply(square(5));
    network.close();
    let error = lost.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(&error, TaskError::EngineLost { cause, .. } if cause.contains("the connection ended")), "{error}");
    // What it made of the task meanwhile is not wanted any more.
    std::thread::sleep(Duration::from_millis(300));
    network.open();
    assert_eq!(again.get_timeout(PATIENCE), Ok(25));
    let events: Vec<_> = (0..3).map(|_| events.recv_timeout(PATIENCE).unwrap().unwrap()).collect();
    let [EngineEvent::Joined { engine: first }, EngineEvent::Left { .. }, EngineEvent::Joined { engine: second }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((first.0, second.0, rc.ids()), (0, 1, vec![*second]));
}

/// Says that it runs, goes on for a while, and says that it has.
#[task]
fn finished(name: String, ms: u64) {
    CommonGate::named(format!("begun {name}")).open();
    std::thread::sleep(Duration::from_millis(ms));
    CommonCount::named(name).add();
}

fn an_engine_that_finds_no_controller_finishes_what_it_runs_and_no_more() {
    for (name, finish_ms, ms, returned) in [("finishes", 20_000, 2_000, 1), ("is left", 100, 5_000, 0)] {
        let network = Forwarder::start();
        let Listens { cluster, listening, directory: _directory } = listens_behind(&network);
        let [search, finish] = [500, finish_ms].map(Duration::from_millis);
        let dial = Dial::with(listening.engine_file()).search_for(search).finish_within(finish);
        let engine = std::thread::spawn(|| dial.run_engine());
        let rc = cluster.client();
        rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        let view = rc.engine(0).unwrap();
        let (_runs, _waits) =
            (view.apply(finished(name.into(), ms)), view.apply(finished(format!("behind {name}"), 0)));
        CommonGate::named(format!("begun {name}")).pass();
        let began = Instant::now();
        network.close();
        let error = engine.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let counts = [name.into(), format!("behind {name}")].map(|name| CommonCount::named(name).get());
        assert_eq!(counts, [returned, 0], "after {:?}", began.elapsed());
    }
}

/// Is a controller until its input ends; says where it listens, and what its engines make of a task.
fn listen_and_work(address: &str, directory: &str) {
    let cluster = Cluster::without_engines().start().unwrap();
    let listening = cluster.listen(Listen::at(address).directory(directory)).unwrap();
    println!("{}", listening.address());
    let squared = cluster.client().load_balanced().apply(square(12)).get_timeout(PATIENCE);
    println!("{squared:?}");
    // Until its input ends.
    std::io::stdin().lines().for_each(drop);
}

fn controller(address: &str, directory: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut controller = Command::new(std::env::current_exe().unwrap());
    let controller = controller.arg(LISTENS).arg(address).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut controller = controller.spawn().unwrap();
    let lines = BufReader::new(controller.stdout.take().unwrap()).lines();
    (controller, lines.map(Result::unwrap))
}

fn two_processes_do_not_listen_with_one_directory_and_one_may_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let (mut first, mut lines) = controller("127.0.0.1:0", directory.path());
    let address = lines.next().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listen = || cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path()));
    let error = listen().unwrap_err();
    assert!(error.to_string().contains("another process listens with the files in this directory"), "{error}");
    let file = fs::read_to_string(directory.path().join("callboard-client.json")).unwrap();
    assert!(file.contains(&address), "the files are those of the first: {file}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(listen().is_ok());
}

fn engines_find_a_controller_that_was_killed_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut first, mut lines) = controller("127.0.0.1:0", directory.path());
    let address = lines.next().unwrap();
    let engine = dial(&directory.path().join("callboard-engine.json"));
    assert_eq!(lines.next().unwrap(), "Ok(144)");
    first.kill().unwrap();
    first.wait().unwrap();
    let (mut second, mut lines) = controller(&address, directory.path());
    assert_eq!(lines.next().unwrap(), address);
    assert_eq!(lines.next().unwrap(), "Ok(144)", "of the engine that was there");
    // In good order: its input ends, then it does, and so does the engine.
    drop(second.stdin.take());
    assert!(second.wait().unwrap().success());
    let (status, said) = engine.end();
    assert!(status.success(), "{status}: {said}");
}

/// What an engine is told that is not let in, and how long that took.
fn refused(file: &Path) -> String {
    let began = Instant::now();
    let (status, said) = dial(file).end();
    assert!(!status.success());
    assert!(began.elapsed() < Duration::from_secs(2), "at once, and not after a search: {:?}", began.elapsed());
    said
}

/// Writes a connection file anew with something changed.
fn changed(file: &Path, to: &Path, change: impl Fn(&mut serde_json::Value)) -> PathBuf {
    let mut content = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut content);
    fs::copy(file, to).unwrap();
    fs::write(to, content.to_string()).unwrap();
    to.to_path_buf()
}

fn whoever_has_no_file_of_this_cluster_is_not_let_in_and_lets_nobody_in() {
    let ours = listens();
    let theirs = listens();
    let copy = ours.directory.path().join("copy.json");
    // A file of another cluster: its holder finds out that this is not whom it is looking for.
    let address = ours.listening.address().to_string();
    let stranger = changed(&theirs.listening.engine_file(), &copy, |file| file["address"] = address.as_str().into());
    let said = refused(&stranger);
    assert!(said.contains("whoever listens there is not the controller of this file"), "{said}");
    // The same that trusts the authority here: its certificate is not taken.
    let authority: serde_json::Value =
        serde_json::from_slice(&fs::read(ours.listening.engine_file()).unwrap()).unwrap();
    let impostor = changed(&theirs.listening.engine_file(), &copy, |file| {
        file["address"] = address.as_str().into();
        file["tls"]["authority"] = authority["tls"]["authority"].clone();
        file["cluster"] = authority["cluster"].clone();
    });
    let said = refused(&impostor);
    assert!(said.contains("the controller does not take this file's certificate"), "{said}");
    // A certificate and the key of another.
    let mixed = changed(&ours.listening.engine_file(), &copy, |file| {
        file["tls"]["key"] = serde_json::from_slice::<serde_json::Value>(
            &fs::read(theirs.listening.engine_file()).unwrap(),
        )
        .unwrap()["tls"]["key"]
            .clone();
    });
    let said = refused(&mixed);
    assert!(said.contains("its certificate and key cannot be used"), "{said}");
    // The controller's own file is none for an engine.
    let said = refused(&ours.directory.path().join("callboard-controller.json"));
    assert!(said.contains("it is for a controller, and this is an engine"), "{said}");
    // Who listens and is none of ours.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let talking = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 4_096]);
    });
    let lost = changed(&ours.listening.engine_file(), &copy, |file| file["address"] = address.as_str().into());
    let said = refused(&lost);
    assert!(said.contains("speaks no TLS, and is no controller"), "{said}");
    talking.join().unwrap();
    assert_eq!(ours.cluster.client().len(), 0);
    assert_eq!(theirs.cluster.client().len(), 0);
    assert_eq!(ours.listening.refused(), 2, "each that came here tried once");
}

/// Hands on what two say to each other, with this bit changed of what either says first; returns where to dial.
fn between(controller: SocketAddr, at: usize, bit: u8, is_from_engine: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hand_on = move |mut from: TcpStream, mut to: TcpStream, mut change: Option<usize>| {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            match change {
                Some(at) if at < count => {
                    bytes[at] ^= 1 << bit;
                    change = None;
                }
                Some(at) => change = Some(at - count),
                None => {}
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    };
    std::thread::spawn(move || {
        let Ok((engine, _)) = listener.accept() else { return };
        // Whoever dials again finds nobody.
        drop(listener);
        let controller = TcpStream::connect(controller).unwrap();
        let (of_engine, of_controller) = (engine.try_clone().unwrap(), controller.try_clone().unwrap());
        let changes = if is_from_engine { (Some(at), None) } else { (None, Some(at)) };
        let there = std::thread::spawn(move || hand_on(of_engine, of_controller, changes.0));
        hand_on(controller, engine, changes.1);
        there.join().unwrap();
    });
    address
}

/// Has an engine dial, and a bit changed on the way; returns whether that ended the connection.
fn a_bit_ends_the_connection(listens: &Listens, at: usize, bit: u8, is_from_engine: bool) -> bool {
    let (rc, copy) = (listens.cluster.client(), listens.directory.path().join("copy.json"));
    let address = between(listens.listening.address(), at, bit, is_from_engine).to_string();
    changed(&listens.listening.engine_file(), &copy, |file| file["address"] = address.as_str().into());
    let engine = std::thread::spawn(move || Dial::with(copy).search_for(Duration::ZERO).run_engine());
    // As many as take it past the change, if it is still there then.
    let mut done = 0;
    while done < 100 && !engine.is_finished() {
        let task = rc.load_balanced().with().deadline(Duration::from_millis(300)).apply(square(done));
        match task.get_timeout(PATIENCE) {
            Ok(value) => assert_eq!(value, done * done),
            Err(error) => {
                assert!(matches!(error, TaskError::TimedOut { .. } | TaskError::EngineLost { .. }), "{error}");
                continue;
            }
        }
        done += 1;
    }
    let has_ended = done < 100;
    if has_ended {
        let error = engine.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Refused { .. } | Error::Unreachable { .. }), "{error}");
    } else {
        listens.cluster.remove_engines(rc.ids()).get_timeout(PATIENCE).unwrap();
        engine.join().unwrap().unwrap();
    }
    eventually("it has gone", || rc.is_empty());
    has_ended
}

fn a_bit_that_is_changed_on_the_way_ends_the_connection_and_runs_nothing() {
    /// What each says: through the handshakes, and into the session.
    const BYTES: usize = 1_320;
    let cases = std::env::var("CALLBOARD_CASES").map_or(24, |cases| cases.parse().unwrap());
    let (next, harmless) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let listens = listens();
                loop {
                    let case = next.fetch_add(1, Relaxed);
                    if case >= cases {
                        break;
                    }
                    let (at, bit) = (1 + case * BYTES / cases, (case / 2 % 8) as u8);
                    if !a_bit_ends_the_connection(&listens, at, bit, case.is_multiple_of(2)) {
                        // It was one that says nothing: the version in the header of an encrypted record.
                        harmless.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let harmless = harmless.into_inner();
    println!("{cases} bits were changed; {harmless} of them said nothing");
    assert!(harmless * 6 <= cases, "{harmless}");
}

/// Hands on what two say to each other, until one of them ends it; returns where to dial, and what the one said that dialled.
fn recorded(controller: SocketAddr) -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recording = std::thread::spawn(move || {
        let (engine, _) = listener.accept().unwrap();
        let controller = TcpStream::connect(controller).unwrap();
        let (mut from, mut to) = (controller.try_clone().unwrap(), engine.try_clone().unwrap());
        let back = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let (mut said, mut engine, mut controller) = (Vec::new(), engine, controller);
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = engine.read(&mut bytes) {
            said.extend(&bytes[..count]);
            if controller.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = controller.shutdown(std::net::Shutdown::Both);
        back.join().unwrap();
        said
    });
    (address, recording)
}

fn what_was_said_once_is_worth_nothing_when_it_is_said_again() {
    let Listens { cluster, listening, directory } = listens();
    let rc = cluster.client();
    let (address, recording) = recorded(listening.address());
    let copy = changed(&listening.engine_file(), &directory.path().join("copy.json"), |file| {
        file["address"] = address.to_string().into();
    });
    let engine = std::thread::spawn(move || Dial::with(copy).run_engine());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let results: Vec<_> = (0..20).map(|x| rc.load_balanced().apply(square(x))).collect();
    assert!((0..).zip(results).all(|(x, ar)| ar.get_timeout(PATIENCE) == Ok(x * x)));
    cluster.remove_engines(rc.ids()).get_timeout(PATIENCE).unwrap();
    engine.join().unwrap().unwrap();
    let said = recording.join().unwrap();
    assert!(said.len() > 1_000, "its handshake, and its outcomes: {} bytes", said.len());
    let (before, mut events) = (rc.queue_status().get().unwrap(), rc.engine_events());
    // Fewer at once than strangers may be, since each has three seconds.
    const TIMES: u64 = 100;
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..TIMES / 2 {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(listening.address()).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    // It may be cut off before that is all said.
                    let _ = stream.write_all(&said);
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        });
    }
    eventually("each was refused", || listening.refused() == TIMES);
    assert_eq!((rc.queue_status().get().unwrap(), rc.len()), (before, 0));
    assert!(matches!(events.recv_timeout(Duration::from_millis(1)), Err(Error::NotReady { .. })), "nobody joined");
    // And who hears its own words is with no controller.
    let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mirror.local_addr().unwrap().to_string();
    let reflecting = std::thread::spawn(move || {
        let (from, _) = mirror.accept().unwrap();
        let _ = std::io::copy(&mut from.try_clone().unwrap(), &mut &from);
    });
    let copy = changed(&listening.engine_file(), &directory.path().join("copy.json"), |file| {
        file["address"] = address.as_str().into();
    });
    let error = Dial::with(copy).search_for(Duration::from_millis(200)).run_engine().unwrap_err();
    assert!(matches!(error, Error::Refused { .. } | Error::Unreachable { .. }), "{error}");
    reflecting.join().unwrap();
}

fn files_that_have_expired_are_refused_and_made_anew_when_the_cluster_listens_again() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listen = || Listen::at("127.0.0.1:0").directory(directory.path());
    let brief = cluster.listen(listen().valid_for(Duration::from_secs(1))).unwrap();
    std::thread::sleep(Duration::from_millis(2_100));
    let said = refused(&brief.engine_file());
    assert!(said.contains("it expired") && said.contains("have the controller write new ones"), "{said}");
    let listening = cluster.listen(listen().valid_for(Duration::MAX)).unwrap();
    let _engine = dial(&listening.engine_file());
    cluster.client().wait_for_engines(1).get_timeout(PATIENCE).unwrap();
}

fn the_authority_of_another_user_is_not_taken_up() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        println!("only the administrator can give files away: none was");
        return;
    }
    let Listens { cluster, listening, directory } = listens();
    let file = listening.engine_file().with_file_name("callboard-controller.json");
    let listen = || cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path()));
    let before = fs::read(listening.engine_file()).unwrap();
    std::os::unix::fs::chown(&file, Some(NOBODY), None).unwrap();
    let error = listen().unwrap_err();
    assert!(matches!(&error, Error::ConnectionFile { path, .. } if *path == file), "{error}");
    let said = error.to_string();
    assert!(said.contains("user 65534") && said.contains("user 0") && said.contains("listen in a directory"), "{said}");
    assert_eq!(fs::read(listening.engine_file()).unwrap(), before, "nothing was written");
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    listen().unwrap();
}

fn a_controllers_file_that_was_changed_is_refused_or_taken_and_never_a_panic() {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    let Listens { cluster, listening, directory } = listens();
    let file = listening.engine_file().with_file_name("callboard-controller.json");
    for (expires, is_taken) in [(u64::MAX, false), (LAST + 1, false), (LAST, true), (0, true)] {
        changed(&file, &file, |file| file["expires_unix_s"] = expires.into());
        let again = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path()));
        assert_eq!(again.is_ok(), is_taken, "{expires}: {again:?}");
        if let Err(error) = again {
            assert!(error.to_string().contains("beyond the year 9999"), "{error}");
        }
    }
}

fn new_files_take_the_place_of_old_ones_while_engines_work() {
    let Listens { cluster, listening, directory } = listens();
    let rc = cluster.client();
    let _old = dial(&listening.engine_file());
    rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let stolen = directory.path().join("stolen.json");
    fs::copy(listening.engine_file(), &stolen).unwrap();
    let too = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    listening.renew().unwrap();
    let said = refused(&stolen);
    assert!(said.contains("take the file that it writes"), "{said}");
    // Also where the program listens with the same files at another address.
    let address = too.address().to_string();
    let said = refused(&changed(&stolen, &directory.path().join("too.json"), |file| {
        file["address"] = address.as_str().into();
    }));
    assert!(said.contains("take the file that it writes"), "{said}");
    let _new = dial(&listening.engine_file());
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    assert_eq!(rc.all().apply(square(5)).get_timeout(PATIENCE).unwrap(), [25, 25], "who was in stays");
}

fn where_nobody_can_listen_or_be_found_that_is_said() {
    let Listens { cluster, listening, directory } = listens();
    let taken = cluster.listen(Listen::at(listening.address().to_string()).directory(directory.path())).unwrap_err();
    assert!(taken.to_string().contains("cannot listen at 127.0.0.1:"), "{taken}");
    let error = cluster.listen(Listen::at("127.0.0.1:none").directory(directory.path())).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    let anywhere = cluster.listen(Listen::at("0.0.0.0:0").directory(directory.path())).unwrap_err();
    assert!(anywhere.to_string().contains("name one (Listen::reached_at, or --reached-at)"), "{anywhere}");
    let file = directory.path().join("a file");
    fs::write(&file, "").unwrap();
    let error = cluster.listen(Listen::at("127.0.0.1:0").directory(&file)).unwrap_err();
    assert!(matches!(error, Error::ConnectionFile { .. }), "{error}");
    // A port at which nobody is any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nowhere = directory.path().join("nowhere.json");
    changed(&listening.engine_file(), &nowhere, |file| file["address"] = address.as_str().into());
    let error = Dial::with(&nowhere).search_for(Duration::from_millis(300)).run_engine().unwrap_err();
    assert!(matches!(&error, Error::Unreachable { address: at, .. } if **at == *address), "{error}");
    let error = Dial::with(&nowhere).engines(0).run_engine().unwrap_err();
    assert!(matches!(error, Error::Zero { .. }), "{error}");
    let error = Dial::with(directory.path().join("missing.json")).run_engine().unwrap_err();
    assert!(error.to_string().contains("it is not there"), "{error}");
    let after = cluster.client();
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    assert_eq!(after.len(), 0);
}

fn nobody_else_on_this_machine_uses_a_file() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        println!("only the administrator can be somebody else: nobody was");
        return;
    }
    let Listens { cluster, listening, directory } = listens();
    // He may look into the directory, and start the program.
    let program = directory.path().join("engine");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut engine = Command::new(program);
    engine.env(support::DIALS, listening.engine_file()).uid(NOBODY).stderr(Stdio::piped()).current_dir("/");
    let (status, said) = Dialling(engine.spawn().unwrap()).end();
    assert!(!status.success() && said.contains("Permission denied"), "{status}: {said}");
    // With that of another, whoever that is, neither.
    fs::set_permissions(listening.engine_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&listening.engine_file());
    assert!(said.contains("chmod 600"), "{said}");
    assert_eq!(cluster.client().len(), 0);
}

/// Connects and behaves as no engine does; returns the connection while it is open.
fn strange(address: SocketAddr, how: usize) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    let hello = [&[0x16, 3, 1, 2, 0][..], &[1, 0, 1, 0xfc, 3, 3]].concat();
    let said: &[u8] = match how % 5 {
        0 => b"",
        1 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        2 => &hello,
        3 => b"call\x01\x00\x01\x00",
        _ => &[0xff; 40_000],
    };
    let _ = stream.write_all(said);
    Some(stream)
}

fn strangers_keep_nobody_out_and_leave_nothing_behind() {
    let strangers = std::env::var("CALLBOARD_CASES").map_or(300, |cases| cases.parse().unwrap());
    let Listens { cluster, listening, directory: _directory } = listens();
    let rc = cluster.client();
    let before = (descriptors(), resident());
    let is_over = AtomicBool::new(false);
    let joined = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A few hundred at a time, some silent, some not.
            let mut open = std::collections::VecDeque::new();
            for how in 0..strangers {
                open.extend(strange(listening.address(), how));
                if open.len() > 200 {
                    open.pop_front();
                }
            }
            // What those say that are still there, they say byte by byte.
            while !is_over.load(Relaxed) {
                open.iter_mut().for_each(|stream| drop(stream.write(&[0])));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        eventually("so many came that some were cut off", || listening.refused() > 20);
        let began = Instant::now();
        let engine = dial(&listening.engine_file());
        rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        let joined = began.elapsed();
        assert_eq!(rc.load_balanced().apply(square(8)).get_timeout(PATIENCE), Ok(64));
        is_over.store(true, Relaxed);
        drop(engine);
        joined
    });
    eventually("each was counted", || listening.refused() >= strangers as u64);
    eventually("no descriptor is left", || descriptors() <= before.0 + 2);
    let more = resident().saturating_sub(before.1) >> 10;
    println!("{strangers} strangers; an engine joined within {joined:?} meanwhile; {more} KiB more are resident");
    assert!(more < 16 << 10, "{more}");
}

fn main() {
    // A child of a cluster is this program, too.
    callboard::init();
    if let Some(file) = std::env::var_os(support::DIALS) {
        if let Err(error) = callboard::run_engine(file) {
            eprintln!("{error}");
            std::process::exit(1);
        }
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [listens, address, directory] if listens == LISTENS => return listen_and_work(address, directory),
        _ => {}
    }
    run(tests![
        engines_join_work_and_end_with_their_cluster,
        an_engine_that_dialled_is_not_restarted_from_here,
        one_program_may_be_several_engines,
        plain_tcp_is_spoken_where_it_is_asked_for_and_on_loopback_only,
        an_engine_that_is_killed_is_lost_at_once_and_its_work_moves_on,
        an_engine_that_stands_still_is_lost_and_comes_back_as_another,
        an_engine_whose_connection_is_lost_again_and_again_stays_the_same_and_runs_nothing_twice,
        an_engine_that_stays_away_is_lost_and_comes_back_as_another,
        an_engine_that_finds_no_controller_finishes_what_it_runs_and_no_more,
        two_processes_do_not_listen_with_one_directory_and_one_may_after_the_other,
        engines_find_a_controller_that_was_killed_and_started_again,
        whoever_has_no_file_of_this_cluster_is_not_let_in_and_lets_nobody_in,
        a_bit_that_is_changed_on_the_way_ends_the_connection_and_runs_nothing,
        what_was_said_once_is_worth_nothing_when_it_is_said_again,
        files_that_have_expired_are_refused_and_made_anew_when_the_cluster_listens_again,
        the_authority_of_another_user_is_not_taken_up,
        a_controllers_file_that_was_changed_is_refused_or_taken_and_never_a_panic,
        new_files_take_the_place_of_old_ones_while_engines_work,
        where_nobody_can_listen_or_be_found_that_is_said,
        nobody_else_on_this_machine_uses_a_file,
        strangers_keep_nobody_out_and_leave_nothing_behind,
    ]);
}
