//! What a program says of where its cluster listens, and what it gets.

use std::fmt;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;

use super::authority::Authority;
use super::directory::{CLIENT_FILE, DAY, ENGINE_FILE, authority_in, lock, make, write_files, write_plain_file};
use super::gate::Gate;
use super::tls;
use crate::error::Error;

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

const YEAR: Duration = DAY.saturating_mul(365);

impl Listen {
    /// Listens at an address, host and port; at port 0 at one that is free.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into(), directory: ".".into(), reached_at: None, valid: YEAR, is_plain: false }
    }

    /// Sets where the connection files are written, by default the present directory. Whoever can read them can join.
    ///
    /// A cluster that listens again with the same directory is the same to whoever has a file of it. Of several addresses at
    /// which a program listens with one directory, the files name that at which it began last. Processes that run at the same
    /// time are to have one each: the second one is refused.
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
    ///
    /// A cluster that listens again goes on with the authority that is in its directory, and no file outlives that: what is less
    /// than nine tenths of this is warned of, and [`Listening::renew`] makes a new one. Where the authority counts for less than
    /// a day, and less than a tenth of this, a new one takes its place, and files of the old one let nobody in any more.
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
            Some(reached_at) if is_host_and_port(&reached_at) => reached_at,
            Some(other) => return Err(refused(format!("{other:?} is no address to be reached at: host:port is"))),
            None if bound.ip().is_unspecified() => {
                return Err(refused(
                    "others need an address to reach it at; name one (Listen::reached_at, or --reached-at)".into(),
                ));
            }
            None => bound.to_string(),
        };
        if is_plain && !bound.ip().is_loopback() {
            return Err(refused(
                "plain TCP is spoken on loopback only; speak TLS, without Listen::plain_tcp or --plain-tcp".into(),
            ));
        }
        let real = make(&directory)?;
        // Whoever reads the files of a directory and writes them does so alone.
        let mut all = LISTENING.lock();
        let lock = match all.iter().filter_map(Weak::upgrade).find(|other| other.real == real) {
            Some(other) => other.lock.clone(),
            None => Arc::new(lock(&directory, &real)?),
        };
        let (cluster, config) = if is_plain {
            (write_plain_file(&directory, &reached_at, valid)?, None)
        } else {
            let authority = authority_in(&directory, valid)?;
            let config = tls::server(&authority)?;
            write_files(&authority, &directory, &reached_at, valid)?;
            (authority.cluster, Some(config))
        };
        let config = RwLock::new(config);
        let gate = Gate::default();
        let shared =
            Arc::new(Shared { address: bound, reached_at, directory, real, valid, cluster, config, gate, lock });
        all.retain(|other| other.strong_count() > 0);
        // The authority may be a new one.
        shared.share_config(&all);
        all.push(Arc::downgrade(&shared));
        Ok((listener, shared))
    }
}

fn is_host_and_port(address: &str) -> bool {
    let parts = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    parts.is_some_and(|(host, port)| !host.is_empty() && !host.contains(char::is_whitespace) && port.is_ok())
}

/// A cluster that listens; it does until it ends.
#[derive(Clone)]
pub struct Listening(pub(super) Arc<Shared>);

/// What a listening cluster has in common with its [`Listening`].
pub(super) struct Shared {
    address: SocketAddr,
    reached_at: String,
    directory: PathBuf,
    /// The same, by whatever name.
    real: PathBuf,
    valid: Duration,
    pub(super) cluster: u64,
    /// With which strangers are greeted; `None` for plain TCP.
    pub(super) config: RwLock<Option<Arc<ServerConfig>>>,
    pub(super) gate: Gate,
    /// Keeps other processes out of the directory.
    lock: Arc<File>,
}

/// All of this process that listen. Locked while files are written, so that those in a directory are of one authority, and
/// whoever listens with them has the same.
static LISTENING: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

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

    /// Makes a new authority and new files. The old ones let nobody in any more; who is in stays for as long as its connection
    /// does, and needs the new file after that.
    ///
    /// Where a program listens at several addresses with one directory, that counts at each; the files name the address of this.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`] if they cannot be written. Then all is as it was, but for files that were.
    pub fn renew(&self) -> Result<(), Error> {
        let Shared { cluster, valid, reached_at, directory, config, .. } = &*self.0;
        if config.read().is_none() {
            // Nothing in the files is secret.
            return Ok(());
        }
        let all = LISTENING.lock();
        let authority = Authority::new(*cluster, *valid)?;
        let new = tls::server(&authority)?;
        write_files(&authority, directory, reached_at, *valid)?;
        *config.write() = Some(new);
        self.0.share_config(&all);
        Ok(())
    }

    /// Returns how many strangers were not let in.
    pub fn refused(&self) -> u64 {
        self.0.gate.refused()
    }
}

impl Shared {
    /// Has those that listen with the same files let in whom this does.
    fn share_config(&self, all: &[Weak<Self>]) {
        let Some(ours) = self.config.read().clone() else { return };
        let has_our_files = |other: &Arc<Self>| other.cluster == self.cluster && other.real == self.real;
        for other in all.iter().filter_map(Weak::upgrade).filter(has_our_files) {
            if let Some(config) = &mut *other.config.write() {
                *config = ours.clone();
            }
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Listening at {}>", self.0.address)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::net::connection_file::ConnectionFile;
    use crate::net::directory::CONTROLLER_FILE;
    use crate::wire::handshake::Role;

    fn listening(directory: &Path) -> Listening {
        Listening(Listen::at("127.0.0.1:0").directory(directory).open().unwrap().1)
    }

    /// Returns the certificate of the authority by which the files in a directory are, all of them.
    fn authority_of(directory: &Path) -> String {
        let files = [(CONTROLLER_FILE, Role::Controller), (ENGINE_FILE, Role::Engine), (CLIENT_FILE, Role::Client)];
        let [authority, others @ ..] =
            files.map(|(file, role)| ConnectionFile::read(&directory.join(file), role).unwrap().tls.unwrap().authority);
        assert!(others.iter().all(|other| *other == authority), "they are of several authorities");
        authority
    }

    #[test]
    fn new_files_count_for_as_long_as_was_asked_and_no_longer_than_their_authority() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let directory = tempfile::tempdir().unwrap();
        let path = |file| directory.path().join(file);
        let listen = |valid| Listen::at("127.0.0.1:0").directory(directory.path()).valid_for(valid).open().unwrap().1;
        let first = listen(YEAR).cluster;
        // For how long the authority still counts, for how long files are to, whether there is another authority, and for how
        // long files do.
        for (left, asked, is_new, expected) in [
            (100 * DAY, 90 * DAY, false, 90 * DAY),
            (100 * DAY, YEAR, false, 100 * DAY),
            (2 * DAY, YEAR, false, 2 * DAY),
            (DAY, YEAR, true, YEAR),
            (Duration::ZERO, YEAR, true, YEAR),
            (HOUR / 2, HOUR, false, HOUR / 2),
            (HOUR / 10, HOUR, true, HOUR),
            (YEAR, HOUR, false, HOUR),
        ] {
            let text = fs::read_to_string(path(CONTROLLER_FILE)).unwrap();
            let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
            let expires = (SystemTime::now() + left).duration_since(SystemTime::UNIX_EPOCH).unwrap();
            file["expires_unix_s"] = expires.as_secs().into();
            fs::write(path(CONTROLLER_FILE), file.to_string()).unwrap();
            assert_eq!(listen(asked).cluster, first);
            let authority = authority_of(directory.path());
            assert_eq!(file["tls"]["authority"] != *authority, is_new, "{left:?} of {asked:?}");
            for (file, role) in [(ENGINE_FILE, Role::Engine), (CLIENT_FILE, Role::Client)] {
                let counts = ConnectionFile::read(&path(file), role).unwrap().left();
                let off = counts.abs_diff(expected);
                assert!(off < Duration::from_secs(60), "{left:?} of {asked:?}: {role:?} {counts:?}");
            }
        }
    }

    #[test]
    fn files_that_are_renewed_at_the_same_time_are_of_one_authority() {
        let directory = tempfile::tempdir().unwrap();
        let listening = listening(directory.path());
        let mut authorities = vec![authority_of(directory.path())];
        for _ in 0..20 {
            std::thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(|| listening.renew().unwrap())));
            });
            authorities.push(authority_of(directory.path()));
        }
        authorities.dedup();
        assert_eq!(authorities.len(), 21, "each time it was another");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing else is left there");
    }

    #[test]
    fn who_begins_to_listen_at_the_same_time_with_one_directory_is_one_cluster() {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let all = std::thread::scope(|scope| {
                let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| listening(directory.path()))).collect();
                starting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            });
            assert!(all.iter().all(|one| one.0.cluster == all[0].0.cluster));
            authority_of(directory.path());
        }
    }

    #[test]
    fn new_files_count_wherever_a_program_listens_with_their_directory() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = elsewhere.path().join("another name");
        std::os::unix::fs::symlink(directory.path(), &name).unwrap();
        let config = |listening: &Listening| listening.0.config.read().clone().unwrap();
        let (one, other) = (listening(directory.path()), listening(&name));
        let apart = listening(elsewhere.path());
        let before = [&one, &other, &apart].map(config);
        one.renew().unwrap();
        let after = [&one, &other, &apart].map(config);
        assert!(Arc::ptr_eq(&after[0], &after[1]) && !Arc::ptr_eq(&after[0], &before[0]));
        assert!(Arc::ptr_eq(&after[2], &before[2]));
        // One that begins to listen may have made a new authority.
        let last = listening(directory.path());
        assert!([&one, &other].iter().all(|one| Arc::ptr_eq(&config(one), &config(&last))));
        assert!(Arc::ptr_eq(&config(&apart), &before[2]));
    }
}
