//! The directory of a cluster that listens: the connection files in it, their authority, and who may write them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::authority::Authority;
use super::connection_file::ConnectionFile;
use crate::error::Error;
use crate::task::drawn;
use crate::wire::handshake::Role;

pub(super) const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) const CONTROLLER_FILE: &str = "callboard-controller.json";
pub(super) const ENGINE_FILE: &str = "callboard-engine.json";
pub(crate) const CLIENT_FILE: &str = "callboard-client.json";

/// Writes the files of all roles.
pub(super) fn write_files(
    authority: &Authority,
    directory: &Path,
    address: &str,
    valid: Duration,
) -> Result<(), Error> {
    for (role, file) in [(Role::Engine, ENGINE_FILE), (Role::Client, CLIENT_FILE)] {
        authority.file_for(role, address, valid)?.write(&directory.join(file))?;
    }
    // The last: with it, the others count.
    authority.to_file(address).write(&directory.join(CONTROLLER_FILE))
}

/// Writes the files of those that speak plain TCP; returns the cluster that they are of.
pub(super) fn write_plain_file(directory: &Path, address: &str, valid: Duration) -> Result<u64, Error> {
    let (path, expires) = (directory.join(CONTROLLER_FILE), SystemTime::now() + valid);
    let cluster = if path.exists() {
        ConnectionFile::read(&path, Role::Controller)?.cluster()
    } else {
        let cluster = drawn();
        ConnectionFile::new(Role::Controller, cluster, address, expires, None).write(&path)?;
        cluster
    };
    for (role, file) in [(Role::Engine, ENGINE_FILE), (Role::Client, CLIENT_FILE)] {
        ConnectionFile::new(role, cluster, address, expires, None).write(&directory.join(file))?;
    }
    Ok(cluster)
}

/// Takes the lock of a directory: no other process listens with the files that are in it.
pub(super) fn lock(directory: &Path, real: &Path) -> Result<File, Error> {
    let wrong = |problem: String| Error::ConnectionFile { path: directory.into(), problem: problem.into() };
    let file = File::open(real).map_err(|error| wrong(format!("the directory cannot be read: {error}")))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(wrong("another process listens with the files in this directory; give each one of its own".into()))
        }
        // Where there are no locks, nobody is kept out.
        _ => Ok(file),
    }
}

/// Makes a directory, if it is not there; returns the one name that it has.
pub(super) fn make(directory: &Path) -> Result<PathBuf, Error> {
    let made = fs::create_dir_all(directory).and_then(|()| fs::canonicalize(directory));
    made.map_err(|error| Error::ConnectionFile {
        path: directory.into(),
        problem: format!("the directory cannot be made: {error}").into(),
    })
}

/// Takes up the authority whose files are in a directory, or makes one: also where that has expired, or will soon.
pub(super) fn authority_in(directory: &Path, valid: Duration) -> Result<Authority, Error> {
    let path = directory.join(CONTROLLER_FILE);
    if !path.exists() {
        return Authority::new(drawn(), valid);
    }
    let file = ConnectionFile::read(&path, Role::Controller)?;
    let left = file.left();
    let [left_h, asked_h] = [left, valid].map(|time| time.as_secs() / 3_600);
    if left <= DAY.min(valid / 10) {
        tracing::warn!(
            left_h,
            "there is a new authority: the old one has expired, or will soon, and its files let nobody in"
        );
        return Authority::new(file.cluster(), valid);
    }
    if left < valid - valid / 10 {
        let to_do = "Listening::renew makes new ones, and so does listening again without callboard-controller.json";
        tracing::warn!(left_h, asked_h, to_do, "new files expire with their authority, sooner than was asked");
    }
    Authority::of(&file)
}
