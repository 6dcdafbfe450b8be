//! Commands whose output nobody reads any more, as of `callboard status | head -1`: none panics, and each exit code tells what was
//! done.
#![cfg(target_os = "linux")] // What is left is looked for in /proc.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use callboard::cli::demo::getpid;
use callboard::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

#[path = "support/home.rs"]
mod home;
use home::{Home, LIFETIME_S};

const PATIENCE: Duration = Duration::from_secs(20);

/// What nobody reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Closed {
    Stdout,
    Both,
}

const EACH: [Closed; 2] = [Closed::Stdout, Closed::Both];

fn home() -> Home {
    Home::of(env!("CARGO_BIN_EXE_callboard"))
}

/// Returns where one may write, and nobody reads.
fn nowhere() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn closed(home: &Home, args: &str, closed: Closed) -> Command {
    let mut command = home.command(&args.split_whitespace().collect::<Vec<_>>());
    command.stdout(nowhere());
    command.stderr(if closed == Closed::Both { nowhere() } else { Stdio::piped() });
    command
}

/// Runs a command to its end; returns its exit code.
#[track_caller]
fn code(home: &Home, args: &str, how: Closed) -> Option<i32> {
    let ended = closed(home, args, how).output().unwrap();
    let complaints = String::from_utf8(ended.stderr).unwrap();
    assert!(!complaints.contains("panicked"), "{args}: {complaints}");
    ended.status.code()
}

/// Tells a command to end, and waits for that; returns its exit code.
fn end(mut running: Child) -> Option<i32> {
    kill_process(Pid::from_child(&running), Signal::TERM).unwrap();
    running.wait().unwrap().code()
}

/// Connects when the file of a controller is there.
fn client(file: std::path::PathBuf) -> Client {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "{} is not there", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
    Client::connect(file).get_timeout(PATIENCE).unwrap()
}

#[test]
fn whoever_has_seen_enough_makes_no_command_fail() {
    let home = home();
    for how in EACH {
        assert_eq!(code(&home, &format!("cluster start -n 1 --daemonize --lifetime {LIFETIME_S}"), how), Some(0));
        for args in [
            "status",
            "status --json",
            "status --watch 0.1",
            "status --watch 0.1 --json",
            "cluster list",
            "cluster list --json",
            "completions bash",
            "--help",
            "help cluster start",
            "--version",
            "bench --only startup --quick --runs 1 --engines 1",
            "bench --only startup --quick --runs 1 --engines 1 --json",
        ] {
            assert_eq!(code(&home, args, how), Some(0), "{args} {how:?}");
        }
        assert_eq!(code(&home, "cluster start", how), Some(4), "it runs already");
        assert_eq!(code(&home, "cluster stop", how), Some(0));
        for (args, expected) in [("cluster stop", 3), ("status", 3), ("clutser", 2), ("engine nowhere.json", 1)] {
            assert_eq!(code(&home, args, how), Some(expected), "{args} {how:?}");
        }
        home.is_left_empty();
    }
}

#[test]
fn what_stays_goes_on_where_nobody_reads_what_it_says() {
    let home = home();
    for how in EACH {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let args = format!("controller --listen 127.0.0.1:0 --processes 1 --directory {place}");
        let controller = closed(&home, &args, how).spawn().unwrap();
        let rc = client(directory.path().join("callboard-client.json"));
        let file = directory.path().join("callboard-engine.json");
        let engine = closed(&home, &format!("engine {}", file.display()), how).spawn().unwrap();
        rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        assert_eq!(rc.all().apply(getpid()).get_timeout(PATIENCE).unwrap().len(), 2);
        drop(rc);
        assert_eq!(end(engine), Some(0));
        assert_eq!(end(controller), Some(0));

        let args = format!("cluster start -n 1 --lifetime {LIFETIME_S}");
        let cluster = closed(&home, &args, how).spawn().unwrap();
        let rc = client(home.file("default", "callboard-client.json"));
        rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        assert_eq!(rc.all().apply(getpid()).get_timeout(PATIENCE).unwrap().len(), 1);
        drop(rc);
        assert_eq!(end(cluster), Some(0));
        home.is_left_empty();
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let home = home();
    home.start("-n 1 --engines threads");
    for args in ["status", "cluster list", "completions fish"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = home.command(&args.split_whitespace().collect::<Vec<_>>()).stdout(full).output().unwrap();
        let complaints = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{args}: {complaints}");
        assert!(complaints.starts_with("callboard: No space left on device"), "{args}: {complaints}");
    }
    home.stop("default");
}
