//! The tutorial as a newcomer runs it, with shorter seconds; its output is what the page shows.

use std::process::Command;

#[test]
fn the_tutorial_prints_what_the_page_shows() {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "tutorial", "--", "0.5"])
        .output()
        .expect("cargo runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");

    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 10, "{out}");
    assert_eq!(lines[0], "<DirectView [0, 1, 2, 3]>");
    assert!(["<AsyncResult random_norm: pending>", "<AsyncResult random_norm: done>"].contains(&lines[1]), "{out}");
    let norm: f64 = lines[2].parse().expect("a norm");
    assert!((4.5..7.0).contains(&norm), "the norm of 100 random numbers is about 5.8: {norm}");
    assert_eq!(lines[3], lines[2], "got twice, the same");
    let pid = lines[4].strip_prefix("I got PID: ").expect("the callback's line");
    assert_eq!(lines[5], pid);
    // 1, 2, 3 and 4 seconds of work: as many ticks of the background before each line.
    for (i, line) in lines[6..].iter().enumerate() {
        let pids = format!("[{pid}, {pid}, {pid}, {pid}]");
        assert_eq!(*line, format!("{}{pids}", ". ".repeat(i + 1)), "{out}");
    }
}

#[test]
fn a_wrong_argument_is_named() {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "tutorial", "--", "soon"])
        .output()
        .expect("cargo runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a number of seconds: soon"));
}
