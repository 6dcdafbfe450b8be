//! The controller's side: listens, lets in who belongs here, and has a gateway stand for each engine.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use actix::{Addr, Arbiter, ArbiterHandle};
use parking_lot::{Condvar, Mutex, RwLock};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::Authority;
use super::connection_file::{ConnectionFile, a};
use super::gate::{Gate, Metered, STRANGER_WAIT};
use super::tls;
use crate::actors::{EngineParts, Scheduler};
use crate::error::Error;
use crate::ledger::EngineOffer;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::remote::{self, Begun, Fate, Gateway, GatewayParts, Lost, Process};
use crate::task::TaskTable;
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::session::{Ending, SessionLimits, Speaker};

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
}

/// A cluster that listens; it does until it ends.
#[derive(Clone)]
pub struct Listening(Arc<Shared>);

struct Shared {
    address: SocketAddr,
    reached_at: String,
    directory: PathBuf,
    valid: Duration,
    cluster: u64,
    /// With which strangers are greeted; `None` for plain TCP.
    config: RwLock<Option<Arc<ServerConfig>>>,
    gate: Gate,
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

const CONTROLLER_FILE: &str = "callboard-controller.json";
const ENGINE_FILE: &str = "callboard-engine.json";

/// Writes the files of all roles.
fn write_files(authority: &Authority, directory: &Path, address: &str) -> Result<(), Error> {
    authority.file_for(Role::Engine, address)?.write(&directory.join(ENGINE_FILE))?;
    // The last: with it, the others count.
    authority.to_file(address).write(&directory.join(CONTROLLER_FILE))
}

/// Writes the file of engines that speak plain TCP; returns the cluster that it is of.
fn write_plain_file(directory: &Path, address: &str, valid: Duration) -> Result<u64, Error> {
    let (cluster, expires) = (drawn(), SystemTime::now() + valid);
    ConnectionFile::new(Role::Engine, cluster, address, expires, None).write(&directory.join(ENGINE_FILE))?;
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

/// Draws the number of a new cluster.
fn drawn() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id())
}

/// What comes to a cluster over the network. Its arbiter is started when it first listens.
#[derive(Clone)]
pub(crate) struct Network(Arc<Inner>);

struct Inner {
    controller: ArbiterHandle,
    parts: EngineParts,
    scheduler: Addr<Scheduler>,
    limits: Limits,
    sessions: Sessions,
    arbiters: Mutex<Vec<Arbiter>>,
}

/// How many peers are spoken with.
#[derive(Default)]
struct Sessions {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of them.
struct Session<'a>(&'a Sessions);

impl Sessions {
    fn begin(&self) -> Session<'_> {
        *self.count.lock() += 1;
        Session(self)
    }

    /// Waits until none is left.
    fn wait(&self, wait: Duration) {
        self.fewer.wait_while_for(&mut self.count.lock(), |count| *count > 0, wait);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

/// How long engines have to hear that the cluster ends.
const GOODBYE: Duration = Duration::from_secs(1);

impl Network {
    pub(crate) fn new(
        controller: ArbiterHandle,
        parts: EngineParts,
        scheduler: Addr<Scheduler>,
        limits: Limits,
    ) -> Self {
        let (sessions, arbiters) = (Sessions::default(), Mutex::default());
        Self(Arc::new(Inner { controller, parts, scheduler, limits, sessions, arbiters }))
    }

    /// Begins to listen.
    pub(crate) fn listen(&self, listen: Listen) -> Result<Listening, Error> {
        let Listen { address, directory, reached_at, valid, is_plain } = listen;
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
        let arbiter = self.arbiter()?;
        let (network, accepting) = (self.clone(), shared.clone());
        arbiter.spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => network.accept(&listener, &accepting).await,
                Err(error) => tracing::error!(%error, "nobody can be listened to"),
            }
        });
        self.0.arbiters.lock().push(arbiter);
        Ok(Listening(shared))
    }

    /// Starts an arbiter of the controller's System: the present thread may have none.
    fn arbiter(&self) -> Result<Arbiter, Error> {
        let (tell, told) = mpsc::sync_channel(1);
        // Where the controller is gone, the sender is dropped with this, and that is the answer.
        let _ = self.0.controller.spawn_fn(move || drop(tell.send(Arbiter::try_new())));
        let started = told.recv().map_err(|_| Error::ClusterStopped)?;
        started.map_err(|error| Error::System { doing: "starting an arbiter", reason: error.to_string() })
    }

    async fn accept(&self, listener: &tokio::net::TcpListener, shared: &Arc<Shared>) {
        for number in 0.. {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No descriptor is left, most likely: some will be.
                    tracing::error!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (network, listening) = (self.clone(), shared.clone());
            let stranger = actix::spawn(async move { network.greet(stream, peer, number, &listening).await });
            shared.gate.enter(number, stranger.abort_handle());
        }
    }

    /// Finds out who has connected. It is a stranger until then.
    async fn greet(&self, stream: TcpStream, peer: SocketAddr, number: u64, shared: &Arc<Shared>) {
        let greeted = timeout(STRANGER_WAIT, self.welcome(stream, shared)).await;
        shared.gate.leave(number);
        let reason = match greeted {
            Ok(Ok((stream, tasks))) => {
                // On its own: whoever is cut off as a stranger from now on is not this one.
                let network = self.clone();
                drop(actix::spawn(async move { network.attend(stream, peer, tasks).await }));
                return;
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("it has not shown what it is within {STRANGER_WAIT:?}"),
        };
        shared.gate.refuse();
        if let Some(refused) = shared.gate.to_be_told() {
            tracing::warn!(%peer, %reason, refused, "connections were refused, this one last");
        }
    }

    async fn welcome(&self, stream: TcpStream, shared: &Shared) -> Result<Admitted, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (config, stream) = (shared.config.read().clone(), Metered::new(stream));
        let mut stream: Box<dyn Connection> = match config {
            Some(config) => Box::new(secured(stream, config, shared).await?),
            None => Box::new(stream),
        };
        // Nobody comes to here who has no certificate; or nobody has one.
        stream.lift();
        let hello = Hello {
            role: Role::Controller,
            cluster: shared.cluster,
            incarnation: std::process::id().into(),
            build: self.0.parts.registry.build(),
        };
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        let (_, tasks) = handshake::welcome(&mut stream, &hello, wait).await.map_err(|error| error.to_string())?;
        Ok((stream, tasks))
    }

    /// Speaks with an engine from its joining to its end.
    async fn attend(&self, stream: Box<dyn Connection>, peer: SocketAddr, tasks: Option<TaskTable>) {
        let Inner { parts, scheduler, limits, sessions, .. } = &*self.0;
        let _session = sessions.begin();
        let speaker = Speaker::new(SessionLimits { outbound_bytes_max: usize::MAX, ..SessionLimits::default() });
        let parts = GatewayParts {
            scheduler: scheduler.clone(),
            finished: parts.finished.clone(),
            speaker: speaker.clone(),
            offer: EngineOffer { slots: 1, is_local: false, tasks: tasks.map(Arc::new) },
            fate: Arc::new(Fate::default()),
            process: Arc::new(Elsewhere),
            // Its tasks print where it runs.
            printed: Box::new(|_, _| ()),
            printed_bytes_max: limits.printed_bytes_max,
            tasks_max: None,
        };
        let (gateway, _) = Gateway::join(parts);
        let (reader, writer) = tokio::io::split(stream);
        let ending = remote::attend(reader, writer, &speaker, &gateway).await;
        tracing::info!(%peer, %ending, "an engine has gone");
        let cause = match ending {
            Ending::Closed(reason) | Ending::ClosedByPeer(reason) => reason,
            ending => format!("{ending} ({peer})").into(),
        };
        gateway.do_send(Lost { cause, unread: Vec::new() });
    }

    /// Has nobody let in any more, and those that are in hear that it is over.
    pub(crate) fn end(&self) {
        let arbiters = std::mem::take(&mut *self.0.arbiters.lock());
        if !arbiters.is_empty() {
            self.0.sessions.wait(GOODBYE);
        }
        for arbiter in arbiters {
            arbiter.stop();
            let _ = arbiter.join();
        }
    }
}

/// Who was let in: an engine, and the tasks that it has, if it is of another build.
type Admitted = (Box<dyn Connection>, Option<TaskTable>);

/// A connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    /// All may be read from now on.
    fn lift(&mut self);
}

impl Connection for Metered<TcpStream> {
    fn lift(&mut self) {
        self.lift_meter();
    }
}

impl Connection for TlsStream<Metered<TcpStream>> {
    fn lift(&mut self) {
        self.get_mut().0.lift_meter();
    }
}

/// Makes a connection secure: to whoever has a certificate of an engine of this cluster.
async fn secured(
    stream: Metered<TcpStream>,
    config: Arc<ServerConfig>,
    shared: &Shared,
) -> Result<TlsStream<Metered<TcpStream>>, String> {
    // Up to here nothing is computed; so who says nothing, or anything else, takes no turn.
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| error.to_string())?;
    shared.gate.turn().await;
    let stream = hello.into_stream(config).await.map_err(|error| error.to_string())?;
    match tls::role_of(stream.get_ref().1.peer_certificates(), shared.cluster) {
        Some(Role::Engine) => Ok(stream),
        Some(role) => Err(format!("its certificate is that of {}", a(role))),
        None => Err("its certificate gives it no role here".into()),
    }
}

/// An engine on another machine, of which nobody knows here how far it has come.
struct Elsewhere;

impl Process for Elsewhere {
    fn begun(&self) -> Begun {
        Begun::Unknown
    }

    /// It is killed only where it is known what it is at.
    fn kill(&self) {}
}
