//! The Scheduler, the ledger, the result store, gateways and sessions as they are, on a network that is simulated: messages
//! that are late, links that break and heal, engines that crash, come back, and say things twice. Time is virtual.
//!
//! Each seed is a run of its own. `CALLBOARD_SEED` replays one, `CALLBOARD_CASES` says how many there are.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use super::engine::{assignment, end};
use super::mark::mixed;
use super::{Begun, Fate, Gateway, GatewayParts, Lost, Mark, Process};
use crate::actors::Threads;
use crate::attempt;
use crate::client::Client;
use crate::controller::Actors;
use crate::ledger::{Assignment, EngineOffer, Policy};
use crate::limits::Limits;
use crate::messages::Completion;
use crate::registry::Registry;
use crate::task::{Attempt, EngineId, Payload, Retries, Span, Status, Task, TaskContext, TaskFailure, TaskId, Value};
use crate::wire::frame::{Lane, Message};
use crate::wire::handshake::{Hello, Role, join, welcome};
use crate::wire::protocol::{FromEngine, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Heard, SessionLimits, Speaker};
use crate::{AsyncMapResult, AsyncResult, TaskError, With};

/// Squares, and counts nothing: who starts it does. Some cannot be encoded.
#[derive(Clone, Debug, Deserialize)]
struct Square(u64);

impl Serialize for Square {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if is_shy(self.0) { Err(serde::ser::Error::custom("shy")) } else { self.0.serialize(serializer) }
    }
}

fn is_shy(x: u64) -> bool {
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
const PORT: u16 = 1;
/// How long faults go on; what is pending then settles soon.
const FAULTS_S: u64 = 30;
/// By when all is settled, in seconds after the last fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random, the same for the same seed: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let number = mixed(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn ms(&mut self, max: u64) -> Duration {
        Duration::from_millis(self.below(max))
    }
}

/// What everybody in a simulation sees, as only a simulation can.
#[derive(Default)]
struct World {
    starts: RefCell<HashMap<TaskId, u32>>,
    faults: RefCell<u32>,
    /// What started where, and when; and what became of it.
    trace: RefCell<Vec<(Duration, String)>>,
}

impl World {
    fn note(&self, what: String) {
        self.trace.borrow_mut().push((turmoil::sim_elapsed().unwrap_or_default(), what));
    }
}

/// One life of an engine: what its controller knows of it, if it does.
#[derive(Default)]
struct Life {
    /// 0 is nothing.
    begun: AtomicU64,
    is_killed: AtomicBool,
    is_unknown: bool,
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

fn hello(role: Role, incarnation: u64) -> Hello {
    Hello { role, cluster: 7, incarnation, build: 1 }
}

/// An engine that works inline: connects, joins, runs what it gets one after the other, and comes back when it is lost.
async fn engine(seed: u64, world: Rc<World>, lives: Lives, is_unknown: bool) -> turmoil::Result {
    let mut random = Random(seed);
    // So that one that crashed and comes back is another.
    random.0 ^= turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64;
    loop {
        sleep(random.ms(200)).await;
        let Ok(Ok(mut stream)) = timeout(Duration::from_secs(2), TcpStream::connect(("controller", PORT))).await else {
            continue;
        };
        let life = Arc::new(Life { is_unknown, ..Life::default() });
        let incarnation = random.next();
        lives.borrow_mut().insert(incarnation, life.clone());
        let hello = hello(Role::Engine, incarnation);
        if join(&mut stream, &hello, &Default::default(), Duration::from_secs(5)).await.is_err() {
            continue;
        }
        let (tell, told) = unbounded_channel();
        let speaker = Speaker::new(limits());
        let (reader, writer) = stream.into_split();
        let hear = |heard: Heard| {
            let said: ToEngine = decode(&heard.message)?;
            // Whoever works is gone only when this is.
            let _ = tell.send((said, heard.message));
            Ok(())
        };
        tokio::select! {
            biased;
            _ = run(reader, writer, &speaker, hear) => {}
            () = work(&world, &life, &mut random, speaker.clone(), told) => {}
        }
    }
}

/// Does what the controller says, until it is killed.
async fn work(
    world: &World,
    life: &Life,
    random: &mut Random,
    speaker: Speaker,
    mut told: UnboundedReceiver<(ToEngine, Message)>,
) {
    let registry = Registry::auto().expect("no task is there twice");
    let (mut tray, mut id) = (VecDeque::<Assignment>::new(), EngineId(0));
    let say = |what: &FromEngine, buffers| drop(speaker.say(Lane::Bulk, encode(what, buffers)));
    let back = |tasks: Vec<Assignment>| {
        let span = |task: &Assignment| (Span { first: task.id, count: task.payload.count() }, task.attempt);
        if !tasks.is_empty() {
            say(&FromEngine::Back(tasks.iter().map(span).collect()), Vec::new());
        }
    };
    loop {
        let runs = Duration::from_millis(if tray.is_empty() { u64::MAX / 4 } else { random.below(60) });
        let next = tokio::select! {
            biased;
            next = told.recv() => next,
            () = sleep(runs) => {
                if life.is_killed.load(Ordering::Relaxed) {
                    return;
                }
                let Some(task) = tray.pop_front() else { continue };
                let ended = make(world, life, &registry, id, task);
                let times = if random.once_in(100) { 2 } else { 1 };
                let mut buffers = Vec::new();
                let ends = vec![end(ended, &mut buffers)];
                for _ in 0..times {
                    say(&FromEngine::Ended(ends.clone()), buffers.clone());
                }
                continue;
            }
        };
        match next {
            Some((ToEngine::Joined(given), _)) => id = given,
            Some((ToEngine::Run(calls), message)) => {
                tray.extend(calls.into_iter().map(|call| assignment(call, &message).expect("it is whole")));
            }
            Some((ToEngine::Revoke(tasks), _)) => {
                let (gone, left): (VecDeque<_>, VecDeque<_>) =
                    tray.drain(..).partition(|task: &Assignment| tasks.contains(&task.id));
                tray = left;
                back(Vec::from(gone));
            }
            Some((ToEngine::Recall, _)) => back(tray.drain(..).collect()),
            Some((ToEngine::Stop, _)) => {
                back(tray.drain(..).collect());
                speaker.close(super::STOPPED);
            }
            None => return,
        }
    }
}

/// Makes one attempt, or one of each of several items, as a worker does.
fn make(world: &World, life: &Life, registry: &Registry, engine: EngineId, task: Assignment) -> Completion {
    let Assignment { id, attempt, payload, .. } = task;
    let mut cx = TaskContext::here();
    (cx.task, cx.attempt, cx.engine) = (id, attempt, Some(engine));
    let begins = |cx: &TaskContext| {
        *world.starts.borrow_mut().entry(cx.task).or_default() += 1;
        world.note(format!("{} starts at {engine}, attempt {}", cx.task.seq, cx.attempt));
        life.begun.store(Mark::of(cx.task, cx.attempt).number(), Ordering::Relaxed);
    };
    let Payload::Wire(call) = payload else { unreachable!("it came over the wire") };
    let mut call = registry.decode(&call).expect("the task is known").expect("it can be read");
    let (count, outcome) = match call.as_chunk() {
        Some(mut chunk) => {
            attempt::make_each(&mut *chunk, "Square", &mut cx, &begins);
            let (count, value, _) = chunk.finish();
            (count, Ok(value))
        }
        None => {
            begins(&cx);
            let encoded = |value| match value {
                Value::Typed(value) => Value::Wire(Box::new(value.encode().expect("it can").expect("it is"))),
                wire @ Value::Wire(_) => wire,
            };
            (1, attempt::make(call, &cx).map(encoded))
        }
    };
    let ran = Some(Duration::from_millis(10));
    Completion { id, count, attempt, engine: Some(engine), at: None, ran, outcome, kept: None, printed: None }
}

/// Speaks with an engine from its first word to its end, as the parent of a child does.
async fn attend(mut stream: TcpStream, actors: Rc<Actors>, lives: Lives) {
    let Ok((theirs, _)) = welcome(&mut stream, &hello(Role::Controller, 1), Duration::from_secs(5)).await else {
        return;
    };
    let life = lives.borrow()[&theirs.incarnation].clone();
    let speaker = Speaker::new(limits());
    let parts = GatewayParts {
        scheduler: actors.addresses.scheduler.clone(),
        finished: actors.parts.finished.clone(),
        speaker: speaker.clone(),
        offer: EngineOffer { slots: 1, is_local: false, tasks: None },
        fate: Arc::new(Fate::default()),
        process: life.clone(),
        printed: Box::new(|_, _| ()),
        printed_bytes_max: 0,
        tasks_max: None,
    };
    let (gateway, _) = Gateway::join(parts);
    let (reader, writer) = stream.into_split();
    let ending = super::attend(reader, writer, &speaker, &gateway).await;
    if !life.is_unknown {
        // Before anybody asks how far it has come.
        life.kill();
    }
    gateway.do_send(Lost { cause: ending.to_string().into(), unread: Vec::new() });
}

/// What was submitted, and what it may come to.
enum Submitted {
    One(u64, AsyncResult<u64>),
    Map(u64, AsyncMapResult<u64>),
    /// Items of a map that are results of their own, and given up one by one.
    Items(u64, Vec<AsyncResult<u64>>),
}

/// The controller, and a client of it that submits work and judges what becomes of it.
async fn controller(seed: u64, world: Rc<World>, lives: Lives, is_unknown: bool) -> turmoil::Result {
    let mut random = Random(seed);
    let limits = Limits { spin_us: 0, ..Limits::default() };
    let registry = Registry::auto()?;
    let actors = Rc::new(Actors::start(limits, registry, Policy::default(), Arc::new(Threads::default())));
    let rc = Client::new(actors.link.clone(), actors.addresses.clone());
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (attended, attending) = (actors.clone(), lives.clone());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(attend(stream, attended.clone(), attending.clone()));
        }
    });

    let mut submitted = Vec::new();
    let mut x = 0;
    while turmoil::sim_elapsed().unwrap_or_default() < Duration::from_secs(FAULTS_S) {
        let view = rc.load_balanced();
        let (retries, on_loss) = (random.below(3) as u16, random.below(4) as u16);
        let with = view.with().retries(retries).retries_on_loss(on_loss);
        let retries = Retries { errors: retries, losses: on_loss };
        if random.once_in(5) {
            let items = 1 + random.below(40);
            let with = if random.once_in(2) { with.chunksize(1 + random.below(20) as u32) } else { with };
            let map = with.map(Square, x..x + items);
            let is_split = random.once_in(2);
            let which = if is_split { Submitted::Items(x, map.split()) } else { Submitted::Map(x, map) };
            submitted.push((retries, false, which));
            x += items;
        } else {
            submitted.push((retries, false, Submitted::One(x, with.apply(Square(x)))));
            x += 1;
        }
        if random.once_in(12) {
            let at = random.below(submitted.len() as u64) as usize;
            let (_, is_cancelled, which) = &mut submitted[at];
            *is_cancelled = true;
            match which {
                Submitted::One(_, ar) => drop(ar.cancel("no need")),
                Submitted::Map(_, map) => drop(map.cancel("no need")),
                Submitted::Items(_, items) => {
                    items.iter().filter(|_| random.once_in(2)).for_each(|item| _ = item.cancel("no need"));
                }
            }
        }
        sleep(random.ms(300)).await;
    }

    let count = x;
    for (retries, is_cancelled, which) in submitted {
        let judge = |x: u64, id: TaskId, outcome: Result<u64, TaskError>| {
            let starts = world.starts.borrow().get(&id).copied().unwrap_or(0);
            let most = 1 + u32::from(retries.errors.max(retries.losses));
            assert!(starts <= most, "task {id} ({x}) started {starts} times, and {most} are allowed");
            world.note(format!("{x}: {:?}", outcome.as_ref().map_err(TaskError::status)));
            match outcome {
                Ok(value) => assert_eq!((value, x % 11 == 10, is_shy(x)), (x * x, false, false)),
                Err(TaskError::Undecodable { .. }) => assert!(is_shy(x) && starts == 0, "task {id} can be encoded"),
                Err(TaskError::Failed { .. }) => assert_eq!(x % 11, 10, "task {id} failed, and should not"),
                Err(TaskError::Cancelled { .. }) => assert!(is_cancelled, "nobody cancelled {id}"),
                Err(TaskError::EngineLost { attempt, .. }) => {
                    assert!(attempt > Attempt(u32::from(retries.losses)), "{id} is lost at attempt {attempt}");
                    // Where it is known what had begun, nothing is lost that had not.
                    assert!(is_unknown || starts == attempt.0, "{id} is lost at {attempt}, and started {starts} times");
                }
                Err(other) => panic!("task {id}: {other:?}"),
            }
        };
        match which {
            Submitted::One(x, ar) => {
                let id = ar.id();
                judge(x, id, timeout(PATIENCE, ar).await.expect("it settles in time"));
            }
            Submitted::Map(x, map) => {
                for (x, ar) in (x..).zip(map.split()) {
                    judge(x, ar.id(), timeout(PATIENCE, ar).await.expect("it settles in time"));
                }
            }
            Submitted::Items(x, items) => {
                for (x, ar) in (x..).zip(items) {
                    judge(x, ar.id(), timeout(PATIENCE, ar).await.expect("it settles in time"));
                }
            }
        }
    }
    // Nothing is left: the ledger, and what waits for engines.
    for _ in 0..1_000 {
        let status = rc.queue_status().await?;
        if status.pending == 0 && status.engines.iter().all(|engine| engine.outstanding == 0) {
            assert_eq!(status.settled, count, "each counts once");
            let records = rc.records().await?;
            assert_eq!(records.len() as u64, count, "each has one record");
            assert!(records.iter().all(|record| record.status != Status::Pending));
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("something is left: {:?}", rc.queue_status().await?);
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
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, cases) = match number("CALLBOARD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CALLBOARD_CASES").unwrap_or(20)),
    };
    let (mut tasks, mut faults) = (0, 0);
    for seed in first..first + cases {
        let ran = std::panic::catch_unwind(|| simulate(seed));
        let world = ran.unwrap_or_else(|_| panic!("replay it with CALLBOARD_SEED={seed}"));
        (tasks, faults) = (tasks + world.starts.borrow().len(), faults + *world.faults.borrow());
    }
    println!("{cases} of {cases} seeds: {tasks} tasks, {faults} faults");
    assert!(faults >= 5 * cases as u32, "there is no test without faults");
}

#[test]
fn a_seed_is_played_again_as_it_was() {
    for seed in [3, 4] {
        let (first, second) = (simulate(seed), simulate(seed));
        let (first, second) = (first.trace.borrow(), second.trace.borrow());
        let differs = first.iter().zip(&*second).position(|(one, other)| one != other);
        assert_eq!(differs.map(|at| (&first[at], &second[at])), None, "seed {seed}");
        assert!(first.len() == second.len() && first.len() > 100, "{} and {}", first.len(), second.len());
    }
}
