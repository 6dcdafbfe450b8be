//! A cluster in the background, as a shell starts one: by the command, in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Fallible;
use super::callboard_itself::new_directory;

/// A cluster that was started. It ends with this, and leaves nothing.
pub(super) struct InBackground {
    home: PathBuf,
}

/// After so many seconds it ends by itself, also where this process was killed.
const LIFETIME_S: &str = "60";

impl InBackground {
    /// Starts it; its engines answer when this returns.
    pub(super) fn start(engines: usize) -> Fallible<Self> {
        let started = Self { home: new_directory() };
        let (count, lifetime) = (engines.to_string(), LIFETIME_S);
        started.run(&["start", "-n", &count, "--daemonize", "--lifetime", lifetime])?;
        Ok(started)
    }

    fn run(&self, args: &[&str]) -> Fallible<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("cluster").args(args).env("CALLBOARD_HOME", &self.home);
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status()?;
        if ended.success() { Ok(()) } else { Err(format!("cluster {} ended with {ended}", args[0]).into()) }
    }
}

impl Drop for InBackground {
    fn drop(&mut self) {
        // One that has not started has left nothing. What fails here, it has told itself.
        if std::fs::read_dir(&self.home).is_ok_and(|mut clusters| clusters.next().is_some()) {
            let _ = self.run(&["stop"]);
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
