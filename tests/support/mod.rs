//! What several test files need: waiting for an event, and counting what is left behind.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Waits until `is_so`, and fails after ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the names of this process's threads that callboard started.
pub fn our_threads() -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // A thread may end while the list is read.
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("cb-") {
            names.push(name.trim().to_string());
        }
    }
    names
}

/// Returns how many threads this process has.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Returns how many descriptors are open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Returns the resident memory in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A gate that tasks wait at: closed until opened, then open for good.
#[derive(Default)]
pub struct Gate {
    open: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Gate {
    pub const fn new() -> Self {
        Self { open: std::sync::Mutex::new(false), changed: std::sync::Condvar::new() }
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits until the gate opens, for at most 20 s.
    pub fn pass(&self) {
        let open = self.open.lock().unwrap();
        let wait = Duration::from_secs(20);
        let (open, _) = self.changed.wait_timeout_while(open, wait, |open| !*open).unwrap();
        assert!(*open, "the gate was not opened within 20 s");
    }
}

/// Returns where the binary of an example is. `cargo test` has built it; `cargo test --test ..` has not, and then
/// it is built here.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    // This test is target/<profile>/deps/<test>.
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "macros/src", "Cargo.toml"].map(|source| root.join(source));
    let newest = sources.iter().map(|source| changed(source)).max().unwrap();
    let newest = newest.max(changed(&root.join("examples").join(name).with_extension("rs")));
    if !binary.exists() || changed(&binary) < newest {
        let profile = if profile.ends_with("release") { "release" } else { "dev" };
        let mut build = Command::new(env!("CARGO"));
        let built =
            build.args(["build", "--quiet", "--profile", profile, "--example", name]).current_dir(root).status();
        assert!(built.unwrap().success(), "example {name} is built");
    }
    binary
}

/// Returns when a file, or the newest of a directory, was changed.
fn changed(path: &Path) -> SystemTime {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().map(|entry| changed(&entry.unwrap().path())).max().unwrap();
    }
    path.metadata()
        .and_then(|metadata| metadata.modified())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Describes `n` engines: threads, or processes if `CALLBOARD_TEST_ENGINES` is that. Then each child is this very test
/// program, run as its test `engine`, which calls [`engine`].
pub fn engines(n: usize) -> callboard::ClusterBuilder {
    #[cfg(all(unix, feature = "remote"))]
    if are_processes() {
        return callboard::Cluster::processes(n).engine_args(["engine", "--exact", "--nocapture"]);
    }
    callboard::Cluster::threads(n)
}

pub fn are_processes() -> bool {
    std::env::var("CALLBOARD_TEST_ENGINES").is_ok_and(|engines| engines == "processes")
}

/// Turns this test program into an engine, if it was launched as one.
pub fn engine() {
    #[cfg(all(unix, feature = "remote"))]
    callboard::init();
}

/// Whether tests share memory with their tasks: what looks into these by a static or a closure can be seen only then.
pub fn share_memory_with_tasks() -> bool {
    !are_processes()
}
