//! The numbered examples print what they promise, in time.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

mod support;
use support::{eventually, example};

#[cfg(all(target_os = "linux", feature = "cli"))]
#[path = "support/home.rs"]
mod home;

/// Runs an example to its end and compares what it prints.
#[track_caller]
fn check(name: &str, expected: &[&str]) {
    assert_eq!(run(name, &[]).lines().collect::<Vec<_>>(), expected, "{name}");
}

/// Runs an example to its end and returns what it prints.
#[track_caller]
fn run(name: &str, arguments: &[&str]) -> String {
    let mut child =
        Command::new(example(name)).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(&format!("{name} ends"), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[test]
fn callbacks_as_messages() {
    check(
        "01_callbacks_as_messages",
        &["root done at attempt 1", "the root is 7", "root failed at attempt 1", "there is none: 50 is no square"],
    );
}

#[test]
fn an_actor_asks_a_view() {
    check(
        "02_an_actor_asks_a_view",
        &[
            "0 answered, and the clerk talks",
            "0 answered, and the clerk talks",
            "noted 81",
            "the square is 49; 2 answered",
        ],
    );
}

#[test]
fn views_and_executors() {
    check(
        "03_views_and_executors",
        &[
            "<EngineView 3> <DirectView [0, 3]>",
            "<DirectView [0, 2]> runs on [0, 2]",
            "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
            "100 121 144 and then [2, 1, 0]",
            " ThreadPoolExecutor, 2 at once: [1331, 1728, 2197]",
            "       ViewExecutor, 4 at once: [1331, 1728, 2197]",
            "       ViewExecutor, 2 at once: [1331, 1728, 2197]",
            "       ViewExecutor, 4 at once: [1331, 1728, 2197]",
        ],
    );
    let out = run("03_views_and_executors", &["engines:3"]);
    assert_eq!(out.lines().nth(8), Some("       ViewExecutor, 3 at once: [1331, 1728, 2197]"), "{out}");
    #[cfg(all(unix, feature = "remote"))]
    {
        let out = run("03_views_and_executors", &["processes:2"]);
        assert_eq!(out.lines().nth(8), Some("ProcessPoolExecutor, 2 at once: [1331, 1728, 2197]"), "{out}");
    }
}

#[test]
fn comparing_executors() {
    // The program itself compares the results of each with the local reference.
    check_times(&run("04_comparing_executors", &["18"]), 6);
    let chosen: &[&str] =
        if cfg!(feature = "remote") { &["threads:2", "processes:2", "tcp:2"] } else { &["threads:2"] };
    let out = run("04_comparing_executors", &[&["18"], chosen].concat());
    check_times(&out, 1 + chosen.len());
    assert!(chosen.iter().all(|spec| out.contains(spec)), "{out}");
}

#[test]
fn the_environment_names_an_executor() {
    let run = |spec: &str| {
        let mut command = Command::new(example("04_comparing_executors"));
        command.arg("16").env("CALLBOARD_EXECUTOR", spec).output().unwrap()
    };
    let output = run("threads:3");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    check_times(&out, 2);
    assert!(out.contains("threads:3"), "{out}");
    let output = run("");
    assert!(output.status.success(), "an empty one names nothing: {}", String::from_utf8_lossy(&output.stderr));
    let output = run("threads:many");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        complaint.contains("CALLBOARD_EXECUTOR") && complaint.contains("is no number from 1 to 4096"),
        "{complaint}"
    );
}

/// Checks a table of best times and medians, below a line with what they are.
#[track_caller]
fn check_times(out: &str, rows: usize) {
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 1 + rows, "{out}");
    assert!(lines[1].trim_start().starts_with("this thread"), "{out}");
    for line in &lines[1..] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., best, "ms", median, "ms"] = words[..] else { panic!("{line}") };
        let [best, median]: [f64; 2] = [best, median].map(|time| time.parse().unwrap());
        assert!(best <= median, "{line}");
    }
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn launchers() {
    let out = run("07_launchers", &["local"]);
    let lines: Vec<&str> = out.lines().collect();
    let expected = ["engines [0, 1, 2] have joined", "(6171, 261) is the longest way to 1"];
    assert_eq!((&lines[..2], lines[5], lines.len()), (&expected[..], "[] are left", 6), "{out}");
    // Whichever process joined first is engine 0.
    let mut said: Vec<_> = lines[2..5].iter().map(|line| line.split_once(" has printed ").unwrap().1).collect();
    said.sort_unstable();
    assert_eq!(said, [0, 1, 2].map(|engine| format!("\"hello from engine {engine}\\n\"")));
    assert!((0..3).all(|n| lines[2 + n].starts_with(&format!("process {n} has printed"))), "{out}");
}

#[cfg(all(target_os = "linux", feature = "remote"))]
#[test]
fn hosts() {
    let ways = "[(19, 9), (118, 97), (178, 871), (261, 6171)]";
    check(
        "09_hosts",
        &[
            ways,
            "the first time it ran what was shipped: true, 1 program is kept",
            ways,
            "the second time it ran what was shipped: true, 1 program is kept",
        ],
    );
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn over_the_network() {
    check(
        "06_over_the_network",
        &[
            "<Client [0, 1]>",
            "[17, 1060, 76127, 5736396]",
            "none here: true",
            "6 tasks settled",
            "an engine has ended: exit status: 0",
            "an engine has ended: exit status: 0",
        ],
    );
}

/// A user's own program is controller, engines, client and command; and speaks of itself by its own name.
#[cfg(all(target_os = "linux", feature = "cli"))]
#[test]
fn own_program() {
    let program = example("08_own_program");
    let home = home::Home::of(&program);
    assert!(home.run("--help").out.contains("Usage: 08_own_program [OPTIONS] <COMMAND>"));
    assert_eq!(home.run("--version").out, format!("08_own_program with callboard {}\n", env!("CARGO_PKG_VERSION")));
    let stopped = home.run("cluster stop weather");
    let none = "08_own_program: no cluster is called weather; 08_own_program cluster list shows those that are\n";
    assert_eq!((stopped.code, &*stopped.err), (Some(3), none));
    let said = home.start("weather -n 3 --log debug");
    assert!(said.ends_with("it ends by 08_own_program cluster stop weather\n"), "{said}");
    let processes = home.processes();
    assert_eq!(processes.len(), 4, "the controller and its engines");
    for process in processes {
        assert_eq!(std::fs::read_link(format!("/proc/{process}/exe")).unwrap(), program.canonicalize().unwrap());
    }
    assert_eq!(home.run("ask").out, "3 engines\n25.0\n16.2\n10.0\n");
    let status = home.run("status weather").out;
    assert!(status.contains("; 6 settled, ") && status.matches("process").count() == 3, "{status}");
    // What tasks tell is in the controller's log, with what task it was.
    let log = std::fs::read_to_string(home.file("weather", "log")).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.ends_with("somebody asks latitude=45.0")).collect();
    let [told] = told[..] else { panic!("{log}") };
    assert!(told.contains("DEBUG task{name=\"warmth\" id=") && told.contains(" attempt=1 engine="), "{told}");
    home.stop("weather");
    home.is_left_empty();
    let ask = home.run("ask");
    assert_eq!(ask.code, Some(1));
    assert!(ask.err.contains("no cluster is called weather; start one: callboard cluster start weather"), "{ask:?}");
}
