//! Engines that dial, each a process of its own: this program again.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::DIALS;

/// An engine in a process of its own. It is killed with this.
pub struct Dialling(pub Child);

/// Returns the command that is an engine with this connection file.
pub fn dialling(file: &Path) -> Command {
    let mut engine = Command::new(std::env::current_exe().unwrap());
    engine.env(DIALS, file).stderr(Stdio::piped());
    engine
}

impl Dialling {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end; returns its status, and what it said.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap(), said)
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
