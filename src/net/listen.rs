//! What a program says of where its cluster listens, what it gets, and the connection files that are written.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;

use super::authority::Authority;
use super::connection_file::ConnectionFile;
use super::gate::Gate;
use super::{drawn, tls};
use crate::error::Error;
use crate::wire::handshake::Role;

/// Where to listen, and for whom.
///
/// ```no_run
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::threads(2).start()?;
/// let listening = cluster.listen(Listen::at("10.0.0.7:4700").directory("/run/jobs"))?;
/// println!("copy {} to where engines are to run", listening.engine_file().display());
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a cluster listens by .listen(..)"]
pub struct Listen {
    address: String,
    directory: PathBuf,
    reached_at: Option<String>,
    valid: Duration,
    is_plain: bool,
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

impl Listen {
    /// Listens at an address, host and port; at port 0 at one that is free.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into(), directory: ".".into(), reached_at: None, valid: YEAR, is_plain: false }
    }

    /// Sets where the connection files are written, by default the present directory. Whoever can read them can join.
    ///
    /// A cluster that listens again with the same directory is the same to whoever has a file of it.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Sets the address, host and port, at which others reach it, where that is another than it listens at.
    pub fn reached_at(mut self, address: impl Into<String>) -> Self {
        self.reached_at = Some(address.into());
        self
    }

    /// Speaks plain TCP: nothing is encrypted, and every user of this machine may join. On loopback only.
    pub fn plain_tcp(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// Sets for how long new connection files count, by default a year, at most a hundred.
    pub fn valid_for(mut self, valid: Duration) -> Self {
        self.valid = valid.min(100 * YEAR);
        self
    }

    /// Takes the address and writes the files; nobody is let in yet.
    pub(super) fn open(self) -> Result<(TcpListener, Arc<Shared>), Error> {
        let Listen { address, directory, reached_at, valid, is_plain } = self;
        let refused = |reason: String| Error::Listen { address: address.as_str().into(), reason: reason.into() };
        let listener = TcpListener::bind(&*address).map_err(|error| refused(error.to_string()))?;
        listener.set_nonblocking(true).map_err(|error| refused(error.to_string()))?;
        let bound = listener.local_addr().map_err(|error| refused(error.to_string()))?;
        let reached_at = match reached_at {
            Some(reached_at) => reached_at,
            None if bound.ip().is_unspecified() => {
                return Err(refused("others need an address to reach it at; name one by Listen::reached_at".into()));
            }
            None => bound.to_string(),
        };
        if is_plain && !bound.ip().is_loopback() {
            return Err(refused("plain TCP is spoken on loopback only; leave plain_tcp() out".into()));
        }
        make(&directory)?;
        let (cluster, config) = if is_plain {
            (write_plain_file(&directory, &reached_at, valid)?, None)
        } else {
            let authority = authority_in(&directory, valid)?;
            let config = tls::server(&authority)?;
            write_files(&authority, &directory, &reached_at)?;
            (authority.cluster, Some(config))
        };
        let config = RwLock::new(config);
        let gate = Gate::default();
        let shared = Arc::new(Shared { address: bound, reached_at, directory, valid, cluster, config, gate });
        Ok((listener, shared))
    }
}

/// A cluster that listens; it does until it ends.
#[derive(Clone)]
pub struct Listening(pub(super) Arc<Shared>);

/// What a listening cluster has in common with its [`Listening`].
pub(super) struct Shared {
    address: SocketAddr,
    reached_at: String,
    directory: PathBuf,
    valid: Duration,
    pub(super) cluster: u64,
    /// With which strangers are greeted; `None` for plain TCP.
    pub(super) config: RwLock<Option<Arc<ServerConfig>>>,
    pub(super) gate: Gate,
}

impl Listening {
    /// Returns the address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Returns the file with which an engine joins.
    pub fn engine_file(&self) -> PathBuf {
        self.0.directory.join(ENGINE_FILE)
    }

    /// Returns the file with which a client connects.
    pub fn client_file(&self) -> PathBuf {
        self.0.directory.join(CLIENT_FILE)
    }

    /// Makes a new authority and new files. The old ones let nobody in any more; who is in stays.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`] if they cannot be written. Then all is as it was, but for files that were.
    pub fn renew(&self) -> Result<(), Error> {
        let Shared { cluster, valid, reached_at, directory, config, .. } = &*self.0;
        if config.read().is_none() {
            // Nothing in the files is secret.
            return Ok(());
        }
        let authority = Authority::new(*cluster, *valid)?;
        let new = tls::server(&authority)?;
        write_files(&authority, directory, reached_at)?;
        *config.write() = Some(new);
        Ok(())
    }

    /// Returns how many strangers were not let in.
    pub fn refused(&self) -> u64 {
        self.0.gate.refused()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Listening at {}>", self.0.address)
    }
}

pub(super) const CONTROLLER_FILE: &str = "callboard-controller.json";
pub(super) const ENGINE_FILE: &str = "callboard-engine.json";
pub(crate) const CLIENT_FILE: &str = "callboard-client.json";

/// Writes the files of all roles.
fn write_files(authority: &Authority, directory: &Path, address: &str) -> Result<(), Error> {
    authority.file_for(Role::Engine, address)?.write(&directory.join(ENGINE_FILE))?;
    authority.file_for(Role::Client, address)?.write(&directory.join(CLIENT_FILE))?;
    // The last: with it, the others count.
    authority.to_file(address).write(&directory.join(CONTROLLER_FILE))
}

/// Writes the files of those that speak plain TCP; returns the cluster that it is of.
fn write_plain_file(directory: &Path, address: &str, valid: Duration) -> Result<u64, Error> {
    let (cluster, expires) = (drawn(), SystemTime::now() + valid);
    for (role, file) in [(Role::Engine, ENGINE_FILE), (Role::Client, CLIENT_FILE)] {
        ConnectionFile::new(role, cluster, address, expires, None).write(&directory.join(file))?;
    }
    Ok(cluster)
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|error| Error::ConnectionFile {
        path: directory.into(),
        problem: format!("the directory cannot be made: {error}").into(),
    })
}

/// Takes up the authority whose files are in a directory, or makes one: also where that has expired.
fn authority_in(directory: &Path, valid: Duration) -> Result<Authority, Error> {
    let path = directory.join(CONTROLLER_FILE);
    if !path.exists() {
        return Authority::new(drawn(), valid);
    }
    let file = ConnectionFile::read(&path, Role::Controller)?;
    if file.has_expired() { Authority::new(file.cluster(), valid) } else { Authority::of(&file) }
}
