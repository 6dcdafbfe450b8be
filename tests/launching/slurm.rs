//! Slurm, with daemons of our own: a node that says it has four processors.

use std::time::{Duration, Instant};

use callboard::launchers::{JobState, Slurm};
use callboard::task::Attempt;
use callboard::{Cluster, EngineEvent, Error, Listen};

use super::command::Commanded;
use super::daemons::{SLURM, SlurmCluster, are_there, run};
use super::{PATIENCE, Site, failed, pid, site, square};
use crate::support::eventually;

pub(super) const TESTS: &[(&str, fn())] = &[("slurm", everything)];

/// A test, and its name.
type Test = (&'static str, fn(&SlurmCluster));

fn everything() {
    if !are_there(&SLURM, "slurm-wlm and munge") {
        return;
    }
    let slurm = SlurmCluster::start();
    let tests: [Test; 7] = [
        ("engines_join_work_print_and_end", engines_join_work_print_and_end),
        (
            "what_finds_no_room_waits_and_is_cancelled_with_the_others",
            what_finds_no_room_waits_and_is_cancelled_with_the_others,
        ),
        ("a_job_that_is_cancelled_leaves_and_its_work_moves_on", a_job_that_is_cancelled_leaves_and_its_work_moves_on),
        ("whoever_does_not_join_is_told_with_what_slurm_says", whoever_does_not_join_is_told_with_what_slurm_says),
        ("inside_an_allocation_they_are_a_step_of_it", inside_an_allocation_they_are_a_step_of_it),
        (
            "at_its_time_limit_an_engine_leaves_and_its_work_moves_on",
            at_its_time_limit_an_engine_leaves_and_its_work_moves_on,
        ),
        ("the_command_starts_and_stops_them", the_command_starts_and_stops_them),
    ];
    for (name, test) in tests {
        let began = Instant::now();
        test(&slurm);
        println!("  {name} ({:?})", began.elapsed());
    }
    assert_eq!(slurm.queue(), [""; 0]);
}

/// Engines of these tests, by the commands that speak with their Slurm.
fn engines(slurm: &SlurmCluster, site: &Site) -> Slurm {
    Slurm::new().commands_in(slurm.commands()).program_args([&site.word])
}

impl Site {
    #[track_caller]
    fn nothing_is_left_in(&self, slurm: &SlurmCluster) {
        assert_eq!(slurm.queue(), [""; 0]);
        // What Slurm has started ends a moment after its job has.
        eventually("no process is left", || self.processes().is_empty());
        self.nothing_is_left();
    }
}

fn engines_join_work_print_and_end(slurm: &SlurmCluster) {
    let site = site();
    let engines = site.cluster.launch(engines(slurm, &site), 3).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 3);
    site.works_with(3);
    site.prints(&engines);
    let is_running = |(name, state): &(String, JobState)| name.starts_with("Slurm job ") && *state == JobState::Running;
    eventually("the queue is told as it is", || engines.states().iter().all(is_running));
    let kinds =
        |end: &str| site.files().iter().filter(|file| file.extension().is_some_and(|found| found == end)).count();
    assert_eq!((kinds("output"), kinds("error"), kinds("json")), (3, 3, 0), "{:?}", site.files());
    // What dies in a queue is Slurm's to start again. Engines that nobody has end.
    match engines.restarting() {
        Err(Error::Launch { problem, .. }) => assert!(problem.contains("sbatch --requeue"), "{problem}"),
        other => panic!("{other:?}"),
    }
    site.nothing_is_left_in(slurm);
}

fn what_finds_no_room_waits_and_is_cancelled_with_the_others(slurm: &SlurmCluster) {
    let site = site();
    let engines = site.cluster.launch(engines(slurm, &site), 6).unwrap();
    site.cluster.client().wait_for_engines(4).get_timeout(PATIENCE).unwrap();
    site.works_with(4);
    let joined = engines.joined().get_timeout(Duration::from_millis(700));
    assert!(matches!(joined, Err(Error::NotReady { .. })), "{joined:?}");
    let states = engines.states();
    let waiting =
        states.iter().filter(|(_, state)| matches!(state, JobState::Waiting { reason } if !reason.is_empty()));
    assert_eq!(waiting.count(), 2, "{states:?}");
    // The handle outlives the cluster, and what is in the queue does not.
    let word = site.word.clone();
    drop(site.cluster);
    assert_eq!(slurm.queue(), [""; 0]);
    eventually("no process is left", || super::processes_of(&word).is_empty());
    assert!(engines.states().iter().all(|(_, state)| state.is_ended()), "{:?}", engines.states());
    assert_eq!(std::fs::read_dir(site.directory.path()).unwrap().count(), 3);
}

fn a_job_that_is_cancelled_leaves_and_its_work_moves_on(slurm: &SlurmCluster) {
    let site = site();
    let rc = site.cluster.client();
    let first = site.cluster.launch(engines(slurm, &site), 1).unwrap();
    let [engine] = first.joined().get_timeout(PATIENCE).unwrap()[..] else { panic!("there is one") };
    let mut events = rc.engine_events();
    let running = rc.load_balanced().apply(site.nap("scancel", 1_500));
    site.has_begun("scancel");
    let waiting: Vec<_> = (0..50).map(|x| rc.load_balanced().apply(square(x))).collect();
    let number = first.states()[0].0.replace("Slurm job ", "");
    run(slurm.command("scancel").arg(&number));
    let left = loop {
        if let EngineEvent::Left { engine: left, cause } = events.recv_timeout(PATIENCE).unwrap().unwrap() {
            assert_eq!(left, engine);
            break cause;
        }
    };
    assert_eq!((&*left, running.get_timeout(PATIENCE)), ("its time was over, and it left", Ok(1_500)));
    eventually("its end is told", || first.states()[0].1.is_ended());
    let JobState::Ended { cause } = first.states()[0].1.clone() else { panic!("it is over") };
    assert!(cause.starts_with("it is CANCELLED"), "{cause}");
    let _second = site.cluster.launch(engines(slurm, &site), 1).unwrap();
    for (x, ar) in (0..).zip(&waiting) {
        assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().attempt), (Ok(x * x), Attempt(1)));
    }
}

fn whoever_does_not_join_is_told_with_what_slurm_says(slurm: &SlurmCluster) {
    let site = site();
    let launch = |slurm: Slurm, n| site.cluster.launch(slurm, n);
    let told = launch(engines(slurm, &site).args(["--partition=nowhere"]), 1).unwrap_err().to_string();
    assert!(told.starts_with("sbatch launches no engines: it ended with exit status: 1: sbatch: error: "), "{told}");
    assert!(told.contains("invalid partition specified: nowhere"), "{told}");
    let told = launch(Slurm::new().commands_in("/nowhere"), 1).unwrap_err().to_string();
    assert!(told.contains("there is no sbatch on this machine"), "{told}");
    let missing = launch(engines(slurm, &site).program("/nowhere/engine"), 2).unwrap();
    let told = failed(&missing);
    assert!(
        told.contains("it is FAILED (NonZeroExitCode); it printed last: ") && told.contains("/nowhere/engine"),
        "{told}"
    );
    // Cancelled by somebody, while it waits.
    let held = launch(engines(slurm, &site).args(["--hold"]), 1).unwrap();
    assert!(
        matches!(&held.states()[0].1, JobState::Waiting { reason } if reason.contains("Held")),
        "{:?}",
        held.states()
    );
    run(slurm.command("scancel").arg(held.states()[0].0.replace("Slurm job ", "")));
    assert!(failed(&held).contains("it is CANCELLED"));
    drop((missing, held));
    site.nothing_is_left_in(slurm);
}

pub(super) const INSIDE: &str = "--inside-an-allocation";

/// Is a program inside an allocation: its engines are a step of that.
pub(super) fn be_inside(arguments: &[String]) {
    let [commands, directory, word] = arguments else { panic!("{arguments:?}") };
    let cluster = Cluster::without_engines().start().unwrap();
    cluster.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    let engines = cluster.launch(Slurm::new().commands_in(commands).program_args([word]), 2).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 2);
    let pids = cluster.client().all().apply(pid()).get_timeout(PATIENCE).unwrap();
    println!("{pids:?} are a step: {:?}", engines.states());
    engines.end().get_timeout(PATIENCE).unwrap();
}

fn inside_an_allocation_they_are_a_step_of_it(slurm: &SlurmCluster) {
    let (directory, word) = (tempfile::tempdir().unwrap(), format!("inside-{}", std::process::id()));
    let mut salloc = slurm.command("salloc");
    salloc.args(["--ntasks=2", "--quiet"]).arg(std::env::current_exe().unwrap());
    salloc.arg(INSIDE).arg(slurm.commands()).arg(directory.path()).arg(&word);
    let said = run(&mut salloc);
    assert!(said.contains("are a step: [(\"srun\", Running)]"), "{said}");
    eventually("no process is left", || super::processes_of(&word).is_empty());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

/// A minute is the shortest limit that Slurm has, and it looks every half minute.
fn at_its_time_limit_an_engine_leaves_and_its_work_moves_on(slurm: &SlurmCluster) {
    let site = site();
    let rc = site.cluster.client();
    let first = site.cluster.launch(engines(slurm, &site).args(["--time=1"]), 1).unwrap();
    let [engine] = first.joined().get_timeout(PATIENCE).unwrap()[..] else { panic!("there is one") };
    let mut events = rc.engine_events();
    // More than it has time for.
    let tasks: Vec<_> = (0..70).map(|n| rc.load_balanced().apply(site.nap(&format!("limit {n}"), 2_000))).collect();
    let began = Instant::now();
    let cause = loop {
        match events.recv_timeout(Duration::from_secs(150)).unwrap().unwrap() {
            EngineEvent::Left { engine: left, cause } if left == engine => break cause,
            other => println!("{other:?}"),
        }
    };
    assert_eq!(&*cause, "its time was over, and it left");
    assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
    let done = tasks.iter().filter(|task| task.ready()).count();
    assert!((15..70).contains(&done), "{done} were done by then");
    eventually("its end is told", || first.states()[0].1.is_ended());
    let JobState::Ended { cause } = first.states()[0].1.clone() else { panic!("it is over") };
    assert!(cause.starts_with("it is TIMEOUT (TimeLimit)"), "{cause}");
    // The rest is for others.
    let second = site.cluster.launch(engines(slurm, &site), 4).unwrap();
    for ar in &tasks {
        assert_eq!((ar.get_timeout(3 * PATIENCE), ar.metadata().attempt), (Ok(2_000), Attempt(1)));
    }
    drop((first, second));
    site.nothing_is_left_in(slurm);
}

fn the_command_starts_and_stops_them(slurm: &SlurmCluster) {
    let ours = Commanded::finding(slurm.commands());
    let of = |n: &'static str| ["--engines", "slurm", "-n", n, "--launch-arg=--time=5"];
    ours.works(&of("3"), "3 by slurm", 3);
    assert_eq!(slurm.queue(), [""; 0]);
    ours.waits("engine", &of("6"), "; 2 wait in the queue (");
    assert_eq!(slurm.queue(), [""; 0]);
    ours.fails(
        "engine",
        &[&of("1")[..], &["--launch-arg", "--partition=nowhere"]].concat(),
        &["invalid partition specified: nowhere"],
    );
    ours.program("dies", "echo no licence left >&2; exit 3");
    ours.fails("dies", &of("1"), &["it is FAILED (NonZeroExitCode); it printed last: no licence left"]);
    assert_eq!(slurm.queue(), [""; 0]);
}
