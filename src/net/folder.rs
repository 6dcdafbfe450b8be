//! The folder of one cluster: what is in it, and the lock by which a living cluster is told from a dead one.
//!
//! A controller holds the lock for its whole life. The kernel frees it with the process, so nobody has to trust a number that
//! may be another's by now.
// Clients look; only the command makes any.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::directory::{CLIENT_FILE, CONTROLLER_FILE, ENGINE_FILE};
use super::home::Home;

/// What is in a cluster's folder beside the connection files.
pub(super) const LOCK_FILE: &str = "lock";
pub(crate) const LOG_FILE: &str = "log";
pub(crate) const OLD_LOG_FILE: &str = "log.1";
pub(crate) const FACTS_FILE: &str = "cluster.json";

/// What launches have there begins with this: a connection file, and what jobs print.
pub(crate) const LAUNCH_FILES: &str = "callboard-launch-";

/// Beside those of launches, nothing else is ever removed.
const FILES: [&str; 7] = [FACTS_FILE, LOG_FILE, OLD_LOG_FILE, CONTROLLER_FILE, ENGINE_FILE, CLIENT_FILE, LOCK_FILE];

/// What is known of a cluster by its folder.
#[derive(Debug)]
pub(crate) enum Life {
    /// There is none.
    None,
    /// Its controller has ended without clearing it away.
    Dead,
    /// Its controller lives.
    Alive(Holder),
}

/// The folder of a cluster that is this process. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    home: Home,
    path: PathBuf,
    /// Held until the folder is gone, and then until this process is.
    lock: Option<File>,
}

impl Folder {
    /// Makes the folder and takes its lock, where there is none. Others are kept out meanwhile.
    pub(super) fn make(home: Home, path: PathBuf) -> io::Result<Self> {
        private_folder().create(&path)?;
        let mut lock = private_file().write(true).create_new(true).open(path.join(LOCK_FILE))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // Whoever finds the lock held finds by whom.
        write!(lock, "{}", std::process::id())?;
        Ok(Self { home, path, lock: Some(lock) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a copy of one of the cluster's files, which was made elsewhere.
    pub(crate) fn keep(&self, file: &Path) -> io::Result<()> {
        let copy = self.path.join(file.file_name().unwrap_or_default());
        private_file().write(true).create_new(true).open(copy)?.write_all(&fs::read(file)?)
    }

    /// Removes the folder. The lock stays until the process has ended: who waits for that waits for the lock.
    pub(crate) fn clear(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let removed = self.home.alone().and_then(|_alone| remove(&self.path));
        if let Err(error) = removed {
            tracing::warn!(%error, "a cluster's folder cannot be removed");
        }
        std::mem::forget(lock);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The process that holds a cluster's lock.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    lock: File,
    #[cfg(target_os = "linux")]
    process: rustix::fd::OwnedFd,
}

impl Holder {
    /// Sends it a signal: to that process and no other, where the system can tell.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let sent = rustix::process::pidfd_send_signal(&self.process, signal);
        #[cfg(not(target_os = "linux"))]
        let sent = Pid::from_raw(self.pid).map_or(Ok(()), |pid| rustix::process::kill_process(pid, signal));
        match sent {
            // It has ended meanwhile.
            Err(Errno::SRCH) => Ok(()),
            sent => sent.map_err(Into::into),
        }
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            pid: self.pid,
            lock: self.lock.try_clone()?,
            #[cfg(target_os = "linux")]
            process: self.process.try_clone()?,
        })
    }

    /// Blocks until it has ended.
    pub(crate) fn wait(self) -> io::Result<()> {
        patient_flock(&self.lock, FlockOperation::LockShared).map_err(Into::into)
    }
}

/// Looks whether a cluster lives, by its lock. Others are kept out meanwhile.
pub(super) fn look(folder: &Path) -> io::Result<Life> {
    let mut lock = match File::open(folder.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Err(_) if !folder.exists() => return Ok(Life::None),
        // It was killed before it had made its lock.
        Err(_) if fs::read_dir(folder)?.next().is_none() => return Ok(Life::Dead),
        Err(_) => return Err(io::Error::other(format!("{} is no folder of a cluster", folder.display()))),
    };
    let mut number = String::new();
    (&mut lock).take(32).read_to_string(&mut number)?;
    let Some(pid) = number.trim().parse().ok().and_then(Pid::from_raw) else {
        // Nobody holds what was not written to its end.
        return Ok(Life::Dead);
    };
    // Before the lock is tried: who holds it then has held it all the time, and is this process.
    #[cfg(target_os = "linux")]
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        let elsewhere = format!("{}: its lock is held by process {pid:?} of another machine", folder.display());
        return if is_held(&lock)? { Err(io::Error::other(elsewhere)) } else { Ok(Life::Dead) };
    };
    if !is_held(&lock)? {
        return Ok(Life::Dead);
    }
    Ok(Life::Alive(Holder {
        pid: pid.as_raw_nonzero().get(),
        lock,
        #[cfg(target_os = "linux")]
        process,
    }))
}

fn is_held(lock: &File) -> io::Result<bool> {
    match flock(lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => flock(lock, FlockOperation::Unlock).map(|()| false).map_err(Into::into),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Removes the folder of a cluster, and what clusters leave there; of anything else it keeps its hands off.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let file = entry?;
        if is_ours(&file.file_name()) {
            fs::remove_file(file.path())?;
        }
    }
    fs::remove_dir(folder).map_err(|error| io::Error::other(format!("{} cannot be removed: {error}", folder.display())))
}

/// Opens a log, which nobody else may read.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    private_file().append(true).create(true).open(path)
}

/// Returns whether a file is a cluster's, or was to become one.
fn is_ours(file: &OsStr) -> bool {
    let file = file.to_string_lossy();
    file.starts_with(LAUNCH_FILES)
        || FILES
            .iter()
            .any(|ours| file.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.ends_with(".new")))
}

pub(super) fn patient_flock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

pub(super) fn private_folder() -> DirBuilder {
    let mut folder = DirBuilder::new();
    folder.mode(0o700);
    folder
}

pub(super) fn private_file() -> OpenOptions {
    let mut file = OpenOptions::new();
    file.mode(0o600);
    file
}
