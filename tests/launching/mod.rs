//! What the tests of launchers have in common.

mod command;
pub(crate) mod daemons;
mod local;
mod mpi;
mod slurm;
mod ssh;

use std::path::PathBuf;
use std::time::Duration;

use callboard::launchers::Launched;
use callboard::prelude::*;
use callboard::{Error, Listen, Listening};

use crate::support::eventually;
use crate::support::tasks::{nap, pid, square, squares};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Prints on both streams.
#[task]
fn say(what: String) {
    println!("out: {what}");
    eprintln!("err: {what}");
}

/// A cluster that listens in a directory of its own, and a word that the command lines of its engines have.
struct Site {
    cluster: Cluster,
    listening: Listening,
    directory: tempfile::TempDir,
    gates: tempfile::TempDir,
    word: String,
}

fn site() -> Site {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::without_engines().start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    let gates = tempfile::tempdir().unwrap();
    Site { cluster, listening, directory, gates, word: format!("engines-of-{}-{number}", std::process::id()) }
}

impl Site {
    /// Returns the processes that have something to do with its engines.
    fn processes(&self) -> Vec<(u32, String)> {
        processes_of(&self.word)
    }

    /// Makes a task that naps.
    fn nap(&self, name: &str, ms: u64) -> nap {
        nap(self.gates.path().join(name), ms)
    }

    /// Waits until a nap has begun.
    #[track_caller]
    fn has_begun(&self, name: &str) {
        let begun = self.gates.path().join(name);
        eventually("it naps", || begun.exists());
    }

    /// Returns what is in its directory beside the cluster's own files.
    fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.directory.path()).unwrap().flatten().map(|entry| entry.path());
        let own = ["callboard-controller.json", "callboard-engine.json", "callboard-client.json"];
        files.filter(|file| !own.iter().any(|own| file.ends_with(own))).collect()
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.processes(), []);
        assert_eq!(self.files(), Vec::<PathBuf>::new());
        assert_eq!(self.cluster.client().ids(), []);
    }

    /// Has its engines do something, and looks at what comes of it.
    fn works_with(&self, n: usize) {
        let rc = self.cluster.client();
        squares(&rc, 1_000);
        let mut pids = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), n, "each is a process of its own");
        assert!(!pids.contains(&std::process::id()));
    }

    /// Has each of its engines print, and looks at what can be fetched of it.
    fn prints(&self, engines: &Launched) {
        self.cluster.client().all().apply(say("hello there".into())).get_timeout(PATIENCE).unwrap();
        for stream in ["out", "err"] {
            eventually("what was printed has come", || {
                let output = engines.output();
                let has = |text: &str| text.contains(&format!("{stream}: hello there\n"));
                output.iter().all(|output| if stream == "out" { has(&output.stdout) } else { has(&output.stderr) })
            });
        }
    }
}

/// Returns the processes whose command lines have a word.
fn processes_of(word: &str) -> Vec<(u32, String)> {
    let process = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(word) && id != std::process::id()).then_some((id, line))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(process).collect()
}

/// Waits until a launch has failed; returns what is told of it.
#[track_caller]
fn failed(engines: &Launched) -> String {
    match engines.joined().get_timeout(PATIENCE) {
        Err(Error::EngineFailed { cause }) => cause.into(),
        other => panic!("{other:?}: {:?} {:?}", engines.states(), engines.output()),
    }
}

pub(crate) fn tests() -> Vec<(&'static str, fn())> {
    [local::TESTS, ssh::TESTS, mpi::TESTS, slurm::TESTS].concat()
}

/// Has this program be something else, if its arguments say so.
pub(crate) fn be_another(arguments: &[String]) -> bool {
    match arguments {
        // It was told to dial, and has not called `init`.
        [dial, rest @ ..] if dial == "--callboard-dial" => return be_another(rest),
        [what, rest @ ..] if what == local::CONTROLS => local::control(rest),
        [what, rest @ ..] if what == slurm::INSIDE => slurm::be_inside(rest),
        _ => return false,
    }
    true
}
