//! The command on a terminal: what it shows, and Ctrl-C at every stage, of which nothing is left. With a `main` of its own:
//! the command is this very program, whose engines may be slow to start.
#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

#[path = "support/home.rs"]
mod home;
#[path = "support/own_main.rs"]
mod own_main;
#[path = "support/terminal.rs"]
mod terminal;
use home::{Home, LIFETIME_S};
use own_main::{run, tests};
use terminal::{Terminal, become_foreground};

const PATIENCE: Duration = Duration::from_secs(20);

/// Tells this program that it is the command.
const IS_COMMAND: &str = "CALLBOARD_TEST_IS_COMMAND";

/// How long an engine of it takes to start, in milliseconds.
const SLOW_MS: &str = "CALLBOARD_TEST_SLOW_MS";

/// A task that does not return for longer than anybody waits.
#[task(name = "terminal::stuck")]
fn stuck() {
    std::thread::sleep(Duration::from_secs(30));
}

fn home() -> Home {
    Home::of(std::env::current_exe().unwrap())
}

fn command(home: &Home, args: &str) -> Command {
    let args: Vec<&str> = args.split_whitespace().collect();
    let mut command = home.command(&args);
    command.env(IS_COMMAND, "1");
    command
}

fn slow(mut command: Command) -> Command {
    command.env(SLOW_MS, "2500");
    command
}

fn start(home: &Home, args: &str) {
    let ran = command(home, &format!("cluster start --daemonize --lifetime {LIFETIME_S} {args}")).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

fn stop(home: &Home) {
    let ran = command(home, "cluster stop").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

fn what_takes_long_is_told_and_ctrl_c_while_it_starts_leaves_nothing() {
    for how in ["", "--daemonize"] {
        let home = home();
        let start = format!("cluster start -n 2 --lifetime {LIFETIME_S} {how}");
        let mut terminal = Terminal::run(&slow(command(&home, &start)));
        terminal.await_text("0 of 2 engines have joined after 1 s", 1);
        terminal.press_ctrl_c();
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{shown}");
        assert!(shown.contains("interrupted while cluster default was starting"), "{shown}");
        home.is_left_empty();
    }
}

fn a_controller_says_what_it_waits_for_and_ctrl_c_meanwhile_leaves_nothing() {
    let home = home();
    std::fs::create_dir(home.path().join("run")).unwrap();
    let args = format!("controller --listen 127.0.0.1:0 --processes 2 --directory {}/run", home.path().display());
    let mut terminal = Terminal::run(&slow(command(&home, &args)));
    terminal.await_text("0 of 2 engines have joined after 1 s", 1);
    terminal.press_ctrl_c();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(shown.contains("interrupted while engines were starting"), "{shown}");
    std::fs::remove_dir(home.path().join("run")).expect("it has written nothing");
    home.is_left_empty();
}

fn whoever_starts_a_cluster_may_be_killed_and_then_it_is_not_started() {
    let home = home();
    let start = format!("cluster start -n 2 --daemonize --lifetime {LIFETIME_S}");
    let mut terminal = Terminal::run(&slow(command(&home, &start)));
    terminal.await_text("0 of 2 engines have joined after 1 s", 1);
    terminal.kill();
    home.is_left_empty();
}

fn ctrl_c_at_any_moment_of_a_start_leaves_nothing() {
    for ms in [0, 5, 10, 20, 40, 80] {
        for how in ["", "--daemonize"] {
            let home = home();
            let terminal = Terminal::run(&command(&home, &format!("cluster start -n 2 --lifetime {LIFETIME_S} {how}")));
            // Whatever it is doing then.
            std::thread::sleep(Duration::from_millis(ms));
            terminal.press_ctrl_c();
            let (code, _) = terminal.end();
            if code == Some(0) && how == "--daemonize" {
                // It had come too late, and the cluster runs.
                stop(&home);
            }
            home.is_left_empty();
        }
    }
}

fn ctrl_c_ends_a_cluster_that_runs_in_good_order() {
    let home = home();
    let mut terminal = Terminal::run(&command(&home, &format!("cluster start -n 2 --lifetime {LIFETIME_S}")));
    terminal.await_text("it ends by Ctrl-C, or", 1);
    terminal.press_ctrl_c();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("interrupted: the cluster ends"), "{shown}");
    home.is_left_empty();
}

fn a_terminal_that_is_closed_ends_its_cluster_but_not_one_in_the_background() {
    let home = home();
    start(&home, "-n 1");
    let mut terminal = Terminal::run(&command(&home, &format!("cluster start other -n 1 --lifetime {LIFETIME_S}")));
    terminal.await_text("it ends by Ctrl-C, or", 1);
    terminal.close();
    let deadline = Instant::now() + PATIENCE;
    while home.file("other", "lock").exists() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    stop(&home);
    home.is_left_empty();
}

fn a_second_ctrl_c_does_not_wait_for_tasks() {
    let home = home();
    let run = format!("cluster start -n 1 --engines threads --lifetime {LIFETIME_S}");
    let mut terminal = Terminal::run(&command(&home, &run));
    terminal.await_text("it ends by Ctrl-C, or", 1);
    let rc = Client::connect(home.file("default", "callboard-client.json")).get_timeout(PATIENCE).unwrap();
    let ar = rc.engine(0).unwrap().apply(stuck());
    while !ar.running().get_timeout(PATIENCE).unwrap() {
        std::thread::sleep(Duration::from_millis(2));
    }
    terminal.press_ctrl_c();
    terminal.await_text("interrupted: the cluster ends", 1);
    terminal.await_text("cluster default has not ended after 1 s: tasks still run", 1);
    let began = Instant::now();
    terminal.press_ctrl_c();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}: {shown}", began.elapsed());
    assert!(ar.get_timeout(PATIENCE).is_err());
    home.is_left_empty();
}

fn a_watch_draws_again_and_again_until_ctrl_c_and_the_cluster_runs_on() {
    let home = home();
    start(&home, "-n 2");
    let mut terminal = Terminal::run(&command(&home, "status --watch 0.2"));
    terminal.await_text("| engine | is a    | slots | sent | queued | settled | a second |", 3);
    terminal.press_ctrl_c();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let drawn: Vec<&str> = shown.split("\x1b[H\x1b[2J").collect();
    assert!(drawn.len() > 3, "{shown:?}");
    for look in &drawn[1..drawn.len() - 1] {
        assert!(look.starts_with("cluster default: pid "), "{look:?}");
        assert_eq!(look.matches("process").count(), 2, "{look:?}");
    }
    stop(&home);
    home.is_left_empty();
}

fn ctrl_c_while_a_cluster_is_stopped_kills_it() {
    let home = home();
    start(&home, "-n 1");
    let facts = home.facts("default");
    let controller = Pid::from_raw(facts["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(controller, Signal::STOP).unwrap();
    let mut terminal = Terminal::run(&command(&home, "cluster stop"));
    terminal.await_text("cluster default has not ended after 1 s", 1);
    terminal.press_ctrl_c();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(shown.contains("interrupted: cluster default was killed"), "{shown}");
    home.is_left_empty();
}

fn main() -> ExitCode {
    become_foreground();
    if std::env::var_os(IS_COMMAND).is_some() {
        // This is what a child of a cluster is told.
        if let (Some(_), Ok(ms)) = (std::env::var_os("CALLBOARD_ENGINE"), std::env::var(SLOW_MS)) {
            std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
        }
        return callboard::cli::main();
    }
    run(tests![
        what_takes_long_is_told_and_ctrl_c_while_it_starts_leaves_nothing,
        a_controller_says_what_it_waits_for_and_ctrl_c_meanwhile_leaves_nothing,
        whoever_starts_a_cluster_may_be_killed_and_then_it_is_not_started,
        ctrl_c_at_any_moment_of_a_start_leaves_nothing,
        ctrl_c_ends_a_cluster_that_runs_in_good_order,
        a_terminal_that_is_closed_ends_its_cluster_but_not_one_in_the_background,
        a_second_ctrl_c_does_not_wait_for_tasks,
        a_watch_draws_again_and_again_until_ctrl_c_and_the_cluster_runs_on,
        ctrl_c_while_a_cluster_is_stopped_kills_it,
    ]);
    ExitCode::SUCCESS
}
