//! Clusters with names, from outside: how they start, are found, and end; and that nothing is left of them.
#![cfg(target_os = "linux")] // What is left is looked for in /proc.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use callboard::Error;
use callboard::cli::demo::{echo, getpid, norm, sleep};
use callboard::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "support/home.rs"]
mod home;
use home::{Home, LIFETIME_S, Ran};

const PATIENCE: Duration = Duration::from_secs(20);

fn home() -> Home {
    Home::of(env!("CARGO_BIN_EXE_callboard"))
}

fn client(home: &Home, name: &str) -> Client {
    Client::connect(home.file(name, "callboard-client.json")).get_timeout(PATIENCE).unwrap()
}

fn send(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Kills the controller of a cluster, and waits until it is dead.
fn kill(home: &Home, name: &str) {
    let controller = home.facts(name)["pid"].as_u64().unwrap();
    // It holds the lock until the last that it had is closed.
    let lock = std::fs::File::open(home.file(name, "lock")).unwrap();
    send(controller, Signal::KILL);
    let deadline = Instant::now() + PATIENCE;
    while lock.try_lock_shared().is_err() || home.processes().contains(&(controller as u32)) {
        assert!(Instant::now() < deadline, "{controller} does not die");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_cluster_is_started_asked_and_stopped_and_nothing_is_left() {
    let home = home();
    let said = home.start("night -n 3");
    let facts = home.facts("night");
    let (pid, address) = (facts["pid"].as_u64().unwrap(), facts["address"].as_str().unwrap().to_owned());
    let folder = home.file("night", "");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let expected = format!(
        "cluster night runs: its engines answer (3 processes); pid {pid}, at {address}\n\
         engines join with {folder}/callboard-engine.json\n\
         clients connect with {folder}/callboard-client.json\n\
         what happens is told in {folder}/log\n\
         it ends by callboard cluster stop night\n"
    );
    assert_eq!(said, expected);
    // The controller and its engines; what started them has gone.
    assert_eq!(home.processes().len(), 4);

    let rc = client(&home, "night");
    let pids = rc.all().apply(getpid()).get_timeout(PATIENCE).unwrap();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|engine| home.processes().contains(engine)), "{pids:?}");
    let view = rc.load_balanced();
    assert_eq!(view.apply(norm(3)).get_timeout(PATIENCE), Ok(5.0_f64.sqrt()));
    assert_eq!(view.apply(echo("a call".into())).get_timeout(PATIENCE), Ok("a call".into()));
    assert_eq!(view.apply(sleep(0.01)).get_timeout(PATIENCE), Ok(0.01));
    let refused = view.apply(sleep(-1.0)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(refused, TaskError::Failed { .. }), "{refused}");
    drop((view, rc));

    let status: Value = serde_json::from_str(&home.run("status night --json").out).unwrap();
    // Three calls to see that the engines answer, three of `getpid`, and four.
    assert_eq!((&status["settled"], &status["pending"], &status["cluster"]), (&10.into(), &0.into(), &facts));
    let engines = status["engines"].as_array().unwrap();
    for (id, engine) in engines.iter().enumerate() {
        let told = ["id", "is", "slots", "sent", "queued"].map(|key| engine[key].clone());
        assert_eq!(Value::from(told.to_vec()), serde_json::json!([id, "process", 1, 0, 0]));
        assert!(engine["settled_per_s"].as_f64().unwrap() > 0.0, "since it joined: {engine}");
    }
    // Each has had the two calls that all got.
    let settled: Vec<u64> = engines.iter().map(|engine| engine["settled"].as_u64().unwrap()).collect();
    assert!(settled.len() == 3 && settled.iter().all(|settled| *settled >= 2), "{settled:?}");
    assert_eq!(settled.iter().sum::<u64>(), 10);

    let stopped = home.run("cluster stop night");
    assert_eq!((stopped.code, stopped.out), (Some(0), format!("cluster night has ended (pid {pid})\n")));
    home.is_left_empty();
    assert!(TcpStream::connect(&address).is_err(), "nobody listens at {address}");
}

#[test]
fn starts_and_stops_leave_no_process_socket_or_file() {
    let home = home();
    let cases: u32 = std::env::var("CALLBOARD_CASES").map_or(4, |cases| cases.parse().unwrap());
    for _ in 0..cases {
        home.start("-n 4");
        let address = home.facts("default")["address"].as_str().unwrap().to_owned();
        home.stop("default");
        home.is_left_empty();
        assert!(TcpStream::connect(&address).is_err(), "nobody listens at {address}");
    }
}

#[test]
fn of_starts_at_the_same_time_one_succeeds_and_the_others_say_who_has() {
    let home = home();
    let args = ["cluster", "start", "-n", "1", "--daemonize", "--lifetime", LIFETIME_S];
    let start = |_| home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let starts: Vec<_> = (0..6).map(start).collect();
    let ran: Vec<Ran> = starts.into_iter().map(|start| Ran::of(start.wait_with_output().unwrap())).collect();
    let pid = home.facts("default")["pid"].as_u64().unwrap();
    assert_eq!(ran.iter().filter(|ran| ran.code == Some(0)).count(), 1, "{ran:?}");
    for refused in ran.iter().filter(|ran| ran.code != Some(0)) {
        assert_eq!(refused.code, Some(4), "{refused:?}");
        let begin = format!("callboard: cluster default runs already: pid {pid}, ");
        assert!(refused.err.starts_with(&begin), "{refused:?}");
        assert!(refused.err.ends_with("; stop it with: callboard cluster stop default\n"), "{refused:?}");
    }
    home.stop("default");
    home.is_left_empty();
}

#[test]
fn a_second_start_changes_nothing_and_says_where_the_first_is() {
    let home = home();
    home.start("-n 1");
    let facts = home.facts("default");
    for again in ["cluster start -n 2", "cluster start -n 2 --daemonize"] {
        let refused = home.run(again);
        let (pid, address) = (&facts["pid"], facts["address"].as_str().unwrap());
        let expected = format!(
            "callboard: cluster default runs already: pid {pid}, at {address}; stop it with: callboard cluster stop default\n"
        );
        assert_eq!((refused.code, refused.err), (Some(4), expected));
    }
    assert_eq!(home.facts("default"), facts);
    assert_eq!(client(&home, "default").len(), 1);
    home.stop("default");
    home.is_left_empty();
}

#[test]
fn one_that_has_died_is_known_as_dead_and_cleared_away() {
    let home = home();
    home.start("-n 2");
    kill(&home, "default");
    let listed: Value = serde_json::from_str(&home.run("cluster list --json").out).unwrap();
    assert_eq!((&listed["state"], &listed["name"], &listed["pid"]), (&"dead".into(), &"default".into(), &Value::Null));
    let asked = home.run("status");
    assert_eq!(asked.code, Some(5), "{asked:?}");
    assert!(asked.err.starts_with("callboard: cluster default has died without being stopped;"), "{asked:?}");

    let again = home.run(&format!("cluster start -n 1 --daemonize --lifetime {LIFETIME_S}"));
    assert_eq!(again.code, Some(0), "{again:?}");
    let told = "callboard: cluster default had died without being stopped; what it left was removed\n";
    assert_eq!(again.err, told);
    assert_eq!(client(&home, "default").len(), 1);

    kill(&home, "default");
    // As of engines that read a file, or print into one.
    std::fs::write(home.file("default", "callboard-launch-0123456789abcdef-7.output"), "printed").unwrap();
    let stopped = home.run("cluster stop");
    assert_eq!((stopped.code, &*stopped.err), (Some(5), told), "{stopped:?}");
    home.is_left_empty();
}

#[test]
fn of_none_each_command_says_so_with_its_own_code() {
    let home = home();
    let stopped = home.run("cluster stop");
    let told = "callboard: no cluster is called default; callboard cluster list shows those that are\n";
    assert_eq!((stopped.code, &*stopped.err), (Some(3), told));
    let asked = home.run("status night");
    let told = "callboard: no cluster is called night; start one with: callboard cluster start night --daemonize\n";
    assert_eq!((asked.code, &*asked.err), (Some(3), told));
    let listed = home.run("cluster list");
    assert_eq!((listed.code, listed.out), (Some(0), format!("no clusters in {}\n", home.path().display())));
    home.is_left_empty();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let home = home();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for how in ["", "--daemonize", "--engines threads --daemonize"] {
        let failed = home.run(&format!("cluster start -n 1 --listen {address} {how}"));
        assert_eq!(failed.code, Some(1), "{failed:?}");
        let told = format!("callboard: cannot listen at {address}: Address already in use");
        assert!(failed.err.lines().any(|line| line.starts_with(&told)), "{failed:?}");
        home.is_left_empty();
    }
}

#[test]
fn folders_are_private_and_hold_nothing_but_what_is_documented() {
    let home = home();
    home.start("-n 1");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.file("default", "")), 0o700);
    let entries = std::fs::read_dir(home.file("default", "")).unwrap();
    let mut files: Vec<String> = entries.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    let expected =
        ["callboard-client.json", "callboard-controller.json", "callboard-engine.json", "cluster.json", "lock", "log"];
    assert_eq!(files, expected);
    for file in files {
        assert_eq!(mode(&home.file("default", &file)), 0o600, "{file}");
    }
    home.stop("default");
    home.is_left_empty();
}

#[test]
fn a_folder_that_is_none_of_ours_is_not_touched() {
    let home = home();
    let precious = home.file("default", "precious");
    std::fs::create_dir(home.file("default", "")).unwrap();
    std::fs::write(&precious, "mine").unwrap();
    for command in ["cluster start -n 1 --daemonize", "cluster stop", "status"] {
        let refused = home.run(command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("default is no folder of a cluster"), "{refused:?}");
    }
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
}

#[test]
fn a_pid_in_the_files_of_a_dead_one_is_nobodys_and_is_left_alone() {
    let home = home();
    home.start("-n 1");
    kill(&home, "default");
    // The number is another's by now.
    let mut innocent = Command::new("sleep").arg("30").spawn().unwrap();
    std::fs::write(home.file("default", "lock"), innocent.id().to_string()).unwrap();
    assert_eq!(home.run("status").code, Some(5));
    assert_eq!(home.run("cluster stop").code, Some(5));
    assert_eq!(innocent.try_wait().unwrap(), None, "it was not signalled");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    home.is_left_empty();
}

#[test]
fn one_that_is_to_outlive_its_terminal_does() {
    let home = home();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_callboard")).args(["cluster", "start", "-n", "1", "--lifetime", LIFETIME_S]);
    command.env("CALLBOARD_HOME", home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut controller = command.spawn().unwrap();
    let mut said = BufReader::new(controller.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("cluster default runs: its engines answer (1 process)"));
    send(controller.id().into(), Signal::HUP);
    assert_eq!(home.run("status").code, Some(0));
    home.stop("default");
    assert_eq!(controller.wait().unwrap().code(), Some(0));
    home.is_left_empty();
}

#[test]
fn one_may_have_as_long_to_end_as_can_be_said() {
    let home = home();
    home.start("-n 1");
    let stopped = home.run("cluster stop --kill-after 18446744073709551615");
    assert_eq!((stopped.code, &*stopped.err), (Some(0), ""), "{stopped:?}");
    home.is_left_empty();
}

#[test]
fn one_that_does_not_end_is_killed_and_that_is_said() {
    let home = home();
    home.start("-n 1");
    let pid = home.facts("default")["pid"].as_u64().unwrap();
    send(pid, Signal::STOP);
    let stopped = home.run("cluster stop --kill-after 2");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(stopped.err, "callboard: cluster default has not ended after 1 s: tasks still run\n");
    assert_eq!(stopped.out, format!("cluster default was killed (pid {pid}): it had not ended within 2 s\n"));
    home.is_left_empty();
}

#[test]
fn a_client_ends_it_and_so_does_its_lifetime() {
    let home = home();
    home.start("-n 1");
    let rc = client(&home, "default");
    let naps: Vec<_> = (0..3).map(|_| rc.load_balanced().apply(sleep(0.1))).collect();
    rc.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    for nap in naps {
        assert_eq!(nap.get_timeout(PATIENCE), Ok(0.1), "it was to be finished");
    }
    home.is_left_empty();
    let ran = home.run("cluster start -n 1 --lifetime 1 --engines threads");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("it ends by Ctrl-C, or callboard cluster stop default"), "{ran:?}");
    assert!(ran.err.contains("at the end of its lifetime: the cluster ends"), "{ran:?}");
    home.is_left_empty();
}

#[test]
fn many_are_listed_by_name() {
    let home = home();
    home.start("b -n 1 --engines threads");
    home.start("a -n 2");
    home.start("c -n 1 --engines threads");
    kill(&home, "c");
    let listed = home.run("cluster list --json").out;
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> =
        listed.iter().map(|line| (line["name"].as_str().unwrap(), line["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("a", "running"), ("b", "running"), ("c", "dead")]);
    let table = home.run("cluster list").out;
    let table = table.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let told: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(told[0], ["", "name", "state", "pid", "engines", "address", "up", "version", ""]);
    assert_eq!([told[2][1], told[2][2], told[2][4], told[2][7]], ["a", "running", "2 processes", "VERSION"]);
    assert_eq!([told[4][1], told[4][2], told[4][3], told[4][4]], ["c", "dead", "", "1 thread"]);
    for name in ["a", "b"] {
        home.stop(name);
    }
    assert_eq!(home.run("cluster stop c").code, Some(5));
    home.is_left_empty();
}

#[test]
fn a_watch_tells_what_happens_until_the_cluster_ends() {
    let home = home();
    home.start("-n 1");
    let mut watch = home.command(&["status", "--watch", "0.1", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["pending"], 0);
    let rc = client(&home, "default");
    let naps: Vec<_> = (0..200).map(|_| rc.load_balanced().apply(sleep(0.01))).collect();
    let busy = std::iter::repeat_with(&mut next).find(|look| look["settled_per_s"].as_f64() > Some(1.0)).unwrap();
    assert!(busy["settled_per_s"].as_f64().unwrap() < 101.0, "one engine, tasks of 10 ms: {busy}");
    assert_eq!(busy["engines"][0]["settled_per_s"], busy["settled_per_s"], "there is no other");
    for nap in naps {
        nap.get_timeout(PATIENCE).unwrap();
    }
    let done = std::iter::repeat_with(&mut next).find(|look| look["pending"] == 0).unwrap();
    assert_eq!(done["settled"], 201);
    home.stop("default");
    while lines.next().is_some() {}
    let ended = Ran::of(watch.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.err), (Some(0), "callboard: the cluster has ended\n"), "{ended:?}");
    home.is_left_empty();
}

#[test]
fn a_watch_of_one_that_dies_says_so() {
    let home = home();
    home.start("-n 1");
    let mut watch = home.command(&["status", "--watch", "0.1"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert!(first.starts_with("cluster default: pid "), "{first}");
    assert!(!first.contains('\u{1b}'), "no control characters where there is no terminal: {first:?}");
    kill(&home, "default");
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let ended = Ran::of(watch.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.ends_with("removes what it left, and so does starting it again\n"), "{ended:?}");
    assert_eq!(home.run("cluster stop").code, Some(5));
    home.is_left_empty();
}

#[test]
fn a_cluster_without_a_name_is_shown_by_its_file() {
    let home = home();
    let cluster = Cluster::threads(2).start().unwrap();
    cluster.listen(callboard::Listen::at("127.0.0.1:0").directory(home.path())).unwrap();
    let file = home.path().join("callboard-client.json");
    let shown = home.run(&format!("status --file {}", file.display()));
    insta::assert_snapshot!("status_of_threads", shown.out);
    assert_eq!((shown.code, &*shown.err), (Some(0), ""));
    cluster.shutdown(Pending::Finish).get_timeout(PATIENCE).unwrap();
    let gone = home.run(&format!("status --file {}", file.display()));
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.err.contains("callboard: the controller has not answered for 1 s"), "{gone:?}");
    assert!(gone.err.contains("no controller was found at 127.0.0.1:"), "{gone:?}");
}

#[test]
fn what_happens_is_told_as_json_where_that_is_asked_for() {
    let home = home();
    let ran = home.run("--log debug --log-format json cluster start -n 1 --lifetime 1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told: Vec<Value> = ran.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let joined = told.iter().find(|line| line["message"] == "engine joined").unwrap();
    assert_eq!((&joined["level"], &joined["engine"]), (&"DEBUG".into(), &"0".into()));
    let quiet = home.run("--log error cluster start -n 1 --lifetime 1");
    assert_eq!((quiet.code, &*quiet.err), (Some(0), ""));
    home.is_left_empty();
}

#[test]
fn a_client_finds_a_cluster_by_its_name() {
    // In a process of its own, with a folder of its own: this program again.
    if std::env::var_os("CALLBOARD_NAMES").is_some() {
        let problem = |name: &str| match Client::connect_to(name).get() {
            Err(Error::ConnectionFile { problem, .. }) => problem.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(problem("night"), "no cluster is called night; start one: callboard cluster start night");
        assert_eq!(problem("dead"), "cluster dead has died; start it again: callboard cluster start dead");
        assert!(problem("a/b").starts_with("a name is of at most 64 letters"), "{}", problem("a/b"));
        assert_eq!(Client::connect_to("alive").get().unwrap().len(), 2);
        return;
    }
    let home = home();
    home.start("alive -n 2");
    home.start("dead -n 1");
    kill(&home, "dead");
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "a_client_finds_a_cluster_by_its_name", "--nocapture"]);
    let ran = Ran::of(test.env("CALLBOARD_NAMES", "1").env("CALLBOARD_HOME", home.path()).output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    home.stop("alive");
}
