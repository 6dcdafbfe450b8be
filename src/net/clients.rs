//! The controller's side of a client elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::held::HeldSessions;
use super::network::Connection;
use super::peers::Peers;
use crate::remote::{ClientProxy, ClientProxyParts, Gone, Goodbye, HostParts};
use crate::wire::handshake::Role;
use crate::wire::opening::Opening;
use crate::wire::session::{SessionLimits, Speaker};

/// How long a client that was lost may take to come back to what waits for it. Of that there is no more than if it took nothing.
const CLIENT_WAIT: Duration = Duration::from_secs(60);

/// The clients that are there, or may come back: by their numbers, with the session of each.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<u64, (u64, Speaker)>>);

impl Peers {
    /// Speaks with a client from its first word to its last.
    pub(super) async fn attend_client(
        &self,
        stream: Box<dyn Connection>,
        peer: SocketAddr,
        client: u64,
        opening: Opening,
    ) {
        let Self { parts, scheduler, link, ending, clients, held, .. } = self;
        // What waits for a client is bounded by its proxy, which knows whether it takes anything.
        let speaker = Speaker::lasting(SessionLimits::LASTING);
        let Some(mut session) = held.begin(Role::Client, opening, speaker.clone()) else { return };
        let number = format_args!("{client:x}");
        tracing::info!(%peer, client = number, session = %opening.id(), "a client has connected");
        let _number = clients.take(client, opening.session, &speaker, held);
        let (link, registry) = (link.clone(), parts.registry.clone());
        let hosts = HostParts { hosts: self.hosts.clone(), arrivals: self.arrivals.clone() };
        let parts = ClientProxyParts { link, flow: scheduler.clone().recipient(), registry, speaker, hosts };
        let proxy = ClientProxy::start_for(client, parts);
        let (mut over, told) = (ending.subscribe(), proxy.clone());
        let telling = actix_rt::spawn(async move {
            if over.wait_for(|is_over| *is_over).await.is_ok() {
                told.do_send(Goodbye);
            }
        });
        let ending = session.attend(stream, &proxy, |_| CLIENT_WAIT).await;
        tracing::info!(%peer, client = format_args!("{client:x}"), %ending, session = %opening.id(), "a client has gone");
        telling.abort();
        proxy.do_send(Gone);
    }
}

impl Clients {
    /// Notes whose a number is now. A session that the same client had before is over: it has given it up.
    fn take(&self, client: u64, session: u64, speaker: &Speaker, held: &HeldSessions) -> Number<'_> {
        let before = self.0.lock().insert(client, (session, speaker.clone()));
        if let Some((number, before)) = before.filter(|(number, _)| *number != session) {
            before.abandon("the client has begun another session");
            held.give_up(Role::Client, number);
        }
        Number { clients: self, client, session }
    }
}

/// The number of a client that is there.
struct Number<'a> {
    clients: &'a Clients,
    client: u64,
    session: u64,
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock();
        if clients.get(&self.client).is_some_and(|(session, _)| *session == self.session) {
            clients.remove(&self.client);
        }
    }
}
