//! The tutorial as a newcomer runs it, with shorter seconds; its output is what the page shows.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

mod support;

#[test]
fn the_tutorial_prints_what_the_page_shows() {
    prints_what_the_page_shows("threads", &[]);
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn the_same_program_prints_the_same_on_engines_that_are_processes() {
    prints_what_the_page_shows("processes", &[("processes:2", "ProcessPoolExecutor"), ("tcp:2", "ViewExecutor")]);
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn and_the_same_as_the_client_of_a_cluster_over_tcp() {
    let directory = tempfile::tempdir().expect("a place for the files");
    let place = directory.path().to_str().expect("a name that is text");
    let mut controller = Command::new(env!("CARGO_BIN_EXE_callboard"))
        .args(["controller", "--listen", "127.0.0.1:0", "--directory", place])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let said = BufReader::new(controller.stdout.take().expect("it is piped"));
    assert_eq!(said.lines().take(3).count(), 3, "it listens");
    let engine = || {
        let file = format!("{place}/callboard-engine.json");
        Command::new(support::example("tutorial")).args(["engine", &file]).spawn().expect("the example runs")
    };
    let engines: Vec<Child> = (0..4).map(|_| engine()).collect();
    let file = format!("{place}/callboard-client.json");
    prints_what_the_page_shows(&file, &[]);
    let ended = callboard::Client::connect(file).get().expect("it is there").shutdown(callboard::Pending::Finish).get();
    assert_eq!(ended, Ok(()));
    for mut process in engines.into_iter().chain([controller]) {
        assert!(process.wait().expect("it ends").success());
    }
}

/// Runs it, with further executors to compare: the text by which each is named, and its name.
fn prints_what_the_page_shows(engines: &str, further: &[(&str, &str)]) {
    let output = Command::new(support::example("tutorial"))
        .args(["0.5", "16", engines])
        .args(further.iter().map(|(text, _)| text))
        .output()
        .expect("the example runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");

    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 37 + 4 * further.len(), "{out}");
    assert_eq!(lines[0], "<DirectView [0, 1, 2, 3]>");
    assert!(["<AsyncResult random_norm: pending>", "<AsyncResult random_norm: done>"].contains(&lines[1]), "{out}");
    let norm: f64 = lines[2].parse().expect("a norm");
    assert!((4.5..7.0).contains(&norm), "the norm of 100 random numbers is about 5.8: {norm}");
    assert_eq!(lines[3], lines[2], "got twice, the same");
    let pid = lines[4].strip_prefix("I got PID: ").expect("the callback's line");
    assert_eq!(lines[5], pid);
    // 1, 2, 3 and 4 seconds of work: as many ticks of the background before each line.
    let pids: Vec<&str> = lines[6].trim_start_matches(". ").trim_matches(['[', ']']).split(", ").collect();
    let mut ticks = 0;
    for (line, seconds) in lines[6..10].iter().zip([1, 3, 6, 10]) {
        let rest = line.trim_start_matches(". ");
        assert_eq!(rest, format!("[{}]", pids.join(", ")), "{out}");
        ticks += (line.len() - rest.len()) / 2;
        // Where the machine is busy, a line comes later than its work alone would take.
        assert!((seconds..seconds + 4).contains(&ticks), "{ticks} ticks after {seconds} seconds: {out}");
    }
    assert_eq!((pids.len(), pids[3]), (4, pid), "rc[-1] is the last of rc[:]");
    let different: std::collections::BTreeSet<_> = pids.iter().collect();
    assert_eq!(different.len(), if engines == "threads" { 1 } else { 4 }, "{out}");

    assert_eq!(lines[10], "[0, 1, 2, 3]");
    assert!(lines[11..21].iter().all(|line| [pids[0], pids[2]].contains(line)), "the even ones: {out}");
    assert_eq!(lines[21], "<LoadBalancedView all>");
    let mut executors = vec!["ThreadPoolExecutor", "ViewExecutor", "ViewExecutor"];
    executors.extend(further.iter().map(|(_, name)| name));
    // From here on there are more lines for more executors.
    let (texts, lines) = lines[22..].split_at(2 * executors.len());
    for (pair, executor) in texts.chunks(2).zip(&executors) {
        assert_eq!(pair, [*executor, r#"["0", "1", "2", "3", "4"]"#]);
    }
    // The sizes of the page, 256 times smaller.
    let sizes = "[4096, 4927, 5928, 7131, 8579, 10321, 12416, 14937, \
                 17970, 21618, 26007, 31288, 37640, 45282, 54476, 65536]";
    assert_eq!(lines[0], sizes);
    assert_eq!(lines[1], "Local time:");
    assert!(lines[2].starts_with("Wall time: ") && lines[2].ends_with(" ms"), "{out}");
    for (pair, executor) in lines[3..].chunks(2).zip(&executors) {
        assert_eq!(pair[0], *executor);
        assert!(pair[1].starts_with("10 loops, best: ") && pair[1].ends_with(" ms per loop"), "{out}");
    }
}

#[test]
fn a_wrong_argument_is_named() {
    let output = Command::new(support::example("tutorial")).arg("soon").output().expect("the example runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a number of seconds: soon"));
}
