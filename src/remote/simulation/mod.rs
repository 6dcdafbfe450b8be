//! The Scheduler, the ledger, the result store, gateways and sessions as they are, on a network that is simulated: messages
//! that are late, links that break and heal, engines that crash, come back, and say things twice. Time is virtual.
//!
//! Each seed is a run of its own. `CALLBOARD_SEED` replays one, `CALLBOARD_CASES` says how many there are.

mod controller;
mod engine;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::controller::controller;
use self::engine::engine;
pub(crate) use self::engine::work;
use super::mark::mixed;
use super::{Begun, Mark, Process};
use crate::task::{Task, TaskContext, TaskFailure, TaskId};
use crate::wire::handshake::{Hello, Role};
use crate::wire::session::SessionLimits;

/// Squares, and counts nothing: who starts it does. Some cannot be encoded.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Square(pub(crate) u64);

impl Serialize for Square {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if is_shy(self.0) { Err(serde::ser::Error::custom("shy")) } else { self.0.serialize(serializer) }
    }
}

pub(crate) fn is_shy(x: u64) -> bool {
    x % 37 == 36
}

impl Task for Square {
    type Output = u64;
    const NAME: &'static str = "simulation::Square";

    fn run(self, _: &TaskContext) -> Result<u64, TaskFailure> {
        if self.0 % 11 == 10 { Err(TaskFailure::new("ends in ten")) } else { Ok(self.0 * self.0) }
    }
}

crate::register_task!(Square);

const ENGINES: usize = 3;
pub(crate) const PORT: u16 = 1;
/// How long faults go on; what is pending then settles soon.
pub(crate) const FAULTS_S: u64 = 30;
/// By when all is settled, in seconds after the last fault.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random, the same for the same seed: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        let number = mixed(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn ms(&mut self, max: u64) -> Duration {
        Duration::from_millis(self.below(max))
    }
}

/// What everybody in a simulation sees, as only a simulation can.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) starts: RefCell<HashMap<TaskId, u32>>,
    pub(crate) faults: RefCell<u32>,
    /// What started where, and when; and what became of it.
    pub(crate) trace: RefCell<Vec<(Duration, String)>>,
}

impl World {
    pub(crate) fn note(&self, what: String) {
        self.trace.borrow_mut().push((turmoil::sim_elapsed().unwrap_or_default(), what));
    }
}

/// Asserts that a seed went twice as it did once.
pub(crate) fn assert_alike(first: &World, second: &World, seed: u64) {
    let (first, second) = (first.trace.borrow(), second.trace.borrow());
    let differs = first.iter().zip(&*second).position(|(one, other)| one != other);
    assert_eq!(differs.map(|at| (&first[at], &second[at])), None, "seed {seed}");
    assert!(first.len() == second.len() && first.len() > 100, "{} and {}", first.len(), second.len());
}

/// Returns which seeds are to be played.
pub(crate) fn seeds(usually: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("CALLBOARD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CALLBOARD_CASES").unwrap_or(usually),
    }
}

/// Plays a seed; if that fails it is said which it was.
pub(crate) fn play<T>(seed: u64, simulate: impl FnOnce(u64) -> T) -> T {
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| simulate(seed)));
    ran.unwrap_or_else(|_| panic!("replay it with CALLBOARD_SEED={seed}"))
}

/// One life of an engine: what its controller knows of it, if it does.
#[derive(Default)]
pub(crate) struct Life {
    /// 0 is nothing.
    begun: AtomicU64,
    is_killed: AtomicBool,
    is_unknown: bool,
    /// It says some outcomes twice, and is cut off for it.
    stammers: bool,
}

impl Process for Life {
    fn begun(&self) -> Begun {
        if self.is_unknown {
            return Begun::Unknown;
        }
        Mark::from_number(self.begun.load(Ordering::Relaxed)).map_or(Begun::Nothing, Begun::UpTo)
    }

    fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
    }
}

/// The lives of engines by their incarnation, for the controller to find.
type Lives = Rc<RefCell<HashMap<u64, Arc<Life>>>>;

fn limits() -> SessionLimits {
    SessionLimits { outbound_bytes_max: usize::MAX, ..SessionLimits::default() }
}

pub(crate) fn hello(role: Role, incarnation: u64) -> Hello {
    Hello { role, cluster: 7, incarnation, build: 1 }
}

/// Runs one seed; returns what happened.
fn simulate(seed: u64) -> Rc<World> {
    let mut random = Random(seed);
    let is_unknown = seed % 2 == 1;
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(FAULTS_S + 200))
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(1 + random.below(80)))
        .enable_random_order()
        .rng_seed(seed)
        .build();
    let (world, lives) = (Rc::new(World::default()), Lives::default());
    for number in 0..ENGINES {
        let (world, lives, seed) = (world.clone(), lives.clone(), random.next());
        sim.host(format!("engine-{number}"), move || engine(seed, world.clone(), lives.clone(), is_unknown));
    }
    sim.client("controller", controller(random.next(), world.clone(), lives.clone(), is_unknown));

    // What is broken, and when it is mended.
    let mut broken: [Option<(Duration, Fault)>; ENGINES] = [None; ENGINES];
    loop {
        if sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
            break;
        }
        let now = sim.elapsed();
        for (number, broken) in broken.iter_mut().enumerate() {
            let host = format!("engine-{number}");
            match *broken {
                Some((until, fault)) if now >= until || now.as_secs() >= FAULTS_S => {
                    match fault {
                        Fault::Cut => sim.repair("controller", &*host),
                        Fault::OneWay => sim.repair_oneway("controller", &*host),
                        Fault::Held => sim.release("controller", &*host),
                        Fault::Dead => sim.bounce(&*host),
                    }
                    *broken = None;
                }
                None if now.as_secs() < FAULTS_S && random.once_in(500) => {
                    let fault = [Fault::Cut, Fault::OneWay, Fault::Held, Fault::Dead][random.below(4) as usize];
                    match fault {
                        Fault::Cut => sim.partition("controller", &*host),
                        Fault::OneWay => sim.partition_oneway("controller", &*host),
                        Fault::Held => sim.hold("controller", &*host),
                        Fault::Dead => sim.crash(&*host),
                    }
                    *world.faults.borrow_mut() += 1;
                    *broken = Some((now + random.ms(9_000), fault));
                }
                _ => {}
            }
        }
    }
    world
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing passes between the two.
    Cut,
    /// Nothing of the controller's passes.
    OneWay,
    /// What is sent comes later, all at once.
    Held,
    /// The engine is gone, and is started again.
    Dead,
}

#[test]
fn every_task_settles_once_whatever_becomes_of_the_network_and_the_engines() {
    let (seeds, mut tasks, mut faults) = (seeds(20), 0, 0);
    let cases = seeds.end - seeds.start;
    for seed in seeds {
        let world = play(seed, simulate);
        (tasks, faults) = (tasks + world.starts.borrow().len(), faults + *world.faults.borrow());
    }
    println!("{cases} of {cases} seeds: {tasks} tasks, {faults} faults");
    assert!(faults >= 5 * cases as u32, "there is no test without faults");
}

#[test]
fn a_seed_is_played_again_as_it_was() {
    for seed in [3, 4] {
        assert_alike(&simulate(seed), &simulate(seed), seed);
    }
}
