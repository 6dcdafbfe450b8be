//! Who was let in: a gateway stands for each engine, a proxy for each client, from its first word to its last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::clients::Clients;
use super::gate::STRANGER_WAIT;
use super::held::HeldSessions;
use super::network::Connection;
use super::vigil::Vigil;
use crate::actors::{EngineParts, Scheduler};
use crate::clock::Clock;
use crate::host::{Attached, HostProxy, Hosts};
use crate::ledger::EngineOffer;
use crate::remote::{Begun, Fate, Gateway, GatewayParts, Lost, Process, STOPPED};
use crate::task::TaskTable;
use crate::views::LinkParts;
use crate::wire::handshake::{Hello, Role};
use crate::wire::opening::{Opened, Opening, answer_opening, hear_opening};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// Those that were let in, and what stands for them here.
pub(super) struct Peers {
    pub(super) parts: EngineParts,
    pub(super) scheduler: Addr<Scheduler>,
    pub(super) link: LinkParts,
    sessions: Sessions,
    /// True once every task is settled: clients and hosts are told, also those that come then.
    pub(super) ending: watch::Sender<bool>,
    pub(super) clients: Clients,
    pub(super) held: HeldSessions,
    pub(super) vigil: Vigil,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) hosts: Arc<Hosts>,
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

/// How long a host that was lost may take to come back to what runs there.
const HOST_WAIT: Duration = Duration::from_secs(10);

/// How long engines and clients have to hear that the cluster ends.
const GOODBYE: Duration = Duration::from_secs(1);

impl Peers {
    pub(super) fn new(parts: EngineParts, scheduler: Addr<Scheduler>, link: LinkParts) -> Self {
        Self {
            parts,
            scheduler,
            link,
            sessions: Sessions::default(),
            ending: watch::Sender::new(false),
            clients: Clients::default(),
            held: HeldSessions::default(),
            vigil: Vigil::new(Clock::SYSTEM),
            arrivals: Arc::default(),
            hosts: Arc::default(),
        }
    }

    /// Has a peer speak with who stands for it: the one that did, if it comes back, else a new one.
    pub(super) async fn open(
        &self,
        mut stream: Box<dyn Connection>,
        peer: SocketAddr,
        came: Instant,
        hello: Hello,
        tasks: Option<TaskTable>,
    ) {
        let Ok(opening) = hear_opening(&mut stream, STRANGER_WAIT).await else { return };
        let Err(mut stream) = self.held.hand_over(hello.role, opening, stream) else { return };
        let max = self.link.limits.sessions_max;
        let Some(_session) = self.sessions.begin(max) else {
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
            Role::Host => self.attend_host(stream, peer, opening).await,
            _ => self.attend_engine(stream, peer, came, hello.incarnation, opening, tasks).await,
        }
    }

    /// Speaks with an engine from its joining to its end.
    async fn attend_engine(
        &self,
        stream: Box<dyn Connection>,
        peer: SocketAddr,
        came: Instant,
        launch: u64,
        opening: Opening,
        tasks: Option<TaskTable>,
    ) {
        let Self { parts, scheduler, link, held, vigil, .. } = self;
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
        let (arrivals, session_id) = (self.arrivals.clone(), opening.id());
        drop(actix_rt::spawn(async move {
            if let Ok(Ok(engine)) = joined.await {
                arrivals.on_joined(launch, engine);
                tracing::info!(%peer, %engine, session = %session_id, "an engine has joined");
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
        tracing::info!(%peer, %ending, session = %opening.id(), "the session with an engine has ended");
        let cause = match ending {
            Ending::Closed(reason) | Ending::ClosedByPeer(reason) => reason,
            ending => format!("{ending} ({peer})").into(),
        };
        gateway.do_send(Lost { cause, unread: Vec::new() });
    }

    /// Speaks with a host from its first word to its last.
    async fn attend_host(&self, stream: Box<dyn Connection>, peer: SocketAddr, opening: Opening) {
        let speaker = Speaker::lasting(SessionLimits::LASTING);
        let Some(mut session) = self.held.begin(Role::Host, opening, speaker.clone()) else { return };
        tracing::info!(%peer, session = %opening.id(), "a host has come");
        let host = Arc::new(Attached::new(speaker.clone()));
        let (proxy, mut over) = (HostProxy(host.clone()).start(), self.ending.subscribe());
        let telling = actix_rt::spawn(async move {
            if over.wait_for(|is_over| *is_over).await.is_ok() {
                speaker.close(STOPPED);
            }
        });
        self.hosts.attach(host.clone());
        let away = |_: &Ending| {
            host.on_connection_lost();
            HOST_WAIT
        };
        let ending = session.attend(stream, &proxy, away).await;
        self.hosts.detach(&host);
        telling.abort();
        tracing::info!(%peer, %ending, session = %opening.id(), "a host has gone");
        host.on_lost(&ending.to_string());
    }

    /// Has everybody hear that it is over.
    pub(super) fn say_goodbye(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until they have, for as long as they may take.
    pub(super) fn wait_for_goodbyes(&self) {
        self.sessions.wait(GOODBYE);
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
