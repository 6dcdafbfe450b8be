//! The `callboard` command, from outside: what it prints, and how it refuses.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// Longer than any of these takes, so that one that hangs is ended and seen.
const LIFE_MAX: Duration = Duration::from_secs(60);

/// What the command did: its exit code, what it printed, what it complained of.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn callboard(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_callboard")).args(args).timeout(LIFE_MAX).output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs one test of the bench, small, and returns its lines.
fn bench(test: &str, more: &[&str]) -> Vec<Value> {
    let args = [&["bench", "--only", test, "--json", "--quick"], more].concat();
    let ran = callboard(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn systems(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["system"].as_str().unwrap()).collect()
}

#[test]
fn a_json_line_has_every_key_and_its_value_is_the_median() {
    let lines = bench("startup", &["--runs", "1", "--engines", "2"]);
    let ours = ["callboard-threads", "callboard-processes", "callboard-tcp", "callboard-processes"];
    assert_eq!(systems(&lines), [&ours[..], &["rayon"]].concat());
    for (place, line) in lines.iter().enumerate() {
        assert_eq!(line["test"], "startup");
        let mut params = serde_json::json!({ "engines": 2 });
        if place == 3 {
            params["from"] = "shell".into();
        }
        assert_eq!(line["params"], params);
        assert_eq!(line["unit"], "s");
        assert_eq!(line["runs"]["n"], 1);
        assert!(line["value"].as_f64().unwrap() > 0.0, "{line}");
        for of_one_run in ["median", "min", "max"] {
            assert_eq!(line["runs"][of_one_run], line["value"], "{of_one_run}");
        }
    }
}

#[test]
fn a_bench_of_what_a_shell_starts_leaves_nothing() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let args = ["bench", "--only", "startup", "--quick", "--runs", "1", "--engines", "1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.env("CALLBOARD_HOME", home.path()).env("TMPDIR", temporary.path());
    command.args(args).timeout(LIFE_MAX).assert().success();
    for directory in [home, temporary] {
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no cluster of the user's, and no file");
    }
}

#[test]
fn a_json_line_has_its_keys_in_the_order_of_the_design() {
    let ran = callboard(&["bench", "--only", "startup", "--json", "--quick", "--runs", "1"]);
    let line = ran.out.lines().next().unwrap();
    let keys = ["system", "test", "params", "value", "unit", "runs", "n", "median", "min", "max"];
    let places: Vec<_> = keys.iter().map(|key| line.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(places.is_sorted(), "{line}");
}

#[test]
fn latency_is_given_by_quantile_beside_every_yardstick() {
    let lines = bench("latency", &["--runs", "1"]);
    let is_unpinned = |line: &&serde_json::Value| line["params"]["pinned"] == false;
    let unpinned: Vec<serde_json::Value> = lines.iter().filter(is_unpinned).cloned().collect();
    let mut beside = systems(&unpinned);
    beside.dedup();
    let callboard = ["callboard-threads", "channel_pingpong", "callboard-processes", "unix_pingpong"];
    let over_tcp = ["callboard-tcp", "callboard-tcp-plain", "callboard-tcp-client", "tcp_pingpong"];
    assert_eq!(beside, [&callboard[..], &over_tcp, &["rayon", "spawn_blocking", "sync_arbiter"]].concat());
    let ours: Vec<&str> = lines.iter().take(3).map(|line| line["params"]["quantile"].as_str().unwrap()).collect();
    assert_eq!(ours, ["p50", "p90", "p99"]);
    // Where there are two processors, both ends of callboard and of the ping-pong are pinned once more.
    let mut pinned: Vec<_> = systems(&lines[..])
        .into_iter()
        .zip(&lines)
        .filter(|(_, l)| l["params"]["pinned"] == true)
        .map(|(s, _)| s)
        .collect();
    pinned.dedup();
    assert!(pinned.is_empty() || pinned == ["callboard-threads", "channel_pingpong"], "{pinned:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_test_that_needs_a_process_of_its_own_gets_one() {
    let lines = bench("idle", &["--runs", "1"]);
    let units: Vec<&str> = lines.iter().map(|line| line["unit"].as_str().unwrap()).collect();
    assert_eq!(units, ["MB", "ms/s"].repeat(3));
    assert!(lines[0]["value"].as_f64().unwrap() > 0.5, "{}", lines[0]);
}

#[test]
fn the_table_names_the_machine_and_lays_yardsticks_beside_callboard() {
    let ran = callboard(&["bench", "--only", "startup", "--quick", "--runs", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let machine = ran.out.lines().next().unwrap();
    assert!(machine.starts_with(concat!("callboard ", env!("CARGO_PKG_VERSION"), " on ")), "{machine}");
    let rayon = ran.out.lines().find(|line| line.contains("rayon")).unwrap();
    assert!(rayon.contains("engines 4") && rayon.contains(" x "), "{rayon}");
}

#[test]
fn an_unknown_test_is_refused_with_a_list_of_the_tests() {
    let ran = callboard(&["bench", "--only", "warp_speed"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("'warp_speed'"), "{}", ran.err);
    for test in ["noop_throughput", "latency", "queued_memory", "scheduler_cost", "idle", "startup"] {
        assert!(ran.err.contains(test), "{test} is not in: {}", ran.err);
    }
}

#[test]
fn zero_runs_are_refused() {
    let ran = callboard(&["bench", "--runs", "0"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--runs"), "{}", ran.err);
}

#[test]
fn help_teaches_the_bench_and_hides_its_children() {
    let ran = callboard(&["--help"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("callboard bench --quick"), "{}", ran.out);
    assert!(!ran.out.contains("bench-child"), "{}", ran.out);
}

#[test]
fn without_a_subcommand_help_is_printed_and_the_exit_code_is_2() {
    let ran = callboard(&[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("Usage: callboard"), "{}", ran.err);
}

#[test]
fn an_engine_without_its_file_says_what_is_missing() {
    let ran = callboard(&["engine", "nowhere/callboard-engine.json"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with("callboard: connection file nowhere/callboard-engine.json: it is not there"),
        "{}",
        ran.err
    );
}

#[test]
fn an_engine_that_is_killed_costs_no_task() {
    let lines = bench("engine_death", &["--runs", "1"]);
    let value = |killed: u64, quantity: &str| {
        let is_it = |line: &&Value| line["params"]["killed"] == killed && line["params"]["quantity"] == quantity;
        lines.iter().find(is_it).unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!((value(0, "lost"), value(1, "lost"), value(0, "retried")), (0.0, 0.0, 0.0));
    assert!(value(1, "time") > 0.0 && value(1, "retried") <= 1.0);
}

#[cfg(unix)]
mod network {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use callboard::prelude::*;
    use callboard::{Client, EngineId};

    use super::LIFE_MAX;

    /// The command, run in the background. It is killed with this.
    struct Running(Child);

    impl Running {
        fn start(args: &[&str]) -> Self {
            let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
            Self(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        }

        /// Waits for its end; returns its exit code, and what it complained of.
        fn end(mut self) -> (Option<i32>, String) {
            let mut complaints = String::new();
            self.0.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
            (self.0.wait().unwrap().code(), complaints)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // It may have ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[task]
    fn square(x: u64) -> u64 {
        x * x
    }

    #[test]
    fn a_controller_and_an_engine_are_commands_and_a_client_ends_them() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let mut controller = Running::start(&["controller", "--listen", "127.0.0.1:0", "--directory", place]);
        let lines = BufReader::new(controller.0.stdout.take().unwrap()).lines().take(3);
        let lines: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(lines[0].starts_with("listening at 127.0.0.1:"), "{lines:?}");
        let [engine_file, client_file] = ["engine", "client"].map(|role| format!("{place}/callboard-{role}.json"));
        assert_eq!(lines[1], format!("engines join with {engine_file}"));
        assert_eq!(lines[2], format!("clients connect with {client_file}"));
        let engine = Running::start(&["engine", &engine_file]);
        let rc = Client::connect(client_file).get_timeout(LIFE_MAX).unwrap();
        rc.wait_for_engines(1).get_timeout(LIFE_MAX).unwrap();
        // It has the tasks of this crate, and none of this program.
        rc.all().push("a", 7_u64).get_timeout(LIFE_MAX).unwrap();
        assert_eq!(*rc.engine(0).unwrap().pull::<u64>("a").get_timeout(LIFE_MAX).unwrap(), 7);
        let refused = rc.load_balanced().apply(square(7)).get_timeout(LIFE_MAX).unwrap_err();
        assert!(matches!(refused, TaskError::UnknownTask { engine: EngineId(0), .. }), "{refused}");
        assert!(refused.to_string().contains("cli::network::square"), "{refused}");
        rc.shutdown(Pending::Finish).get_timeout(LIFE_MAX).unwrap();
        let (code, told) = controller.end();
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("ended by a client; pending tasks are finished, unless it has cancelled them"), "{told}");
        assert!(told.contains("an engine has joined") && told.contains("a client has connected"), "{told}");
        let (code, told) = engine.end();
        assert_eq!(code, Some(0), "{told}");
    }

    /// Waits until its gate opens.
    #[task]
    fn waits(gate: std::path::PathBuf) -> u64 {
        let began = Instant::now();
        while !gate.exists() && began.elapsed() < LIFE_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        7
    }

    #[test]
    fn a_controller_that_a_client_ends_finishes_what_that_wants_finished() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let mut controller = Running::start(&["controller", "--listen", "127.0.0.1:0", "--directory", place]);
        let lines = BufReader::new(controller.0.stdout.take().unwrap()).lines().take(3);
        assert_eq!(lines.map(Result::unwrap).count(), 3);
        let [engine_file, client_file] = ["engine", "client"].map(|role| format!("{place}/callboard-{role}.json"));
        let engine = std::thread::spawn(move || callboard::run_engine(engine_file));
        let rc = Client::connect(client_file).get_timeout(LIFE_MAX).unwrap();
        rc.wait_for_engines(1).get_timeout(LIFE_MAX).unwrap();
        let gate = directory.path().join("gate");
        let [running, waiting] = [(); 2].map(|()| rc.load_balanced().apply(waits(gate.clone())));
        let ended = rc.shutdown(Pending::Finish);
        // Asked while it ends, and answered when it has taken note of that.
        while rc
            .load_balanced()
            .apply(waits(gate.clone()))
            .get_timeout(Duration::from_millis(20))
            .is_err_and(|error| matches!(error, TaskError::TimedOut { .. }))
        {}
        std::fs::write(gate, "").unwrap();
        assert_eq!([running, waiting].map(|ar| ar.get_timeout(LIFE_MAX)), [Ok(7), Ok(7)]);
        ended.get_timeout(LIFE_MAX).unwrap();
        let (code, told) = controller.end();
        assert_eq!((code, told.contains("are cancelled")), (Some(0), false), "{told}");
        engine.join().unwrap().unwrap();
    }

    #[test]
    fn a_controller_that_has_no_engine_for_what_is_to_be_finished_says_so_and_waits_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let mut controller = Running::start(&["controller", "--listen", "127.0.0.1:0", "--directory", place]);
        let lines = BufReader::new(controller.0.stdout.take().unwrap()).lines().take(3);
        assert_eq!(lines.map(Result::unwrap).count(), 3);
        let [engine_file, client_file] = ["engine", "client"].map(|role| format!("{place}/callboard-{role}.json"));
        let rc = Client::connect(client_file).get_timeout(LIFE_MAX).unwrap();
        let waiting = [(); 2].map(|()| rc.load_balanced().apply(callboard::cli::demo::sleep(0.01)));
        let ended = rc.shutdown(Pending::Finish);
        let mut complaints = BufReader::new(controller.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let told = complaints.find(|line| line.contains("after 1 s")).unwrap();
        let expected =
            "callboard: after 1 s: 2 tasks are pending, and there is no engine to run them; one is waited for";
        assert_eq!(told, expected);
        let engine = Running::start(&["engine", &engine_file]);
        assert_eq!(waiting.map(|ar| ar.get_timeout(LIFE_MAX)), [Ok(0.01), Ok(0.01)]);
        ended.get_timeout(LIFE_MAX).unwrap();
        assert_eq!(complaints.filter(|line| line.contains("are cancelled")).count(), 0);
        assert_eq!(controller.0.wait().unwrap().code(), Some(0));
        assert_eq!(engine.end().0, Some(0));
    }

    #[test]
    fn a_controller_says_that_files_expire_sooner_than_was_asked_and_that_it_has_a_new_authority() {
        use rustix::process::{Pid, Signal, kill_process};
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        // Listens once; returns whether it says the one, and the other.
        let listen = |days: &str| {
            let args = ["controller", "--listen", "127.0.0.1:0", "--directory", place, "--valid-days", days];
            let mut controller = Running::start(&args);
            let lines = BufReader::new(controller.0.stdout.as_mut().unwrap()).lines().take(3);
            assert!(lines.map(Result::unwrap).last().unwrap().starts_with("clients connect with"));
            kill_process(Pid::from_child(&controller.0), Signal::TERM).unwrap();
            let told = controller.end().1;
            (told.contains("sooner than was asked"), told.contains("there is a new authority"))
        };
        assert_eq!(
            ["30", "30", "365", "0", "3650"].map(listen),
            [false, false, true, false, true].map(|is| (is, false))
        );
        std::fs::remove_file(directory.path().join("callboard-controller.json")).unwrap();
        assert_eq!(["1", "365", "365"].map(listen), [false, true, false].map(|is| (false, is)));
        let help = super::callboard(&["controller", "--help"]);
        assert!(help.out.contains("never for longer than the authority in the directory"), "{}", help.out);
    }

    #[test]
    fn a_controller_that_cannot_listen_says_why() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let ran =
            super::callboard(&["controller", "--listen", &address, "--directory", directory.path().to_str().unwrap()]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains(&format!("cannot listen at {address}: Address already in use")), "{}", ran.err);
    }
}

#[test]
fn executors_are_compared_and_their_results_checked() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("norms.svg");
    let executors = "threads:2,processes:2,engines:2,tcp:2";
    let small = ["compare", "--exponent", "12", "--loops", "3", "--tasks", "100", "--executors", executors];
    let ran = callboard(&[&small[..], &["--json", "--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |test: &str| lines.iter().filter(|line| line["test"] == test).cloned().collect::<Vec<_>>();
    let ours = ["callboard-thread-pool", "callboard-process-pool", "callboard-threads", "callboard-tcp"];
    let (norms, rates, waits) = (of("norms"), of("noop_throughput"), of("latency"));
    assert_eq!(systems(&norms), [&["serial"][..], &ours].concat());
    assert_eq!((systems(&rates), systems(&waits), lines.len()), (ours.to_vec(), ours.to_vec(), 13));
    for (line, spec) in norms[1..].iter().zip(executors.split(',')) {
        let params = serde_json::json!({ "executor": spec, "engines": 2, "largest": 4096 });
        assert_eq!((&line["params"], &line["unit"], &line["runs"]["n"]), (&params, &"ms/loop".into(), &3.into()));
    }
    for line in &lines {
        let figure = |name: &str| line["runs"][name].as_f64().unwrap();
        assert!(
            0.0 < figure("min") && figure("min") <= figure("median") && figure("median") <= figure("max"),
            "{line}"
        );
        assert_eq!(line["value"].as_f64(), Some(figure("median")));
    }
    let picture = std::fs::read_to_string(plot).unwrap();
    assert!(picture.starts_with("<svg") && picture.matches("<line").count() == 5, "{picture}");
    assert!(executors.split(',').all(|spec| picture.contains(spec)) && picture.contains(" cores, "), "{picture}");

    let ran = callboard(&["compare", "--exponent", "10", "--loops", "1", "--tasks", "10", "--executors", "threads:1"]);
    let rows: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("| t")).collect();
    assert_eq!((ran.code, rows.len()), (Some(0), 2), "{}{}", ran.out, ran.err);
    assert!(rows[0].starts_with("| this thread") && rows[1].starts_with("| threads:1 "), "{rows:?}");
    assert!(rows[1].contains(" us ") && rows[1].contains("1.00 x"), "{rows:?}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let ran = callboard(&["compare", "--executors", "dask:tcp://127.0.0.1:1"]);
    assert_eq!((ran.code, &*ran.out), (Some(1), ""));
    assert!(ran.err.contains("dask:tcp://127.0.0.1:1"), "{}", ran.err);
    let mut without_python = Command::new(env!("CARGO_BIN_EXE_callboard"));
    without_python.args(["compare", "--executors", "dask:local:2"]).env("CALLBOARD_PYTHON", "/nowhere/python3");
    let output = without_python.timeout(LIFE_MAX).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    let has_all = ["dask:local:2: ", "/nowhere/python3 cannot be started", "-m pip install distributed"];
    assert!(has_all.iter().all(|part| said.contains(part)), "{said}");
    let ran = callboard(&["compare", "--executors", "threads:1,threads:1"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("threads:1 is named twice"), "{}", ran.err);
}

#[test]
fn spaces_after_the_commas_of_a_list_are_no_names() {
    let list = "threads:1, engines:1";
    let ran = callboard(&["compare", "--exponent", "4", "--loops", "1", "--tasks", "10", "--executors", list]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(list.split(", ").all(|spec| ran.out.contains(&format!("| {spec} "))), "{}", ran.out);
}

#[test]
fn a_picture_that_cannot_be_written_loses_no_figures() {
    let small = ["compare", "--exponent", "4", "--loops", "1", "--tasks", "10", "--executors", "threads:1"];
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("missing").join("norms.svg").display().to_string();
    let ran = callboard(&[&small[..], &["--plot", &nowhere]].concat());
    assert_eq!((ran.code, &*ran.out), (Some(1), ""), "it is said before anything is measured");
    assert!(ran.err.contains(&format!("{nowhere}: No such file or directory")), "{}", ran.err);
    let fails = ["compare", "--executors", "cluster:nowhere/callboard-client.json"];
    let ran = callboard(&[&fails[..], &["--plot", &nowhere]].concat());
    assert!(ran.err.contains("No such file or directory") && ran.err.contains("norms.svg"), "{}", ran.err);
    let picture = directory.path().join("norms.svg");
    let ran = callboard(&[&fails[..], &["--plot", picture.to_str().unwrap()]].concat());
    assert!(ran.code == Some(1) && !picture.exists(), "what was not drawn leaves nothing: {}", ran.err);
    std::fs::write(&picture, "one of before").unwrap();
    let ran = callboard(&[&fails[..], &["--plot", picture.to_str().unwrap()]].concat());
    assert_eq!((ran.code, &*std::fs::read_to_string(&picture).unwrap()), (Some(1), "one of before"));
    let ran = callboard(&[&small[..], &["--plot", "a.dir/norms.png"]].concat());
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("the picture is an SVG, not a .png; call it a.dir/norms.svg"), "{}", ran.err);
    #[cfg(target_os = "linux")]
    {
        let ran = callboard(&[&small[..], &["--plot", "/dev/full"]].concat());
        assert!(ran.code == Some(1) && ran.err.contains("/dev/full: No space left on device"), "{}", ran.err);
        assert!(ran.out.contains("| threads:1 "), "{}", ran.out);
    }
}
