//! What a cluster's log tells: also of engines that dial, within bounds. With a `main` of its own: controller and engines are
//! this very program.
#![cfg(target_os = "linux")] // What is left is looked for in /proc.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use serde_json::Value;

#[path = "support/home.rs"]
mod home;
#[path = "support/own_main.rs"]
mod own_main;
use home::{Home, LIFETIME_S};
use own_main::{run, tests};

const PATIENCE: Duration = Duration::from_secs(20);

/// Tells this program that it is the command.
const IS_COMMAND: &str = "CALLBOARD_TEST_IS_COMMAND";

/// Tells something so many times, as a warning.
#[task]
fn warn(what: String, times: usize) -> usize {
    for time in 0..times {
        tracing::warn!(time, "{what}");
    }
    times
}

/// Tells something of no importance.
#[task]
fn whisper(what: String) {
    tracing::debug!("{what}");
}

/// Prints so many lines of a hundred bytes.
#[task]
fn print(lines: usize) {
    let line = "-".repeat(99);
    (0..lines).for_each(|_| println!("{line}"));
}

struct Site {
    home: Home,
    engine: Option<Child>,
}

impl Site {
    /// Starts a cluster of one thread, and an engine that dials: the second.
    fn start(log: &str) -> Self {
        let mut site = Self { home: Home::of(std::env::current_exe().unwrap()), engine: None };
        let start = format!("{log} cluster start -n 1 --engines threads --daemonize --lifetime {LIFETIME_S}");
        let ran = site.command(&start).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let file = site.home.file("default", "callboard-engine.json");
        let engine = site.command(&format!("{log} engine {}", file.display())).stderr(Stdio::null()).spawn().unwrap();
        site.engine = Some(engine);
        site.client().wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        site
    }

    fn command(&self, args: &str) -> Command {
        let mut command = self.home.command(&args.split_whitespace().collect::<Vec<_>>());
        command.env(IS_COMMAND, "1");
        command
    }

    fn client(&self) -> Client {
        Client::connect(self.home.file("default", "callboard-client.json")).get_timeout(PATIENCE).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.file("default", "log")).unwrap()
    }

    /// Waits until the log has a line with this; returns the line.
    #[track_caller]
    fn await_line(&self, with: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(with)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{with:?} is not in the log: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the cluster, and its engine with it.
    fn stop(mut self) {
        let ran = self.command("cluster stop").output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(self.engine.take().unwrap().wait().unwrap().code(), Some(0));
        self.home.is_left_empty();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(engine) = &mut self.engine {
            // It may have ended.
            let _ = engine.kill();
            let _ = engine.wait();
        }
    }
}

fn what_an_engine_elsewhere_tells_is_in_the_log_of_its_controller() {
    let site = Site::start("");
    let rc = site.client();
    let ar = rc.engine(1).unwrap().apply(warn("it is \u{1b}[2J\nwarm".into(), 1));
    assert_eq!(ar.get_timeout(PATIENCE), Ok(1));
    let line = site.await_line("warm");
    let task = ar.metadata().id;
    let expected = format!(r#" WARN it is \u{{1b}}[2J\nwarm time=0 engine=1 target="logs" task={task} attempt=1"#);
    assert!(line.ends_with(&expected), "{line} {expected}");
    assert!(!site.log().contains('\u{1b}'));
    // What the engine's process tells is of no task.
    let session = site.await_line("there is a session with the controller");
    assert!(session.contains(" INFO ") && session.contains(r#" engine=1 target="callboard::net::"#), "{session}");
    assert!(!session.contains(" task="), "{session}");
    // Less than what was asked for is not told.
    rc.engine(1).unwrap().apply(whisper("psst".into())).get_timeout(PATIENCE).unwrap();
    rc.engine(1).unwrap().apply(warn("behind it".into(), 1)).get_timeout(PATIENCE).unwrap();
    site.await_line("behind it");
    assert!(!site.log().contains("psst"));
    drop(rc);
    site.stop();
}

fn it_is_told_as_json_from_the_level_on_that_was_asked_for() {
    let site = Site::start("--log debug --log-format json");
    let rc = site.client();
    rc.engine(1).unwrap().apply(whisper("psst".into())).get_timeout(PATIENCE).unwrap();
    let line: Value = serde_json::from_str(&site.await_line("psst")).unwrap();
    let told = (&line["level"], &line["message"], &line["engine"], &line["target"]);
    assert_eq!(told, (&"DEBUG".into(), &"psst".into(), &"1".into(), &"logs".into()), "{line}");
    drop(rc);
    site.stop();
}

fn a_flood_of_lines_holds_up_no_task_and_is_counted() {
    const LINES: usize = 60_000;
    let site = Site::start("");
    let rc = site.client();
    let (began, engine) = (Instant::now(), rc.engine(1).unwrap());
    assert_eq!(engine.apply(warn("water ".repeat(100), LINES)).get_timeout(PATIENCE), Ok(LINES));
    // The session has room for this: nothing that was told is in its way.
    let echoed = engine.apply(warn("land in sight".into(), 1));
    assert_eq!(echoed.get_timeout(PATIENCE), Ok(1));
    let took = began.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    engine.apply(warn("ashore".into(), 1)).get_timeout(PATIENCE).unwrap();
    let line = site.await_line("ashore");
    let told = site.log().lines().filter(|line| line.contains("water")).count();
    let left_out = |line: &str| line.split("left_out=").nth(1).map(|count| count.parse::<usize>().unwrap());
    let counted: usize = site.log().lines().filter_map(left_out).sum();
    let in_sight = site.log().lines().filter(|line| line.contains("land in sight")).count();
    assert_eq!(told + counted + in_sight, LINES + 1, "{line}");
    let bytes = site.log().len() as u64;
    // 256 KiB in each second that began, and what comes with each line.
    let bound = (took.as_secs() + 2) * (512 << 10);
    assert!(told > 100 && bytes < bound, "{told} lines, {bytes} bytes in {took:?}");
    drop(rc);
    site.stop();
}

fn a_log_is_bounded_and_its_end_is_kept() {
    const MIB: u64 = 1 << 20;
    let site = Site::start("");
    let rc = site.client();
    // The engine that is a thread of the controller prints where that does.
    let bytes = |file: &str| std::fs::metadata(site.home.file("default", file)).map_or(0, |file| file.len());
    for round in 0..50 {
        rc.engine(0).unwrap().apply(print(10_000)).get_timeout(PATIENCE).unwrap();
        let sizes = ["log", "log.1"].map(bytes);
        assert!(sizes.iter().all(|size| *size < 24 * MIB), "{sizes:?} in round {round}");
    }
    assert!(bytes("log.1") >= 16 * MIB, "{}", bytes("log.1"));
    assert!(bytes("log") > 0 && bytes("log") < 17 * MIB, "{}", bytes("log"));
    rc.engine(0).unwrap().apply(warn("the end".into(), 1)).get_timeout(PATIENCE).unwrap();
    assert!(site.await_line("the end").contains(" WARN "));
    assert!(site.log().contains("the log goes on in another file"), "and that is told");
    let entries = std::fs::read_dir(site.home.file("default", "")).unwrap();
    let logs = entries.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("log"));
    assert_eq!(logs.count(), 2);
    drop(rc);
    site.stop();
}

fn main() -> ExitCode {
    if std::env::var_os(IS_COMMAND).is_some() {
        return callboard::cli::main();
    }
    run(tests![
        what_an_engine_elsewhere_tells_is_in_the_log_of_its_controller,
        it_is_told_as_json_from_the_level_on_that_was_asked_for,
        a_flood_of_lines_holds_up_no_task_and_is_counted,
        a_log_is_bounded_and_its_end_is_kept,
    ]);
    ExitCode::SUCCESS
}
