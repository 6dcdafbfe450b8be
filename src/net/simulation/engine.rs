//! An engine that works inline, in sessions that outlive their connections.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

use super::{Scene, dialler};
use crate::error::Error;
use crate::net::stay::{Serve, stay};
use crate::net::way::Connection;
use crate::remote::simulation::{Life, Random, work};
use crate::remote::{Departure, TellDeparture, back};
use crate::wire::frame::{Lane, Message};
use crate::wire::handshake::Role;
use crate::wire::protocol::{FromEngine, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, Speaker};

/// Dials, runs what it gets one after the other, and comes back when it is lost. It is told to leave from time to time, and comes back
/// as another.
pub(super) async fn engine(host: String, seed: u64, scene: Rc<Scene>) -> turmoil::Result {
    // So that one that crashed and comes back is another.
    let mut random = Random(seed ^ turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64);
    let dialler = dialler(Role::Engine, &host, Duration::from_secs(30), random.next(), &scene)?;
    loop {
        let tell = TellDeparture::new(LEAVES_WITHIN);
        let (departure, time) = (tell.departure(), Duration::from_secs(2) + random.ms(20_000));
        let new = |speaker| Inline::new(&host, speaker, &scene, departure.clone());
        let its_time_is_over = async {
            sleep(time).await;
            scene.world.note(format!("{host} is told to leave"));
            tell.tell("its time is over");
            std::future::pending().await
        };
        let ended = tokio::select! {
            biased;
            ended = stay(&dialler, Duration::ZERO, &departure, new) => ended,
            () = its_time_is_over => unreachable!("it is told, and no more"),
        };
        match ended {
            Err(Error::Unreachable { .. }) => scene.world.note(format!("{host} has not found the controller")),
            Ok(()) if departure.is_told() => {
                scene.world.note(format!("{host} has left"));
                scene.left.set(scene.left.get() + 1);
            }
            ended => panic!("{host}: {ended:?}"),
        }
    }
}

/// How long an engine that is to leave may take for what it runs: no task here takes as long.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// What one session has of an engine.
struct Inline {
    host: String,
    scene: Rc<Scene>,
    speaker: Speaker,
    tell: UnboundedSender<(ToEngine, Message)>,
    working: JoinHandle<()>,
    departing: JoinHandle<()>,
    departure: Departure,
    connections: u32,
}

impl Inline {
    fn new(host: &str, speaker: Speaker, scene: &Rc<Scene>, departure: Departure) -> Self {
        let (tell, told) = unbounded_channel();
        let (scene_too, says) = (scene.clone(), speaker.clone());
        let seed = scene.world.trace.borrow().len() as u64;
        let working = tokio::task::spawn_local(async move {
            let life = Life::default();
            work(&scene_too.world, &life, &mut Random(seed), says, told).await;
        });
        let (its_time, says, leaves) = (departure.clone(), speaker.clone(), tell.clone());
        let departing = tokio::task::spawn_local(async move {
            let by = its_time.told().await;
            let nothing = Message { header: Bytes::new(), buffers: Vec::new() };
            // Whoever works is gone only when this is.
            drop(leaves.send((ToEngine::Recall, nothing)));
            says.say_or_end(Lane::Control, encode(&FromEngine::Leaving, Vec::new()));
            sleep_until(by).await;
            says.close("it was not finished in time");
        });
        Self { host: host.into(), scene: scene.clone(), speaker, tell, working, departing, departure, connections: 0 }
    }
}

impl Serve for Inline {
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending {
        let Self { host, scene, speaker, tell, departure, connections, .. } = self;
        *connections += 1;
        scene.world.note(format!("{host} serves, over connection {connections}"));
        scene.resumed.set(scene.resumed.get() + u32::from(*connections > 1));
        let (reader, writer) = tokio::io::split(stream);
        let hear = |heard: Heard| {
            let said: ToEngine = decode(&heard.message)?;
            if let ToEngine::Run(calls) = &said
                && departure.is_told()
            {
                speaker.say_or_end(Lane::Bulk, encode(&back(calls), Vec::new()));
                return Ok(());
            }
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
        self.departing.abort();
    }
}
