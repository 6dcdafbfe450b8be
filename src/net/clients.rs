//! The controller's side of a client elsewhere.

use std::collections::HashSet;
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::network::{Connection, Inner, Network};
use crate::remote::{self, ClientProxy, ClientProxyParts, Gone, Goodbye};
use crate::wire::session::{SessionLimits, Speaker};

impl Network {
    /// Speaks with a client from its first word to its last.
    pub(super) async fn attend_client(&self, stream: Box<dyn Connection>, peer: SocketAddr, client: u64) {
        let Inner { parts, link, sessions, ending, clients, .. } = &*self.0;
        let speaker = Speaker::new(SessionLimits::default());
        let Some(_number) = Number::take(client, clients) else {
            tracing::warn!(%peer, "a client has the number of another that is there");
            return;
        };
        let _session = sessions.begin();
        let parts = ClientProxyParts { link: link.clone(), registry: parts.registry.clone(), speaker: speaker.clone() };
        let proxy = ClientProxy::start_for(client, parts);
        let (mut over, told) = (ending.subscribe(), proxy.clone());
        let telling = actix::spawn(async move {
            if over.changed().await.is_ok() {
                told.do_send(Goodbye);
            }
        });
        let (reader, writer) = tokio::io::split(stream);
        let ending = remote::attend(reader, writer, &speaker, &proxy).await;
        tracing::info!(%peer, %ending, "a client has gone");
        telling.abort();
        proxy.do_send(Gone);
    }
}

/// The number of a client that is there; no second one has it.
struct Number<'a> {
    number: u64,
    clients: &'a Mutex<HashSet<u64>>,
}

impl<'a> Number<'a> {
    fn take(number: u64, clients: &'a Mutex<HashSet<u64>>) -> Option<Self> {
        clients.lock().insert(number).then_some(Self { number, clients })
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.number);
    }
}
