//! What several test files need: waiting for an event, and counting what is left behind.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

mod cluster;
#[cfg(all(unix, feature = "remote"))]
mod dialling;
#[cfg(all(unix, feature = "remote"))]
mod elsewhere;
mod forwarder;
pub mod own_main;
pub mod tasks;

pub use cluster::{Cluster, DIALS, Engines, engine, engines, engines_of};
#[cfg(all(unix, feature = "remote"))]
pub use dialling::{Dialling, dialling};
pub use forwarder::Forwarder;

use std::borrow::Cow;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
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

/// Returns whether there is a process with this number.
pub fn is_there(pid: impl Display) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

/// A process that is killed with this.
pub struct Ends(pub Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
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

/// A place that this test program and its engines have in common, also where these are processes: each is a child of it.
fn common(name: &str) -> PathBuf {
    #[cfg(unix)]
    let of = if cluster::is_child() { std::os::unix::process::parent_id() } else { std::process::id() };
    #[cfg(not(unix))]
    let of = std::process::id();
    // When that process began: its number may have been another's.
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).unwrap_or_default();
    let began = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or("0");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    static SWEPT: std::sync::Once = std::sync::Once::new();
    SWEPT.call_once(|| sweep(place));
    let directory = place.join(format!("common-{of}-{began}"));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Removes what test programs have left that ended.
fn sweep(place: &Path) {
    for left in std::fs::read_dir(place).unwrap().flatten() {
        let name = left.file_name().to_string_lossy().into_owned();
        let of = name.strip_prefix("common-").and_then(|rest| rest.split('-').next());
        if of.is_some_and(|of| !Path::new("/proc").join(of).exists()) {
            // Another may be at it too.
            let _ = std::fs::remove_dir_all(left.path());
        }
    }
}

/// Waits at a gate.
#[callboard::task]
pub fn pass_gate(name: String) {
    CommonGate::named(name).pass();
}

/// A gate as [`Gate`], which tasks in other processes wait at too.
pub struct CommonGate(Cow<'static, str>);

impl CommonGate {
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Makes a gate whose name a task is told.
    pub fn named(name: String) -> Self {
        Self(Cow::Owned(name))
    }

    pub fn open(&self) {
        std::fs::write(common(&self.0), "").unwrap();
    }

    /// A task that waits here.
    pub fn task(&self) -> pass_gate {
        pass_gate(self.0.to_string())
    }

    /// A task that opens the gate when it begins, and goes on for a while.
    pub fn nap(&self, ms: u64) -> tasks::nap {
        tasks::nap(common(&self.0), ms)
    }

    /// Waits until the gate opens, for at most 20 s.
    pub fn pass(&self) {
        self.pass_unless(|| false);
    }

    /// Waits until the gate opens, for at most so long.
    pub fn pass_within(&self, wait: Duration) {
        self.pass_within_unless(wait, || false);
    }

    /// Waits until the gate opens, for at most 20 s, or until `is_over`.
    pub fn pass_unless(&self, is_over: impl Fn() -> bool) {
        self.pass_within_unless(Duration::from_secs(20), is_over);
    }

    fn pass_within_unless(&self, wait: Duration, is_over: impl Fn() -> bool) {
        let (path, deadline) = (common(&self.0), Instant::now() + wait);
        while !path.exists() && !is_over() {
            assert!(Instant::now() < deadline, "the gate was not opened within {wait:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A number that tasks in other processes count too: the length of a file.
#[derive(Debug)]
pub struct CommonCount(Cow<'static, str>);

impl CommonCount {
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    pub fn named(name: String) -> Self {
        Self(Cow::Owned(name))
    }

    /// Adds one; returns what it was before.
    pub fn add(&self) -> u32 {
        use std::io::{Seek, Write};
        let mut file = std::fs::File::options().create(true).append(true).open(common(&self.0)).unwrap();
        file.write_all(b"+").unwrap();
        file.stream_position().unwrap() as u32 - 1
    }

    pub fn get(&self) -> u32 {
        std::fs::metadata(common(&self.0)).map_or(0, |file| file.len() as u32)
    }

    /// Sets it to zero; returns what it was.
    pub fn reset(&self) -> u32 {
        let count = self.get();
        let _ = std::fs::remove_file(common(&self.0));
        count
    }
}
