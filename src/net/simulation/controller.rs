//! The controller: lets in whoever comes, as over a network, and judges what is left when the clients have gone.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use super::links::Side;
use super::{Faults, Scene, limits};
use crate::actors::Threads;
use crate::client::Client;
use crate::controller::Actors;
use crate::ledger::Policy;
use crate::net::gate::STRANGER_WAIT;
use crate::net::peers::Peers;
use crate::registry::Registry;
use crate::remote::simulation::{PORT, hello};
use crate::task::Status;
use crate::wire::handshake::{Role, welcome};

pub(super) async fn controller(scene: Rc<Scene>) -> turmoil::Result {
    let (registry, policy) = (Registry::auto()?, Policy::default());
    let actors = Actors::start(limits(), registry, policy, Arc::new(Threads::default()));
    let peers = Rc::new(Peers::new(actors.parts, actors.addresses.scheduler, actors.link.clone()));
    let awake = peers.clone();
    tokio::task::spawn_local(async move { awake.vigil.keep().await });
    let (listener, greeted) = (TcpListener::bind(("0.0.0.0", PORT)).await?, scene.clone());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(greet(stream, peers.clone(), greeted.clone()));
        }
    });
    while scene.clients.get() > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    judge(&Client::new(actors.link), &scene).await
}

/// Finds out who has connected, and speaks with it from then on.
async fn greet(stream: TcpStream, peers: Rc<Peers>, scene: Rc<Scene>) {
    let (Ok(peer), came) = (stream.peer_addr(), Instant::now()) else { return };
    let host = turmoil::reverse_lookup(peer.ip()).expect("hosts have names");
    let mut stream = scene.links.end(stream, &host, Side::Controller);
    let ours = hello(Role::Controller, 1);
    let greeted = welcome(&mut stream, &ours, &[Role::Engine, Role::Client], STRANGER_WAIT).await;
    let Ok((theirs, tasks)) = greeted else { return };
    peers.open(Box::new(stream), peer, came, theirs, tasks).await;
}

/// Nothing is left, and each task was counted once.
async fn judge(rc: &Client, scene: &Scene) -> turmoil::Result {
    let mut status = rc.queue_status().await?;
    for _ in 0..1_000 {
        if status.pending == 0 && status.engines.iter().all(|engine| engine.outstanding == 0) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
        status = timeout(STRANGER_WAIT, rc.queue_status()).await??;
    }
    assert!(status.pending == 0 && status.engines.iter().all(|engine| engine.outstanding == 0), "left: {status:?}");
    let records = rc.records().await?;
    assert_eq!(records.len() as u64, status.settled, "each has one record");
    assert!(records.iter().all(|record| record.status != Status::Pending));
    let (sent, settled) = (scene.sent.get(), status.settled);
    assert!(settled <= sent, "{settled} settled of {sent}");
    if scene.faults == Faults::Short {
        assert_eq!(settled, sent, "every task came, and came once");
        // A task that is cancelled may have run, and one that has run may be cancelled on the way.
        let cancelled = scene.cancelled.get();
        assert!(status.late_outcomes <= cancelled, "{} of {cancelled}", status.late_outcomes);
    }
    Ok(())
}
