//! Clusters with names: where their folders are, and who may make and remove one.
//!
//! Folders come and go under a lock of the folder that holds them: what is seen under it does not change.
// Clients look; only the command makes any.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::folder::{Folder, Holder, LOCK_FILE, Life, look, patient_flock, private_file, private_folder, remove};
use crate::error::Error;

/// The name of a cluster, which is that of its folder too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterName(String);

/// How long a name may be.
const NAME_MAX: usize = 64;

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && name.len() <= NAME_MAX && name.chars().all(is_fine) {
            return Ok(Self(name.into()));
        }
        Err(format!(
            "a name is of at most {NAME_MAX} letters (a-z), digits, '-', '_' and '.', and begins with a letter or digit"
        ))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the folders of this user's clusters are.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

/// How long another process may take to make or remove a folder.
const ALONE_WAIT: Duration = Duration::from_secs(5);

/// Whether a folder could be taken.
pub(crate) enum Take {
    Taken {
        folder: Folder,
        over_dead: bool,
    },
    /// Its cluster lives.
    Refused(Holder),
}

impl Home {
    /// Returns `$CALLBOARD_HOME`, else `$XDG_STATE_HOME/callboard`, else `~/.local/state/callboard`.
    ///
    /// # Errors
    /// [`Error::System`] if none of the three is set.
    pub(crate) fn find() -> Result<Self, Error> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("CALLBOARD_HOME")
            .or_else(|| Some(set("XDG_STATE_HOME")?.join("callboard")))
            .or_else(|| Some(set("HOME")?.join(".local/state/callboard")));
        let home = home.ok_or_else(|| io::Error::other("set CALLBOARD_HOME, XDG_STATE_HOME or HOME"));
        home.and_then(std::path::absolute).map(Self).map_err(refused("finding the folder of clusters"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn folder(&self, name: &ClusterName) -> PathBuf {
        self.0.join(&name.0)
    }

    /// Returns the names of all clusters that have a folder, in order.
    pub(crate) fn names(&self) -> Result<Vec<ClusterName>, Error> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.refused(error)),
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let has_lock = |name: &ClusterName| self.folder(name).join(LOCK_FILE).exists();
        let mut names: Vec<ClusterName> = entries.flatten().filter_map(name).filter(has_lock).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Finds out whether a cluster lives.
    pub(crate) fn life(&self, name: &ClusterName) -> Result<Life, Error> {
        match self.alone() {
            Ok(_alone) => look(&self.folder(name)).map_err(|error| self.refused(error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Life::None),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Makes the folder of a cluster and takes its lock; what a dead one has left there is removed, and that is told.
    pub(crate) fn take(&self, name: &ClusterName) -> Result<Take, Error> {
        self.try_take(name).map_err(|error| self.refused(error))
    }

    fn try_take(&self, name: &ClusterName) -> io::Result<Take> {
        private_folder().recursive(true).create(&self.0)?;
        let (_alone, path) = (self.alone()?, self.folder(name));
        let mut over_dead = false;
        match look(&path)? {
            Life::Alive(holder) => return Ok(Take::Refused(holder)),
            Life::Dead => {
                remove(&path)?;
                over_dead = true;
            }
            Life::None => {}
        }
        Ok(Take::Taken { folder: Folder::make(self.clone(), path)?, over_dead })
    }

    /// Removes what a dead cluster has left; returns whether there was anything.
    pub(crate) fn clear(&self, name: &ClusterName) -> Result<bool, Error> {
        let clear = || -> io::Result<bool> {
            let (_alone, path) = (self.alone()?, self.folder(name));
            let is_dead = matches!(look(&path)?, Life::Dead);
            if is_dead {
                remove(&path)?;
            }
            Ok(is_dead)
        };
        match clear() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            done => done.map_err(|error| self.refused(error)),
        }
    }

    /// Keeps other processes from making and removing folders, as long as what is returned is there: for a moment.
    pub(super) fn alone(&self) -> io::Result<File> {
        let (home, began) = (File::open(&self.0)?, Instant::now());
        loop {
            match flock(&home, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(home),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if began.elapsed() < ALONE_WAIT => std::thread::sleep(Duration::from_millis(1)),
                Err(Errno::WOULDBLOCK) => {
                    let why = "another process has locked it: a controller that listens with it? set CALLBOARD_HOME to another";
                    return Err(io::Error::other(why));
                }
                // Some network file systems lock no folders.
                Err(Errno::BADF | Errno::NOLCK | Errno::INVAL | Errno::OPNOTSUPP) => {
                    let file = private_file().write(true).create(true).open(self.0.join(".lock"))?;
                    patient_flock(&file, FlockOperation::LockExclusive)?;
                    return Ok(file);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn refused(&self, error: io::Error) -> Error {
        refused("keeping the folders of clusters")(io::Error::other(format!("{}: {error}", self.0.display())))
    }
}

fn refused(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::System { doing, reason: error.to_string() }
}
