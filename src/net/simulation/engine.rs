//! An engine that works inline, in sessions that outlive their connections.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{Scene, dialler};
use crate::error::Error;
use crate::net::stay::{Serve, stay};
use crate::net::way::Connection;
use crate::remote::Departure;
use crate::remote::simulation::{Life, Random, work};
use crate::wire::frame::Message;
use crate::wire::handshake::Role;
use crate::wire::protocol::{ToEngine, decode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, Speaker};

/// Dials, runs what it gets one after the other, and comes back when it is lost.
pub(super) async fn engine(host: String, seed: u64, scene: Rc<Scene>) -> turmoil::Result {
    // So that one that crashed and comes back is another.
    let mut random = Random(seed ^ turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64);
    let dialler = dialler(Role::Engine, &host, Duration::from_secs(30), random.next(), &scene)?;
    loop {
        match stay(&dialler, Duration::ZERO, &Departure::default(), |speaker| Inline::new(&host, speaker, &scene)).await
        {
            Err(Error::Unreachable { .. }) => scene.world.note(format!("{host} has not found the controller")),
            ended => panic!("{host}: {ended:?}"),
        }
    }
}

/// What one session has of an engine.
struct Inline {
    host: String,
    scene: Rc<Scene>,
    speaker: Speaker,
    tell: UnboundedSender<(ToEngine, Message)>,
    working: JoinHandle<()>,
    connections: u32,
}

impl Inline {
    fn new(host: &str, speaker: Speaker, scene: &Rc<Scene>) -> Self {
        let (tell, told) = unbounded_channel();
        let (scene_too, says) = (scene.clone(), speaker.clone());
        let seed = scene.world.trace.borrow().len() as u64;
        let working = tokio::task::spawn_local(async move {
            let life = Life::default();
            work(&scene_too.world, &life, &mut Random(seed), says, told).await;
        });
        Self { host: host.into(), scene: scene.clone(), speaker, tell, working, connections: 0 }
    }
}

impl Serve for Inline {
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending {
        let Self { host, scene, speaker, tell, connections, .. } = self;
        *connections += 1;
        scene.world.note(format!("{host} serves, over connection {connections}"));
        scene.resumed.set(scene.resumed.get() + u32::from(*connections > 1));
        let (reader, writer) = tokio::io::split(stream);
        let hear = |heard: Heard| {
            let said: ToEngine = decode(&heard.message)?;
            tell.send((said, heard.message)).map_err(|_| "it was stopped".into())
        };
        let ending = run(reader, writer, speaker, hear).await;
        scene.world.note(format!("{host}: {ending}"));
        ending
    }

    async fn finish(&mut self) {
        // A host that is switched off finishes nothing; one that is there goes on until the end of the simulation.
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        self.working.abort();
    }
}
