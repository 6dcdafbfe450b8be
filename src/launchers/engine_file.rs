//! The connection file of the engines of one launch: as text, or as a file for as long as they are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::host::Hosts;
use crate::net::{ConnectionFile, LAUNCH_FILES};
use crate::wire::handshake::Role;

/// The connection file that engines of one launch dial with, for a [`Launcher`](super::Launcher). Whoever can read it can join.
///
/// An engine that gets it on its standard input is told to leave by the end of that, if whoever launched it keeps it open; so it
/// outlives nobody who launched it.
pub struct EngineFile {
    leashed: String,
    text: String,
    file: ConnectionFile,
    path: PathBuf,
    is_written: Mutex<bool>,
    number: u64,
    hosts: Arc<Hosts>,
}

impl EngineFile {
    /// Makes the file of a launch, of that with which any engine joins. It is written beside that, if it is.
    pub(super) fn of(cluster: Option<PathBuf>, number: u64, hosts: Arc<Hosts>) -> Result<Self, Error> {
        let problem = "it does not listen; call cluster.listen(..) before, at an address that engines reach";
        let cluster = cluster.ok_or_else(|| Error::Launch { by: "the cluster".into(), problem: problem.into() })?;
        let file = ConnectionFile::read(&cluster, Role::Engine)?;
        let directory = cluster.parent().unwrap_or(Path::new("."));
        // Those who launch may be in another directory.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let path = directory.join(format!("{LAUNCH_FILES}{number:016x}.json"));
        let text = |file: &ConnectionFile| {
            let problem = |error: serde_json::Error| Error::ConnectionFile {
                path: path.clone(),
                problem: format!("it cannot be written: {error}").into(),
            };
            file.text().map_err(problem)
        };
        let (leashed, free) = (file.for_launch(number, true), file.for_launch(number, false));
        let (leashed, text) = (text(&leashed)?, text(&free)?);
        Ok(Self { leashed, text, file: free, path, is_written: Mutex::new(false), number, hosts })
    }

    /// Returns what an engine is to get on its standard input, which is then kept open: its end tells the engine to leave.
    pub fn leashed(&self) -> &str {
        &self.leashed
    }

    /// Returns what an engine is to get on its standard input that ends at once.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the path of a file for engines that read it themselves, of mode 0600; it is there for as long as they are.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`] if it cannot be written.
    pub fn path(&self) -> Result<&Path, Error> {
        let mut is_written = self.is_written.lock();
        if !*is_written {
            self.file.write(&self.path)?;
            *is_written = true;
        }
        Ok(&self.path)
    }

    /// Returns where what belongs to the launch may be written: the directory of the cluster's own files.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Returns a name that no other launch has.
    pub fn stem(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("callboard-launch")
    }

    /// Returns the number of the launch, which its engines tell.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the hosts that have come to the cluster.
    pub(super) fn hosts(&self) -> &Arc<Hosts> {
        &self.hosts
    }

    /// Removes the file, if it was written.
    pub(super) fn remove(&self) {
        if std::mem::take(&mut *self.is_written.lock()) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for EngineFile {
    fn drop(&mut self) {
        self.remove();
    }
}

impl std::fmt::Debug for EngineFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        write!(f, "<EngineFile {}>", self.path.display())
    }
}
