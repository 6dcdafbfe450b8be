//! Processes of this machine that dial, by themselves and by a template.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use callboard::launchers::{JobState, Local, Template};
use callboard::prelude::*;
use callboard::task::{Attempt, EngineId};
use callboard::{Error, Listen};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, failed, processes_of, say, site, square};
use crate::support::{CommonGate, eventually, our_threads};

pub(super) const TESTS: &[(&str, fn())] = &[
    ("local_engines_join_work_print_and_end", engines_join_work_print_and_end),
    ("local_engines_end_when_they_are_dropped", engines_end_when_they_are_dropped),
    ("local_engines_end_with_their_cluster", engines_end_with_their_cluster),
    ("local_engines_end_with_a_program_that_is_killed", engines_end_with_a_program_that_is_killed),
    ("local_what_is_ended_takes_no_work_with_it", what_is_ended_takes_no_work_with_it),
    ("local_what_does_not_return_is_killed", what_does_not_return_is_killed),
    ("local_what_dies_is_started_again", what_dies_is_started_again),
    ("local_what_dies_as_the_cluster_ends_leaves_nothing", what_dies_as_the_cluster_ends_leaves_nothing),
    ("local_what_dies_again_and_again_is_given_up", what_dies_again_and_again_is_given_up),
    ("local_whoever_does_not_join_is_told_at_once", whoever_does_not_join_is_told_at_once),
    ("local_the_command_is_an_engine_too", the_command_is_an_engine_too),
    ("local_engines_are_launched_and_ended_in_async_code", engines_are_launched_and_ended_in_async_code),
    ("local_the_last_part_of_what_is_printed_is_kept", the_last_part_of_what_is_printed_is_kept),
    (
        "local_a_template_starts_several_with_one_command_and_a_file",
        a_template_starts_several_with_one_command_and_a_file,
    ),
];

fn engines_join_work_print_and_end() {
    let site = site();
    let engines = site.cluster.launch(Local::new().program_args([&site.word]), 3).unwrap();
    let ids = engines.joined().get_timeout(PATIENCE).unwrap();
    assert_eq!((ids.clone(), engines.engines()), (site.cluster.client().ids(), ids));
    site.works_with(3);
    site.prints(&engines);
    let names: Vec<_> = engines.states().into_iter().collect();
    let running = |n: usize| (format!("process {n}"), JobState::Running);
    assert_eq!(names, [running(0), running(1), running(2)]);
    assert_eq!(site.files().len(), 0, "the file is written nowhere");
    let began = Instant::now();
    engines.end().get_timeout(PATIENCE).unwrap();
    site.nothing_is_left();
    assert!(engines.output()[2].stderr.contains("err: hello there\n"), "what they printed is there still");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    eventually("no thread is left", || our_threads().iter().all(|name| !name.starts_with("cb-launch")));
}

fn engines_end_when_they_are_dropped() {
    let site = site();
    for joins in [false, true] {
        let engines = site.cluster.launch(Local::new().program_args([&site.word]), 2).unwrap();
        if joins {
            engines.joined().get_timeout(PATIENCE).unwrap();
        }
        drop(engines);
        site.nothing_is_left();
    }
}

fn engines_end_with_their_cluster() {
    let site = site();
    let (word, directory) = (site.word.clone(), site.directory);
    let engines = site.cluster.launch(Local::new().program_args([&word]), 2).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let _running = site.cluster.client().load_balanced().apply(say("at the end".into()));
    drop(site.cluster);
    assert_eq!(processes_of(&word), []);
    for (name, state) in engines.states() {
        let JobState::Ended { cause } = state else { panic!("{name}: {state:?}") };
        assert!(cause.starts_with("it ended with exit status: 0"), "{cause}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    let again = engines.joined().get_timeout(PATIENCE).unwrap();
    assert_eq!(again.len(), 2, "they had joined");
}

pub(super) const CONTROLS: &str = "--controls";

/// Launches engines, and waits for its end.
pub(super) fn control(arguments: &[String]) {
    let [directory, word] = arguments else { panic!("{arguments:?}") };
    let cluster = Cluster::without_engines().start().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(4)
    });
    cluster.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    let engines = cluster.launch(Local::new().program_args([word]), 2).unwrap();
    engines.joined().get().unwrap();
    CommonGate::named(format!("{word}-joined")).open();
    std::thread::sleep(PATIENCE);
}

fn engines_end_with_a_program_that_is_killed() {
    let (directory, word) = (tempfile::tempdir().unwrap(), format!("killed-{}", std::process::id()));
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.arg(CONTROLS).arg(directory.path()).arg(&word).stdin(Stdio::null());
    let mut program = program.env("CALLBOARD_TEST_DIALS", "as a child").spawn().unwrap();
    CommonGate::named(format!("{word}-joined")).pass();
    assert_eq!(processes_of(&word).len(), 3);
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("its engines end", || processes_of(&word).is_empty());
}

fn what_is_ended_takes_no_work_with_it() {
    let site = site();
    let rc = site.cluster.client();
    let first = site.cluster.launch(Local::new().program_args([&site.word]), 1).unwrap();
    first.joined().get_timeout(PATIENCE).unwrap();
    let running = rc.load_balanced().apply(site.nap("ended", 400));
    site.has_begun("ended");
    let waiting: Vec<_> = (0..100).map(|x| rc.load_balanced().apply(square(x))).collect();
    first.end().get_timeout(PATIENCE).unwrap();
    assert_eq!(running.get_timeout(PATIENCE), Ok(400));
    site.nothing_is_left();
    let _second = site.cluster.launch(Local::new().program_args([&site.word]), 1).unwrap();
    for (x, ar) in (0..).zip(&waiting) {
        assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().attempt), (Ok(x * x), Attempt(1)));
    }
}

fn what_does_not_return_is_killed() {
    let site = site();
    let engines = site.cluster.launch(Local::new().program_args([&site.word]), 1).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let stuck = site.cluster.client().load_balanced().apply(site.nap("stuck", 600_000));
    site.has_begun("stuck");
    let began = Instant::now();
    engines.end_within(Duration::from_millis(200)).get_timeout(PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let error = stuck.get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::EngineLost { attempt: Attempt(1), .. }), "{error}");
    eventually("it is gone", || site.cluster.client().is_empty());
    site.nothing_is_left();
}

fn what_dies_is_started_again() {
    let site = site();
    let rc = site.cluster.client();
    let launch = || site.cluster.launch(Local::new().program_args([&site.word]), 2).unwrap();
    let engines = launch().restarting().unwrap().restarting().unwrap();
    let first = engines.joined().get_timeout(PATIENCE).unwrap();
    let work = rc.load_balanced().with().retries_on_loss(3).map(square, 0..2_000);
    for (killed, _) in site.processes() {
        kill(killed, Signal::KILL);
        eventually("another runs", || site.processes().iter().filter(|(pid, _)| *pid != killed).count() == 2);
    }
    eventually("both are others", || rc.len() == 2 && rc.ids().iter().all(|id| !first.contains(id)));
    assert_eq!(work.get_timeout(PATIENCE).unwrap(), (0..2_000).map(|x| x * x).collect::<Vec<u64>>());
    assert_eq!(engines.engines(), rc.ids());
    site.works_with(2);
    // What leaves when it is told to has not died.
    let (left, _) = site.processes()[0];
    kill(left, Signal::TERM);
    eventually("it has left", || rc.len() == 1);
    site.cluster.remove_engines(rc.ids()).get_timeout(PATIENCE).unwrap();
    eventually("both have ended", || engines.states().iter().all(|(_, state)| state.is_ended()));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((rc.len(), site.processes()), (0, vec![]));
    engines.end().get_timeout(PATIENCE).unwrap();
    site.nothing_is_left();
    eventually("no thread is left", || our_threads().iter().all(|name| !name.starts_with("cb-launch")));
}

fn what_dies_as_the_cluster_ends_leaves_nothing() {
    for ms in [0, 20, 40, 60, 80, 120] {
        let site = site();
        let engines = site.cluster.launch(Local::new().program_args([&site.word]), 2).unwrap().restarting().unwrap();
        engines.joined().get_timeout(PATIENCE).unwrap();
        site.processes().into_iter().for_each(|(process, _)| kill(process, Signal::KILL));
        std::thread::sleep(Duration::from_millis(ms));
        let word = site.word.clone();
        drop(site.cluster);
        assert_eq!(processes_of(&word), [], "{ms} ms after it died");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(processes_of(&word), [], "{ms} ms after it died");
        assert!(engines.states().iter().all(|(_, state)| state.is_ended()), "{:?}", engines.states());
    }
}

fn what_dies_again_and_again_is_given_up() {
    let site = site();
    let rc = site.cluster.client();
    let engines = site.cluster.launch(Local::new().program_args([&site.word]), 1).unwrap().restarting().unwrap();
    for times in 0..=5 {
        eventually("it has joined", || rc.len() == 1);
        let id = rc.ids()[0];
        assert_eq!(id, EngineId(times), "each is another");
        kill(site.processes()[0].0, Signal::KILL);
        eventually("it is gone", || !rc.ids().contains(&id));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!((rc.len(), site.processes()), (0, vec![]), "six times within a minute");
    let states = engines.states();
    let [(_, JobState::Ended { cause })] = &states[..] else { panic!("{states:?}") };
    assert!(cause.contains("SIGKILL"), "{cause}");
}

fn kill(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

fn whoever_does_not_join_is_told_at_once() {
    let site = site();
    let refused = |launcher: Local| site.cluster.launch(launcher, 2).unwrap_err().to_string();
    let told = refused(Local::new().program("/nowhere/engine"));
    assert_eq!(
        told,
        "process 0 launches no engines: there is no program /nowhere/engine on this machine; install it, or name where it is"
    );
    assert_eq!(site.cluster.launch(Local::new(), 0).unwrap_err(), Error::Zero { what: "the number of engines" });
    let silent = Cluster::threads(1).start().unwrap();
    let told = silent.launch(Local::new(), 1).unwrap_err().to_string();
    assert!(told.contains("it does not listen; call cluster.listen(..) before"), "{told}");

    // It starts, and ends before it joins.
    let began = Instant::now();
    let dying = Local::new().program("sh").program_args(["-c", "echo starting; echo no licence left >&2; exit 3"]);
    let dying = site.cluster.launch(dying, 2).unwrap();
    let told = failed(&dying);
    let ended = ": it ended with exit status: 3; it printed last: no licence left";
    assert!(told.starts_with("process ") && told.ends_with(ended), "{told}");
    eventually("both have ended", || dying.states().iter().all(|(_, state)| state.is_ended()));
    assert_eq!((&*dying.output()[1].stdout, &*dying.output()[1].stderr), ("starting\n", "no licence left\n"));
    // A program that is an engine only once its `main` calls `init`.
    let exe = std::env::current_exe().unwrap();
    let forgets = Template::new("env").args(["CALLBOARD_TEST_FORGETS_INIT=1", "{program}"]).program(exe);
    let forgets = forgets.program_args(["--callboard-dial", CONTROLS, "of", "no use"]);
    let told = failed(&site.cluster.launch(forgets, 1).unwrap());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let forgotten = "env: it ended with exit status: 4; it printed last: this process was launched as an engine and starts a cluster";
    assert!(told.starts_with(forgotten), "{told}");
    drop(dying);
    site.nothing_is_left();
}

/// The command has none of these tasks.
fn the_command_is_an_engine_too() {
    let site = site();
    let local = Local::new().program(env!("CARGO_BIN_EXE_callboard")).program_args(["engine", "-", "--engines", "1"]);
    let engines = site.cluster.launch(local, 2).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 2);
    let said = || engines.output().into_iter().map(|output| output.stderr).collect::<String>();
    // What they say comes by a pipe, and that they have joined by another way.
    eventually("both have said it", || said().matches("there is a session with the controller").count() == 2);
    let error = site.cluster.client().load_balanced().apply(square(7)).get_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, TaskError::UnknownTask { .. }), "{error}");
    engines.end().get_timeout(PATIENCE).unwrap();
    assert_eq!(said().matches("the connection to the controller has ended").count(), 2, "{}", said());
    for (name, state) in engines.states() {
        let JobState::Ended { cause } = state else { panic!("{name}: {state:?}") };
        assert!(cause.starts_with("it ended with exit status: 0"), "{name}: {cause}");
    }
    site.nothing_is_left();
}

fn engines_are_launched_and_ended_in_async_code() {
    let site = site();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let engines = site.cluster.launch(Local::new().program_args([&site.word]), 2).unwrap();
        assert_eq!(engines.joined().await.unwrap().len(), 2);
        assert_eq!(site.cluster.client().load_balanced().apply(square(7)).await, Ok(49));
        engines.end().await.unwrap();
        site.nothing_is_left();
        // Dropped here, it holds up nobody, and ends all the same.
        let engines = site.cluster.launch(Local::new().program_args([&site.word]), 2).unwrap();
        engines.joined().await.unwrap();
        let running = site.cluster.client().load_balanced().apply(site.nap("in the background", 1_500));
        site.has_begun("in the background");
        let began = Instant::now();
        drop(engines);
        assert!(began.elapsed() < Duration::from_millis(1_000), "{:?}", began.elapsed());
        assert_eq!(running.await, Ok(1_500), "what runs is finished");
    });
    eventually("they end in the background", || site.processes().is_empty() && site.cluster.client().is_empty());
}

fn the_last_part_of_what_is_printed_is_kept() {
    let site = site();
    let engines = site.cluster.launch(Local::new().program_args([&site.word]), 1).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let rc = site.cluster.client();
    rc.load_balanced().apply(say("x".repeat(1 << 20))).get_timeout(PATIENCE).unwrap();
    rc.load_balanced().apply(say("the end".into())).get_timeout(PATIENCE).unwrap();
    eventually("all has come", || engines.output()[0].stderr.ends_with("err: the end\n"));
    for text in [&engines.output()[0].stdout, &engines.output()[0].stderr] {
        assert!(text.len() == 64 << 10 && text.contains("xx"), "{}", text.len());
    }
}

fn a_template_starts_several_with_one_command_and_a_file() {
    let site = site();
    // As a command would that starts `n` programs somewhere, each of which reads the file.
    let script = "n=$1; shift; for i in $(seq $n); do \"$@\" <\"$0\" & done; wait";
    let template = Template::new("sh").args(["-c", script, "{file}", "{n}", "{program}"]);
    let exe = std::env::current_exe().unwrap();
    let template = template.program(&exe).program_args(["--callboard-dial", &site.word]);
    let engines = site.cluster.launch(template, 3).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 3);
    assert_eq!(engines.states(), [("sh".into(), JobState::Running)]);
    let [file] = &site.files()[..] else { panic!("{:?}", site.files()) };
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    site.works_with(3);
    site.prints(&engines);
    engines.end().get_timeout(PATIENCE).unwrap();
    site.nothing_is_left();
    // The cluster's own file serves others still.
    assert!(site.listening.engine_file().exists());

    // The shell dies of the signal, and what it has started finishes what it runs.
    let template = Template::new("sh").args(["-c", script, "{file}", "{n}", "{program}"]);
    let engines = site.cluster.launch(template.program(exe).program_args(["--callboard-dial", &site.word]), 1).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let running = site.cluster.client().load_balanced().apply(site.nap("signalled", 800));
    site.has_begun("signalled");
    engines.end_within(Duration::from_millis(200)).get_timeout(PATIENCE).unwrap();
    assert_eq!(running.get_timeout(PATIENCE), Ok(800));
    site.nothing_is_left();
}
