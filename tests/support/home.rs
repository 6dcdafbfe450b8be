//! A folder for clusters with names that is one test's own, and the command that uses it. Whatever runs there ends with it, and
//! by itself where a test is killed.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a cluster of a test lives at most, in seconds.
pub const LIFETIME_S: &str = "90";

/// What a command did: its exit code, what it printed, what it complained of.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub struct Home {
    folder: tempfile::TempDir,
    /// The command: `callboard`, or a program of one's own.
    program: PathBuf,
}

impl Home {
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), program: program.into() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a file of a cluster.
    pub fn file(&self, cluster: &str, file: &str) -> PathBuf {
        self.path().join(cluster).join(file)
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("CALLBOARD_HOME", self.path()).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end; the words of `args` are its arguments.
    pub fn run(&self, args: &str) -> Ran {
        let args: Vec<&str> = args.split_whitespace().collect();
        Ran::of(self.command(&args).output().unwrap())
    }

    /// Starts a cluster in the background; returns what was said of it.
    #[track_caller]
    pub fn start(&self, args: &str) -> String {
        let ran = self.run(&format!("cluster start --daemonize --lifetime {LIFETIME_S} {args}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    }

    #[track_caller]
    pub fn stop(&self, name: &str) {
        let ran = self.run(&format!("cluster stop {name}"));
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    }

    /// Returns what a cluster tells of itself.
    pub fn facts(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.file(name, "cluster.json")).unwrap()).unwrap()
    }

    /// Returns the processes that know this folder, the dead ones aside that nobody has waited for.
    pub fn processes(&self) -> Vec<u32> {
        let mark = format!("CALLBOARD_HOME={}", self.path().display());
        let knows = |pid: &u32| {
            // A process may end while the list is read.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(knows).collect()
    }

    /// Waits until no process is left that knows this folder, and fails if it holds anything.
    #[track_caller]
    pub fn is_left_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(2));
        }
        let files: Vec<_> = std::fs::read_dir(self.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.is_empty(), "left: {files:?}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.processes() {
            let Some(pid) = rustix::process::Pid::from_raw(pid as i32) else { continue };
            // It may have ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
