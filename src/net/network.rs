//! The controller's side: lets in who belongs here, and has a gateway stand for each engine.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use actix::{Addr, Arbiter, ArbiterHandle};
use parking_lot::{Condvar, Mutex};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::Clients;
use super::gate::{Metered, STRANGER_WAIT};
use super::held::HeldSessions;
use super::listen::{Listen, Listening, Shared};
use super::tls;
use super::vigil::Vigil;
use crate::actors::{EngineParts, Scheduler};
use crate::error::Error;
use crate::ledger::EngineOffer;
use crate::limits::HANDSHAKE_MS_MAX;
use crate::remote::{Begun, Fate, Gateway, GatewayParts, Lost, Process};
use crate::task::TaskTable;
use crate::views::LinkParts;
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::opening::{Opened, Opening, answer_opening, hear_opening};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// What comes to a cluster over the network. Its arbiter is started when it first listens.
#[derive(Clone)]
pub(crate) struct Network(pub(super) Arc<Inner>);

pub(super) struct Inner {
    controller: ArbiterHandle,
    pub(super) parts: EngineParts,
    scheduler: Addr<Scheduler>,
    pub(super) link: LinkParts,
    pub(super) sessions: Sessions,
    arbiters: Mutex<Vec<Arbiter>>,
    /// Changed when every task is settled: clients are told.
    pub(super) ending: watch::Sender<()>,
    pub(super) clients: Clients,
    pub(super) held: HeldSessions,
    vigil: Vigil,
}

/// How many peers are spoken with.
#[derive(Default)]
pub(super) struct Sessions {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of them.
struct Session<'a>(&'a Sessions);

impl Sessions {
    /// Counts one more; `None` if there are so many already.
    fn begin(&self, max: usize) -> Option<Session<'_>> {
        let mut count = self.count.lock();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Session(self))
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

/// How long an engine whose connection has ended may take to come back, beside the way: it dials at once. One that has died
/// does not, and what it had waits for so long.
const ENGINE_WAIT: Duration = Duration::from_millis(500);

/// The same with the way, at most.
const ENGINE_WAIT_MAX: Duration = Duration::from_secs(3);

/// The same where we stood still ourselves: it may have dialled in vain, and waits before it dials again.
const ENGINE_WAIT_AWAKE: Duration = Duration::from_secs(10);

/// How long engines and clients have to hear that the cluster ends.
const GOODBYE: Duration = Duration::from_secs(1);

impl Network {
    pub(crate) fn new(
        controller: ArbiterHandle,
        parts: EngineParts,
        scheduler: Addr<Scheduler>,
        link: LinkParts,
    ) -> Self {
        let (sessions, arbiters, ending) = (Sessions::default(), Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Inner {
            controller,
            parts,
            scheduler,
            link,
            sessions,
            arbiters,
            ending,
            clients: Clients::default(),
            held: HeldSessions::default(),
            vigil: Vigil::new(),
        }))
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
                    () = network.0.vigil.keep() => {}
                },
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
        let came = Instant::now();
        let greeted = timeout(STRANGER_WAIT, self.welcome(stream, shared)).await;
        shared.gate.leave(number);
        let reason = match greeted {
            Ok(Ok((stream, hello, tasks))) => {
                // On its own: whoever is cut off as a stranger from now on is not this one.
                let network = self.clone();
                drop(actix::spawn(async move { network.open(stream, peer, came, hello, tasks).await }));
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
                (Box::new(stream), vec![role])
            }
            None => (Box::new(stream), vec![Role::Engine, Role::Client]),
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
        let greeted = handshake::welcome(&mut stream, &hello, &roles, wait).await;
        let (theirs, tasks) = greeted.map_err(|error| error.to_string())?;
        Ok((stream, theirs, tasks))
    }

    /// Has a peer speak with who stands for it: the one that did, if it comes back, else a new one.
    async fn open(
        &self,
        mut stream: Box<dyn Connection>,
        peer: SocketAddr,
        came: Instant,
        hello: Hello,
        tasks: Option<TaskTable>,
    ) {
        let Ok(opening) = hear_opening(&mut stream, STRANGER_WAIT).await else { return };
        let Err(mut stream) = self.0.held.hand_over(hello.role, opening, stream) else { return };
        let max = self.0.link.limits.sessions_max;
        let Some(_session) = self.0.sessions.begin(max) else {
            tracing::warn!(%peer, max, "a peer was refused: there are as many as there may be");
            let reason = format!("it speaks with {max} engines and clients already; raise limits.sessions_max there");
            drop(answer_opening(&mut stream, &Opened::Refused(reason.into()), STRANGER_WAIT).await);
            return;
        };
        if answer_opening(&mut stream, &Opened::Begun, STRANGER_WAIT).await.is_err() {
            return;
        }
        match hello.role {
            Role::Client => self.attend_client(stream, peer, hello.incarnation, opening).await,
            _ => self.attend_engine(stream, peer, came, opening, tasks).await,
        }
    }

    /// Speaks with an engine from its joining to its end.
    async fn attend_engine(
        &self,
        stream: Box<dyn Connection>,
        peer: SocketAddr,
        came: Instant,
        opening: Opening,
        tasks: Option<TaskTable>,
    ) {
        let Inner { parts, scheduler, link, held, vigil, .. } = &*self.0;
        let speaker = Speaker::lasting(SessionLimits::LASTING);
        let Some(mut session) = held.begin(Role::Engine, opening, speaker.clone()) else { return };
        let parts = GatewayParts {
            scheduler: scheduler.clone(),
            finished: parts.finished.clone(),
            speaker,
            offer: EngineOffer { slots: 1, is_local: false, tasks: tasks.map(Arc::new) },
            fate: Arc::new(Fate::default()),
            process: Arc::new(Elsewhere),
            // Its tasks print where it runs.
            printed: Box::new(|_, _| ()),
            printed_bytes_max: link.limits.printed_bytes_max,
            tasks_max: None,
        };
        let (gateway, joined) = Gateway::join(parts);
        drop(actix::spawn(async move {
            if let Ok(Ok(engine)) = joined.await {
                tracing::info!(%peer, %engine, "an engine has joined");
            }
        }));
        // What it takes to come back is what it took to come.
        let back = (ENGINE_WAIT + 4 * came.elapsed()).min(ENGINE_WAIT_MAX);
        let wait = |ending: &Ending| match ending {
            _ if vigil.slept_lately() => ENGINE_WAIT_AWAKE,
            // It was away for long already.
            Ending::Silent(_) | Ending::Stalled(_) => Duration::ZERO,
            _ => back,
        };
        let ending = session.attend(stream, &gateway, wait).await;
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
        self.0.ending.send_replace(());
        if !arbiters.is_empty() {
            self.0.sessions.wait(GOODBYE);
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

/// An engine on another machine, of which nobody knows here how far it has come.
struct Elsewhere;

impl Process for Elsewhere {
    fn begun(&self) -> Begun {
        Begun::Unknown
    }

    /// It is killed only where it is known what it is at.
    fn kill(&self) {}
}
