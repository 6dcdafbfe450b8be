//! The controller's side: listens, and lets in who belongs here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::Addr;
use actix_rt::{Arbiter, ArbiterHandle};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::arrivals::Arrivals;
use super::gate::{Metered, STRANGER_WAIT};
use super::listen::{Listen, Listening, Shared};
use super::peers::Peers;
use super::tls;
use crate::actors::{EngineParts, Scheduler};
use crate::error::Error;
use crate::host::Hosts;
use crate::limits::HANDSHAKE_MS_MAX;
use crate::task::{TaskTable, drawn};
use crate::views::LinkParts;
use crate::wire::handshake::{self, Hello, Role};

/// What comes to a cluster over the network. Its arbiter is started when it first listens.
#[derive(Clone)]
pub(crate) struct Network(Arc<Inner>);

struct Inner {
    controller: ArbiterHandle,
    arbiters: Mutex<Vec<Arbiter>>,
    listenings: Mutex<Vec<Listening>>,
    /// Tells this cluster from one that was before, or comes after, with the same files.
    run: u64,
    peers: Peers,
}

impl Network {
    pub(crate) fn new(
        controller: ArbiterHandle,
        parts: EngineParts,
        scheduler: Addr<Scheduler>,
        link: LinkParts,
    ) -> Self {
        let peers = Peers::new(parts, scheduler, link);
        let (arbiters, listenings) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { controller, arbiters, listenings, run: drawn(), peers }))
    }

    /// Begins to listen.
    pub(crate) fn listen(&self, listen: Listen) -> Result<Listening, Error> {
        let (listener, shared) = listen.open()?;
        let arbiter = self.arbiter()?;
        let (network, accepting) = (self.clone(), shared.clone());
        arbiter.spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = network.accept(&listener, &accepting) => {}
                    () = network.0.peers.vigil.keep() => {}
                },
                Err(error) => tracing::error!(%error, "nobody can be listened to"),
            }
        });
        self.0.arbiters.lock().push(arbiter);
        let listening = Listening(shared);
        self.0.listenings.lock().push(listening.clone());
        Ok(listening)
    }

    /// Returns the file with which engines join, of where it listens since last; `None` if it does not listen.
    pub(crate) fn engine_file(&self) -> Option<PathBuf> {
        self.0.listenings.lock().last().map(Listening::engine_file)
    }

    /// Returns who has joined of which launch.
    pub(crate) fn arrivals(&self) -> Arc<Arrivals> {
        self.0.peers.arrivals.clone()
    }

    /// Returns the hosts that are there.
    pub(crate) fn hosts(&self) -> Arc<Hosts> {
        self.0.peers.hosts.clone()
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
            let stranger = actix_rt::spawn(async move { network.greet(stream, peer, number, &listening).await });
            shared.gate.enter(number, peer.ip(), stranger.abort_handle());
        }
    }

    /// Finds out who has connected. It is a stranger until then.
    async fn greet(&self, stream: TcpStream, peer: SocketAddr, number: u64, shared: &Arc<Shared>) {
        let came = Instant::now();
        let greeted = timeout(STRANGER_WAIT, self.welcome(stream, shared)).await;
        shared.gate.leave(number);
        let reason = match greeted {
            Ok(Ok((stream, hello, tasks))) => {
                // On its own: whoever is cut off as a stranger from now on is not this one.
                let network = self.clone();
                drop(actix_rt::spawn(async move { network.0.peers.open(stream, peer, came, hello, tasks).await }));
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
        let (mut stream, roles): (Box<dyn Connection>, Vec<Role>) = match config {
            Some(config) => {
                let (stream, role) = secured(stream, config, shared).await?;
                let mut roles = vec![role];
                if role == Role::Engine {
                    roles.push(Role::Host);
                }
                (Box::new(stream), roles)
            }
            None => (Box::new(stream), vec![Role::Engine, Role::Client, Role::Host]),
        };
        // Nobody comes to here who has no certificate; or nobody has one.
        stream.lift();
        let hello = Hello {
            role: Role::Controller,
            cluster: shared.cluster,
            incarnation: self.0.run,
            build: self.0.peers.parts.registry.build(),
        };
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        let greeted = handshake::welcome(&mut stream, &hello, &roles, wait).await;
        let (theirs, tasks) = greeted.map_err(|error| error.to_string())?;
        Ok((stream, theirs, tasks))
    }

    /// Has nobody let in any more, and those that are in hear that it is over.
    pub(crate) fn end(&self) {
        let arbiters = std::mem::take(&mut *self.0.arbiters.lock());
        self.0.peers.say_goodbye();
        if !arbiters.is_empty() {
            self.0.peers.wait_for_goodbyes();
        }
        for arbiter in arbiters {
            arbiter.stop();
            let _ = arbiter.join();
        }
    }
}

/// Who was let in, and the tasks that an engine has, if it is of another build.
type Admitted = (Box<dyn Connection>, Hello, Option<TaskTable>);

/// A connection, with TLS or without.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
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

/// Makes a connection secure: to whoever has a certificate of this cluster. Returns as what it has it.
async fn secured(
    stream: Metered<TcpStream>,
    config: Arc<ServerConfig>,
    shared: &Shared,
) -> Result<(TlsStream<Metered<TcpStream>>, Role), String> {
    // Up to here nothing is computed; so who says nothing, or anything else, takes no turn.
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| error.to_string())?;
    shared.gate.turn().await;
    let stream = hello.into_stream(config).await.map_err(|error| error.to_string())?;
    let role = tls::role_of(stream.get_ref().1.peer_certificates(), shared.cluster);
    Ok((stream, role.ok_or("its certificate gives it no role here")?))
}
