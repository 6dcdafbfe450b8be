//! Engines and clients elsewhere, whose sessions outlive their connections, on a network that is simulated: what dials, what
//! is dialled and what stands for a peer are as they are. Connections are cut; hosts are away for a while, or crash;
//! engines leave when their time is over.
//!
//! Each seed is a run of its own. `CALLBOARD_SEED` replays one, `CALLBOARD_CASES` says how many there are.

mod links;
mod scene;
mod engine;
mod controller;
mod client;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use turmoil::Sim;

use self::client::client;
use self::controller::controller;
use self::engine::engine;
use self::links::{Side, Simulated};
use self::scene::Scene;
use super::dialler::Dialler;
use crate::error::Error;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::remote::simulation::{FAULTS_S, Random, assert_alike, hello, play, seeds};
use crate::wire::handshake::Role;

const ENGINES: u64 = 3;
const CLIENTS: u32 = 2;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Faults {
    /// Connections are cut, and whoever had them can dial again at once. Nobody who waits for a result is to notice.
    Short,
    /// Hosts are away for longer than they are waited for, too, and engines crash.
    All,
}

/// What is broken between a host and the controller.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Connections are cut, at one end or both; nothing else.
    Cut,
    /// What is sent comes later, all at once.
    Held,
    /// Connections are cut, and what is sent then comes later.
    CutAndHeld,
    /// Nothing passes between the two.
    Away,
    /// Nothing passes to the host.
    Deaf,
    /// Nothing passes from the host.
    Mute,
    /// The engine is gone, and is started again.
    Dead,
}

/// A host that dials, and what is wrong with it.
struct Host {
    name: String,
    role: Role,
    broken: Option<(Duration, Fault)>,
    /// By when the next fault may come.
    calm_until: Duration,
}

fn limits() -> Limits {
    Limits { spin_us: 0, ..Limits::default() }
}

/// What a host dials with; `number` is its own.
fn dialler(role: Role, host: &str, search: Duration, number: u64, scene: &Scene) -> Result<Dialler<Simulated>, Error> {
    let (hello, tasks) = (hello(role, number), Registry::auto()?.table());
    let frail_once_in = match (scene.faults, role) {
        (Faults::Short, Role::Engine) => u64::MAX,
        _ => 3,
    };
    let (host, links, random) = (host.into(), scene.links.clone(), RefCell::new(Random(number)));
    let way = Simulated { host, links, random, frail_once_in };
    Ok(Dialler { address: "controller".into(), search, way, hello, tasks, is_leashed: false })
}

/// Runs one seed; returns what happened.
fn simulate(seed: u64, faults: Faults) -> Rc<Scene> {
    let mut random = Random(seed);
    let latency_ms_max = match faults {
        Faults::Short => 30,
        Faults::All => 80,
    };
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(FAULTS_S + 300))
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2) + random.ms(latency_ms_max))
        .enable_random_order()
        .rng_seed(seed)
        .build();
    let scene = Scene::new(faults, CLIENTS);
    let mut hosts = Vec::new();
    for number in 0..ENGINES {
        let (name, seed, scene) = (format!("engine-{number}"), random.next(), scene.clone());
        hosts.push(Host::new(&name, Role::Engine));
        sim.host(name.clone(), move || engine(name.clone(), seed, scene.clone()));
    }
    sim.client("controller", controller(scene.clone()));
    for number in 0..CLIENTS {
        let name = format!("client-{number}");
        hosts.push(Host::new(&name, Role::Client));
        let first = (1 + u64::from(number)) * 1_000_000;
        sim.client(name.clone(), client(name, first, random.next(), scene.clone()));
    }
    loop {
        if sim.step().unwrap_or_else(|error| panic!("{faults:?}, seed {seed}: {error}")) {
            return scene;
        }
        hosts.iter_mut().for_each(|host| host.be_struck(&mut sim, &mut random, &scene));
    }
}

impl Host {
    fn new(name: &str, role: Role) -> Self {
        Self { name: name.into(), role, broken: None, calm_until: Duration::ZERO }
    }

    /// Mends what is broken, if it is time, or breaks something.
    fn be_struck(&mut self, sim: &mut Sim<'_>, random: &mut Random, scene: &Scene) {
        let now = sim.elapsed();
        match self.broken {
            Some((until, fault)) if now >= until || now.as_secs() >= FAULTS_S => {
                self.mend(sim, fault);
                self.broken = None;
                self.calm_until = now + self.calm(random, scene.faults);
            }
            None if now.as_secs() < FAULTS_S && now >= self.calm_until && random.once_in(400) => {
                let (fault, lasts_ms_max) = self.fault(random, scene.faults);
                self.suffer(sim, fault, random, scene);
                scene.world.note(format!("{}: {fault:?}", self.name));
                *scene.world.faults.borrow_mut() += 1;
                self.broken = Some((now + random.ms(lasts_ms_max), fault));
            }
            _ => {}
        }
    }

    /// Draws what happens, and for how long at most, in milliseconds.
    fn fault(&self, random: &mut Random, faults: Faults) -> (Fault, u64) {
        let short = [Fault::Cut, Fault::Held, Fault::CutAndHeld];
        let all = [Fault::Cut, Fault::Held, Fault::CutAndHeld, Fault::Away, Fault::Deaf, Fault::Mute, Fault::Dead];
        match (faults, self.role) {
            // An engine is waited for half a second, beside the way; a client looks for its controller for 5 s.
            (Faults::Short, Role::Engine) => match short[random.below(3) as usize] {
                Fault::CutAndHeld => (Fault::CutAndHeld, 150),
                fault => (fault, 1_500),
            },
            (Faults::Short, _) => (short[random.below(3) as usize], 1_500),
            // It is the client itself that judges.
            (Faults::All, Role::Client) => (all[random.below(6) as usize], 9_000),
            (Faults::All, _) => (all[random.below(7) as usize], 9_000),
        }
    }

    /// Draws how long nothing happens after a fault.
    fn calm(&self, random: &mut Random, faults: Faults) -> Duration {
        match (faults, self.role) {
            // It has to come back before the next.
            (Faults::Short, Role::Engine) => Duration::from_secs(2),
            (Faults::Short, _) => random.ms(1_000),
            (Faults::All, _) => random.ms(6_000),
        }
    }

    fn suffer(&self, sim: &mut Sim<'_>, fault: Fault, random: &mut Random, scene: &Scene) {
        let host = &*self.name;
        if let Fault::Cut | Fault::CutAndHeld = fault {
            let sides: &[Side] = match random.below(3) {
                0 => &[Side::Dialler],
                1 => &[Side::Controller],
                _ => &[Side::Dialler, Side::Controller],
            };
            sides.iter().for_each(|side| scene.links.cut(host, *side));
        }
        match fault {
            Fault::Cut => {}
            Fault::Held | Fault::CutAndHeld => sim.hold("controller", host),
            Fault::Away => sim.partition("controller", host),
            Fault::Deaf => sim.partition_oneway("controller", host),
            Fault::Mute => sim.partition_oneway(host, "controller"),
            Fault::Dead => sim.crash(host),
        }
    }

    fn mend(&self, sim: &mut Sim<'_>, fault: Fault) {
        let host = &*self.name;
        match fault {
            Fault::Cut => {}
            Fault::Held | Fault::CutAndHeld => sim.release("controller", host),
            Fault::Away => sim.repair("controller", host),
            Fault::Deaf => sim.repair_oneway("controller", host),
            Fault::Mute => sim.repair_oneway(host, "controller"),
            Fault::Dead => sim.bounce(host),
        }
    }
}

/// Plays seeds; returns how many tasks started, sessions of engines were resumed, and results were disconnected.
fn play_all(usually: u64, faults: Faults) -> (usize, u32, u32) {
    let (seeds, mut struck, mut left, mut sums) = (seeds(usually), 0, 0, (0, 0, 0));
    let cases = seeds.end - seeds.start;
    for seed in seeds {
        let scene = play(seed, |seed| simulate(seed, faults));
        struck += *scene.world.faults.borrow();
        left += scene.left.get();
        let (tasks, resumed, disconnected) = sums;
        let started = scene.world.starts.borrow().len();
        sums = (tasks + started, resumed + scene.resumed.get(), disconnected + scene.disconnected.get());
    }
    let (tasks, resumed, disconnected) = sums;
    println!(
        "{faults:?}: {cases} of {cases} seeds: {tasks} tasks, {struck} faults, {resumed} resumed, {left} left, {disconnected} disconnected"
    );
    assert!(left >= cases as u32, "there is no test where nobody leaves");
    assert!(struck >= 10 * cases as u32 && resumed >= cases as u32, "there is no test without faults");
    sums
}

#[test]
fn who_comes_back_at_once_loses_nothing_and_has_nothing_run_twice() {
    let (_, _, disconnected) = play_all(6, Faults::Short);
    assert_eq!(disconnected, 0);
}

#[test]
fn whoever_is_cut_off_for_however_long_has_every_result_settled_once_and_works_again() {
    let (_, _, disconnected) = play_all(6, Faults::All);
    assert!(disconnected > 0 || std::env::var_os("CALLBOARD_SEED").is_some(), "nobody was away for long");
}

#[test]
fn a_seed_of_sessions_that_last_is_played_again_as_it_was() {
    for (seed, faults) in [(3, Faults::Short), (4, Faults::All)] {
        assert_alike(&simulate(seed, faults).world, &simulate(seed, faults).world, seed);
    }
}
