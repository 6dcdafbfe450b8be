//! ssh, with an sshd of our own.

use std::time::{Duration, Instant};

use callboard::launchers::{JobState, Ssh};
use rustix::process::{Pid, Signal, kill_process};

use super::command::Commanded;
use super::daemons::{Sshd, are_there};
use super::{PATIENCE, failed, site};
use crate::support::eventually;

pub(super) const TESTS: &[(&str, fn())] = &[("ssh", everything)];

/// A test, and its name.
type Test = (&'static str, fn(&Sshd));

fn everything() {
    if !are_there(&["sshd", "ssh", "ssh-keygen"], "openssh-server") {
        return;
    }
    let sshd = Sshd::start();
    let tests: [Test; 5] = [
        ("engines_join_work_print_and_end", engines_join_work_print_and_end),
        ("a_program_is_called_as_it_is_named", a_program_is_called_as_it_is_named),
        ("engines_leave_when_ssh_is_killed", engines_leave_when_ssh_is_killed),
        ("whoever_does_not_join_is_told_with_what_ssh_says", whoever_does_not_join_is_told_with_what_ssh_says),
        ("the_command_starts_and_stops_them", the_command_starts_and_stops_them),
    ];
    for (name, test) in tests {
        let began = Instant::now();
        test(&sshd);
        println!("  {name} ({:?})", began.elapsed());
    }
}

fn engines_join_work_print_and_end(sshd: &Sshd) {
    let site = site();
    let ssh = Ssh::to(["a", "b"]).args(sshd.args()).program_args([&site.word]);
    let engines = site.cluster.launch(ssh, 5).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 5);
    let names: Vec<_> = engines.states().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ssh a", "ssh a", "ssh a", "ssh b", "ssh b"]);
    site.works_with(5);
    site.prints(&engines);
    assert!(site.files().is_empty(), "the file goes through ssh");
    engines.end().get_timeout(PATIENCE).unwrap();
    site.nothing_is_left();
}

fn a_program_is_called_as_it_is_named(sshd: &Sshd) {
    let site = site();
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("it's an \"engine\"; $(touch x) `y` \\ *");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    let ssh = Ssh::to(["a"]).args(sshd.args()).program(&program);
    let engines = site.cluster.launch(ssh.program_args(["--callboard-dial", &site.word, "a  b", ""]), 1).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let engine = site.processes().into_iter().find(|(_, line)| line.starts_with(&*program.to_string_lossy()));
    assert!(engine.is_some_and(|(_, line)| line.ends_with(&format!("{} a  b  ", site.word))));
    drop(engines);
    site.nothing_is_left();
}

fn engines_leave_when_ssh_is_killed(sshd: &Sshd) {
    let site = site();
    let ssh = Ssh::to(["a"]).args(sshd.args()).program_args([&site.word]);
    let engines = site.cluster.launch(ssh, 1).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let running = site.cluster.client().load_balanced().apply(site.nap("ssh", 500));
    site.has_begun("ssh");
    let client = site.processes().into_iter().find(|(_, line)| line.starts_with("ssh ")).unwrap();
    kill_process(Pid::from_raw(client.0 as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(running.get_timeout(PATIENCE), Ok(500), "it finishes what it runs");
    eventually("it has gone", || site.processes().is_empty() && site.cluster.client().is_empty());
    let (name, JobState::Ended { cause }) = &engines.states()[0] else { panic!("{:?}", engines.states()) };
    assert_eq!((&**name, &**cause), ("ssh a", "it ended with signal: 9 (SIGKILL)"));
}

fn whoever_does_not_join_is_told_with_what_ssh_says(sshd: &Sshd) {
    let site = site();
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "nowhere.invalid",
            "/bin/true",
            &["ssh nowhere.invalid: it ended with exit status: 255 (ssh could not", "resolve hostname"],
        ),
        ("stranger", "/bin/true", &["ssh stranger: it ended with exit status: 255", "Permission denied (publickey)"]),
        (
            "a",
            "/nowhere/engine",
            &["ssh a: it ended with exit status: 127 (the program is not there; copy it", "/nowhere/engine"],
        ),
    ];
    for (host, program, expected) in cases {
        let began = Instant::now();
        let engines = site.cluster.launch(Ssh::to([host]).args(sshd.args()).program(program), 2).unwrap();
        let told = failed(&engines);
        assert!(expected.iter().all(|expected| told.contains(expected)), "{told}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    let refused = |ssh: Ssh, n| site.cluster.launch(ssh.args(sshd.args()), n).unwrap_err().to_string();
    assert!(refused(Ssh::to(["a"]).command("/nowhere/ssh"), 1).contains("there is no program /nowhere/ssh"));
    assert!(
        refused(Ssh::to(["a", "b"]).engines_per_host(2), 5)
            .contains("5 engines are asked for, and 2 hosts have 2 each")
    );
    assert!(refused(Ssh::to(["-oProxyCommand=touch x"]), 1).contains("is no name of a host"));
    site.nothing_is_left();
}

fn the_command_starts_and_stops_them(sshd: &Sshd) {
    let ours = Commanded::new();
    let [option, file] = sshd.args();
    let args = ["--engines", "ssh", "--launch-arg", &option, "--launch-arg", &file];
    let on = |hosts: &'static str| [&args[..], &["--host", hosts]].concat();
    ours.works(&on("a:2,b"), "3 by ssh", 3);
    ours.works(&[&on("a")[..], &["--host", "b", "-n", "4"]].concat(), "4 by ssh", 4);
    ours.fails("nowhere", &on("a"), &["ssh a: it ended with exit status: 127 (the program is not there; copy it"]);
    ours.program("dies", "echo starting; echo no licence left >&2; exit 3");
    ours.fails("dies", &on("b"), &["ssh b: it ended with exit status: 3; it printed last: no licence left"]);
    ours.program("idles", "exec sleep 60");
    ours.waits("idles", &on("a,b"), "0 of 2 engines have joined after 1 s\n");
}
