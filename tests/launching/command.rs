//! `callboard cluster start --engines ssh|slurm|mpi`: the command launches them, waits for them, and ends them.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use callboard::Client;
use callboard::cli::demo::{getpid, sleep};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, processes_of};
use crate::home::{Home, LIFETIME_S, Ran};
use crate::support::eventually;

const CALLBOARD: &str = env!("CARGO_BIN_EXE_callboard");

/// A folder of clusters, and a program for engines whose path no other has.
pub(super) struct Commanded {
    home: Home,
    programs: tempfile::TempDir,
    /// Set for each command, beside the folder.
    path: Option<PathBuf>,
}

impl Commanded {
    pub(super) fn new() -> Self {
        let programs = tempfile::tempdir().unwrap();
        symlink(CALLBOARD, programs.path().join("engine")).unwrap();
        Self { home: Home::of(CALLBOARD), programs, path: None }
    }

    /// The same, where commands are looked for in this folder first.
    pub(super) fn finding(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::new() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        if let Some(path) = &self.path {
            let others = std::env::var_os("PATH").unwrap_or_default();
            let all = std::env::join_paths([path.clone()].into_iter().chain(std::env::split_paths(&others)));
            command.env("PATH", all.unwrap());
        }
        command
    }

    /// Returns the command that starts a cluster whose engines are this program of ours.
    fn start(&self, program: &str, args: &[&str]) -> Command {
        let program = self.programs.path().join(program);
        let start = ["cluster", "start", "--lifetime", LIFETIME_S, "--program", program.to_str().unwrap()];
        self.command(&[&start, args].concat())
    }

    fn client(&self) -> Client {
        Client::connect(self.home.file("default", "callboard-client.json")).get_timeout(PATIENCE).unwrap()
    }

    /// Waits until nothing is left of engines and clusters.
    #[track_caller]
    fn is_left_empty(&self) {
        let of = self.programs.path().to_str().unwrap();
        eventually("the engines have ended", || processes_of(of).is_empty());
        self.home.is_left_empty();
    }

    /// Starts `n` in the background, has them work, and stops them while one runs a task.
    pub(super) fn works(&self, args: &[&str], engines: &str, n: usize) {
        let ran = Ran::of(self.start("engine", &[&["--daemonize"], args].concat()).output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let begin = format!("cluster default runs: its engines answer ({engines}); pid ");
        assert!(ran.out.starts_with(&begin), "{ran:?}");
        assert!(ran.err.contains("only engines of this machine reach 127.0.0.1:"), "{ran:?}");
        let rc = self.client();
        let mut pids = rc.all().apply(getpid()).get_timeout(PATIENCE).unwrap();
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), n, "each is a process of its own");
        assert!(self.home.run("cluster list").out.contains(&format!("| {engines} ")));
        let running = rc.load_balanced().apply(sleep(60.0));
        eventually("it runs", || {
            rc.queue_status().get_timeout(PATIENCE).unwrap().engines.iter().any(|e| e.outstanding > 0)
        });
        let stopped = Ran::of(self.command(&["cluster", "stop"]).output().unwrap());
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert!(stopped.out.contains(" has ended (pid "), "it was not killed: {stopped:?}");
        assert!(running.get_timeout(PATIENCE).is_err());
        self.is_left_empty();
    }

    /// Starts what comes to nothing, here and in the background; what is said of it last has all of these.
    pub(super) fn fails(&self, program: &str, args: &[&str], expected: &[&str]) {
        for how in [&[][..], &["--daemonize"]] {
            let ran = Ran::of(self.start(program, &[args, how].concat()).output().unwrap());
            assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
            let told = ran.err.lines().rfind(|line| line.starts_with("callboard: ")).unwrap();
            assert!(expected.iter().all(|expected| told.contains(expected)), "{ran:?}");
            self.is_left_empty();
        }
    }

    /// Has a program of ours that is no engine.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.programs.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts what waits for engines until it is told to end; returns when it has said what it waits for, and has ended.
    pub(super) fn waits(&self, program: &str, args: &[&str], says: &str) {
        let mut start = self.start(program, args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = until_said(&mut start, says);
        kill_process(Pid::from_child(&start), Signal::INT).unwrap();
        let ended = Ran::of(start.wait_with_output().unwrap());
        assert_eq!((ended.code, &*ended.out), (Some(130), ""), "{said} {ended:?}");
        self.is_left_empty();
    }
}

/// Reads what a command complains of until it says this; returns all.
fn until_said(command: &mut Child, says: &str) -> String {
    let mut lines = BufReader::new(command.stderr.as_mut().unwrap()).lines();
    let mut all = String::new();
    while !all.contains(says) {
        let line = lines.next().unwrap_or_else(|| panic!("{says:?} is not said: {all}")).unwrap();
        all += &(line + "\n");
    }
    all
}
