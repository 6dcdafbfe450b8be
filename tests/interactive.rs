//! `wait_interactive`: a progress bar on a terminal, plain lines elsewhere. Each is tried in a process of its own,
//! which is this test again.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use callboard::prelude::*;

#[task]
fn step(ms: u64) -> Result<u64, String> {
    std::thread::sleep(std::time::Duration::from_millis(ms));
    if ms == 7 { Err("seven".into()) } else { Ok(ms) }
}

/// What the process does that is looked at.
#[test]
fn watched() {
    if std::env::var_os("CALLBOARD_WATCHED").is_none() {
        return;
    }
    let cluster = Cluster::threads(2).start().unwrap();
    let ar = cluster.client().load_balanced().with().chunksize(1).map(step, [100; 30].into_iter().chain([7]));
    ar.wait_interactive().unwrap();
    eprintln!("waited");
}

fn output(command: &mut Command) -> Output {
    command.env("CALLBOARD_WATCHED", "1").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn on_a_terminal_it_is_a_bar_that_fills() {
    let test = std::env::current_exe().unwrap();
    let watched = format!("{} --exact watched --nocapture", test.display());
    // `script` runs it on a terminal of its own.
    let mut script = Command::new("script");
    if script.arg("--version").output().is_err() {
        println!("skipped: there is no `script` to make a terminal with (Debian: bsdutils)");
        return;
    }
    let shown = output(Command::new("script").args(["--quiet", "--return", "--command", &watched, "/dev/null"]));
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let drawn: Vec<&str> = shown.split(['\r', '\n']).filter(|line| line.contains("step [")).collect();
    assert!(drawn.len() > 3, "it is drawn again and again: {shown}");
    let last = drawn.last().unwrap();
    assert!(last.contains(&format!("[{}]", "=".repeat(40))) && last.contains("31/31 (1 failed)"), "{last:?}");
    assert!(drawn.iter().any(|line| line.contains("=>")), "{drawn:?}");
    assert!(shown.contains("waited"));
}

#[test]
fn elsewhere_it_is_a_line_a_second_and_one_at_the_end() {
    let test = std::env::current_exe().unwrap();
    let shown = output(Command::new(test).args(["--exact", "watched", "--nocapture"]));
    let shown = String::from_utf8_lossy(&shown.stderr).into_owned();
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("step: ")).collect();
    assert!(lines.len() >= 2, "it takes more than a second: {shown}");
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "only what has changed: {lines:?}");
    let last = lines.last().unwrap().strip_prefix("step: 31 of 31 done, 1 failed, ").unwrap();
    assert!(last.strip_suffix(" s").unwrap().parse::<f64>().unwrap() >= 1.5, "{lines:?}");
    assert!(!shown.contains('\u{1b}'), "no control characters: {shown:?}");
}
