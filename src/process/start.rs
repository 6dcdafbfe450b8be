//! Starts a child: its socket, its pipes, its group, and what is held of it until it is reaped.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};

use super::child::VARIABLE;
use super::hand_down::{Follows, hand_down};
use super::launch::Launcher;
use super::tally::Tally;
use crate::remote::{Begun, Process};

/// A child that was started.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) stream: UnixStream,
    pub(super) leash: Arc<Leash>,
    /// What it prints and does not read itself.
    pub(super) printed: [PipeReader; 2],
}

/// Starts a child with a socket as its standard input, in a group of its own.
pub(super) fn start(launcher: &Launcher) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ((stdout, stdout_end), (stderr, stderr_end)) = (io::pipe()?, io::pipe()?);
    ioctl_fionbio(&stdout, true)?;
    ioctl_fionbio(&stderr, true)?;
    let tally = Tally::new()?;
    let follows = if launcher.first.is_some() { Follows::Initializer } else { Follows::Nothing };
    hand_down(&ours, [tally.as_fd(), stdout.as_fd(), stderr.as_fd()], follows)?;
    let mut command = Command::new(&launcher.program);
    command
        .args(&launcher.args)
        .env(VARIABLE, format!("{:x}", launcher.cluster))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout_end)
        .stderr(stderr_end)
        .process_group(0);
    let child = command.spawn()?;
    let leash = Arc::new(Leash { group: Mutex::new(Some(Pid::from_child(&child))), tally });
    Ok(Started { child, stream: ours, leash, printed: [stdout, stderr] })
}

/// What is held of a child: the group that it leads, until it is reaped, and what it has begun.
pub(super) struct Leash {
    group: Mutex<Option<Pid>>,
    tally: Tally,
}

impl Leash {
    /// Returns whether its initializer, if it has one, has returned.
    pub(super) fn is_prepared(&self) -> bool {
        self.tally.is_prepared()
    }

    /// Kills what is left of the group. Its number may be another's after this.
    pub(super) fn let_go(&self) {
        if let Some(group) = self.group.lock().take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Process for Leash {
    fn begun(&self) -> Begun {
        self.tally.last().map_or(Begun::Nothing, Begun::UpTo)
    }

    fn kill(&self) {
        if let Some(group) = *self.group.lock() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
