//! A program that drops everything it holds, in any order, never hangs and leaves nothing behind. One test,
//! because it counts what the whole process has: threads, descriptors, bytes on the heap.
//!
//! A failure names its seed; `CALLBOARD_SEED=.. cargo test --test drop_order` tries that one again, in every
//! host. `CALLBOARD_CASES` is how many orders each host tries.
#![allow(clippy::unwrap_used)]

use std::alloc::System as Heap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{EngineEvent, Promise, ReturnWhen, ThreadPoolExecutor, as_completed, wait};
use cap::Cap;
use serde::{Deserialize, Serialize};

mod support;
use support::{descriptors, eventually, our_threads, threads};

#[global_allocator]
static HEAP: Cap<Heap> = Cap::new(Heap, usize::MAX);

/// Everything that is carried by a task, a value or a callback holds one of these.
static LIVE: Mutex<Option<Arc<()>>> = Mutex::new(None);

#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "()", into = "()")]
struct Token(#[allow(dead_code)] Arc<()>);

fn token() -> Token {
    Token(LIVE.lock().unwrap().get_or_insert_default().clone())
}

impl From<()> for Token {
    fn from((): ()) -> Self {
        token()
    }
}

impl From<Token> for () {
    fn from(_: Token) {}
}

fn tokens() -> usize {
    Arc::strong_count(LIVE.lock().unwrap().get_or_insert_default()) - 1
}

/// Runs until it is cancelled, or for a short while.
#[task]
fn busy(cx: &TaskContext, token: Token, ms: u64) -> Token {
    let started = Instant::now();
    while !cx.is_cancelled() && started.elapsed() < Duration::from_millis(ms) {
        std::thread::sleep(Duration::from_micros(200));
    }
    token
}

/// A subscriber.
struct Listener(#[allow(dead_code)] Token);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TaskDone> for Listener {
    type Result = ();
    fn handle(&mut self, _: TaskDone, _: &mut Context<Self>) {}
}

#[derive(Message)]
#[rtype(result = "()")]
struct Piped(#[allow(dead_code)] Result<Token, TaskError>);

impl From<Result<Token, TaskError>> for Piped {
    fn from(outcome: Result<Token, TaskError>) -> Self {
        Self(outcome)
    }
}

impl Handler<EngineEvent> for Listener {
    type Result = ();
    fn handle(&mut self, _: EngineEvent, _: &mut Context<Self>) {}
}

impl Handler<Piped> for Listener {
    type Result = ();
    fn handle(&mut self, _: Piped, _: &mut Context<Self>) {}
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Something that a program holds.
type Piece = Box<dyn Send>;

fn busy_for(random: &mut Random) -> busy {
    busy(token(), [0, 1, 3, 20_000][random.below(4)])
}

/// What one can hold of maps, executors, promises, and of engines that come and go.
fn many_at_once(cluster: &Cluster, random: &mut Random, hold: &mut impl FnMut(Piece)) {
    let rc = cluster.client();
    let view = rc.load_balanced().with().chunksize([0, 1, 5][random.below(3)]);
    let some = |random: &mut Random| (0..random.below(30)).map(|_| busy_for(random)).collect::<Vec<_>>();
    let same = |task| task;

    hold(Box::new(view.map(same, some(random))));
    hold(Box::new(view.map(same, some(random)).cancel_on_drop()));
    hold(Box::new(rc.every().map(same, some(random))));
    hold(Box::new(view.map(same, some(random)).split()));
    hold(Box::new(AsyncMapResult::join(some(random).into_iter().map(|task| view.apply(task)))));
    hold(Box::new(AsyncMapResult::join(view.map(same, some(random)).split()).cancel_on_drop()));
    let carried = token();
    let map = view.map(same, some(random));
    let _ = map.add_done_callback(move |ar| drop((carried, ar.progress())));
    hold(Box::new(map.stream()));
    hold(Box::new(view.map(same, some(random)).as_completed()));
    hold(Box::new(view.map(same, some(random)).cancel_on_drop().into_iter()));

    hold(Box::new(wait(some(random).into_iter().map(|task| view.apply(task)), ReturnWhen::AllCompleted)));
    hold(Box::new(as_completed(some(random).into_iter().map(|task| view.apply(task)))));
    let (promise, promised) = Promise::new("promised");
    let carried = token();
    let _ = promised.add_done_callback(move |_| drop(carried));
    hold(Box::new(promised));
    match random.below(3) {
        0 => promise.fulfil(token()),
        1 => hold(Box::new(promise)),
        _ => drop(promise),
    }

    let pool = ThreadPoolExecutor::new(2).unwrap();
    let executors: [Box<dyn Executor>; 3] = [Box::new(pool), Box::new(rc.executor()), Box::new(rc.every().executor())];
    for executor in executors {
        // A pool of threads finishes what is detached; here that would take its time.
        hold(Box::new(executor.submit(busy_for(random)).cancel_on_drop()));
        // Maps borrow their executor: half read, they go first, and cancel the rest.
        drop(executor.map(same, some(random)));
        drop(executor.map_unordered(same, some(random)).into_stream());
        if random.below(2) == 0 {
            hold(Box::new(executor.shutdown(Pending::Cancel)));
        }
        hold(Box::new(executor));
    }

    drop(rc.all().push("token", token()));
    hold(Box::new(rc.all().pull::<Token>("token")));
    hold(Box::new(rc.engine_events()));
    hold(Box::new(rc.wait()));
    hold(Box::new(cluster.add_threads(1)));
    if random.below(2) == 0 {
        hold(Box::new(cluster.remove_engines(rc.ids())));
    }
}

/// A cluster, and everything that one can hold of it.
fn world(random: &mut Random) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut hold = |piece: Piece| pieces.push(piece);
    let cluster = Cluster::threads(2).start().unwrap();
    let rc = cluster.client();
    let (one, view) = (rc.engine(random.below(2) as i64).unwrap(), rc.load_balanced());

    // Results that are done, running and pending; the first two long ones keep both engines.
    let mut done = one.apply(busy(token(), 0));
    hold(Box::new(one.apply(busy_for(random))));
    hold(Box::new(view.apply(busy_for(random)).cancel_on_drop()));
    hold(Box::new(rc.all().apply(busy_for(random))));
    for _ in 0..random.below(20) {
        hold(Box::new(view.apply(busy_for(random))));
    }
    hold(Box::new(view.apply(busy_for(random)).cancel_on_drop()));
    hold(Box::new(rc.all().apply(busy_for(random))));
    hold(Box::new(view.with().label("kept").keep().deadline(Duration::from_millis(2)).apply(busy_for(random))));
    if random.below(2) == 0 {
        done.cancel("it need not be done");
    }
    if random.below(2) == 0 {
        let _ = done.take_timeout(Duration::from_millis(2));
    }

    // Questions that nobody waits for.
    hold(Box::new(rc.queue_status()));
    hold(Box::new(rc.wait_for_engines(99)));
    hold(Box::new(rc.records()));
    hold(Box::new(rc.fetch::<Token>(done.id())));
    if random.below(4) == 0 {
        hold(Box::new(rc.shutdown(Pending::Finish)));
    }

    // A result in a callback of its own, and a callback that holds a view of its cluster.
    let place = Arc::new(Mutex::new(None));
    let own = view.apply(busy_for(random));
    let (inside, carried) = (place.clone(), token());
    let _ = own.add_done_callback(move |_| {
        drop(inside.lock().unwrap().take());
        drop(carried);
    });
    *place.lock().unwrap() = Some(own);
    hold(Box::new(place));
    let holds = (view.clone(), token());
    let _ = done.add_done_callback(move |_| drop(holds.0.apply(busy(holds.1, 0))));

    // Tasks that hold a client, and a result, of their own cluster.
    let (client, ar) = (rc.clone(), view.apply(busy_for(random)));
    hold(Box::new(view.apply_fn(move || drop((client, ar)))));

    // A callback, and a task, that hold the last handle on their own cluster.
    let inner = Cluster::threads(1).start().unwrap();
    let last = inner.client().load_balanced().apply(busy(token(), 2));
    let carried = (inner, token());
    let _ = last.add_done_callback(move |_| drop(carried));
    hold(Box::new(last));
    let inner = Cluster::threads(2).start().unwrap();
    let view_of_inner = inner.client().load_balanced();
    let carried = (inner, token());
    hold(Box::new(view_of_inner.apply_fn(move || drop(carried))));
    // What is behind it may still be in the queue when its cluster ends.
    hold(Box::new(view_of_inner.apply(busy_for(random))));

    many_at_once(&cluster, random, &mut hold);

    // Subscribers, where there are actors.
    if System::is_registered() {
        let listener = Listener(token()).start();
        let _ = done.on_done(listener.clone().recipient());
        hold(Box::new(rc.on_engine_event(listener.clone().recipient())));
        let told = view.apply(busy_for(random));
        let _ = told.on_done(listener.clone().recipient());
        let _ = told.pipe_to(listener.clone().recipient::<Piped>());
        hold(Box::new(listener));
    }
    hold(Box::new(done));
    hold(Box::new(one));
    hold(Box::new(view));
    hold(Box::new(rc.all()));
    hold(Box::new(rc));
    hold(Box::new(cluster));
    pieces
}

/// Drops the pieces in the order of the seed, some on other threads; returns those threads.
fn drop_all(mut pieces: Vec<Piece>, random: &mut Random) -> Vec<std::thread::JoinHandle<()>> {
    let mut elsewhere = Vec::new();
    while !pieces.is_empty() {
        let piece = pieces.swap_remove(random.below(pieces.len()));
        match random.below(4) {
            0 => elsewhere.push(std::thread::spawn(move || drop(piece))),
            _ => drop(piece),
        }
    }
    elsewhere
}

fn in_plain_threads(seed: u64) {
    let mut random = Random(seed);
    let pieces = world(&mut random);
    drop_all(pieces, &mut random).into_iter().for_each(|thread| thread.join().unwrap());
}

async fn in_async(seed: u64) {
    let mut random = Random(seed);
    let pieces = world(&mut random);
    if random.below(2) == 0 {
        tokio::task::yield_now().await;
    }
    let elsewhere = drop_all(pieces, &mut random);
    // On a thread for it: a thread that drives a runtime does not wait for others.
    tokio::task::spawn_blocking(|| elsewhere.into_iter().for_each(|thread| thread.join().unwrap())).await.unwrap();
}

fn in_tokio_of_one_thread(seed: u64) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(in_async(seed));
}

fn in_tokio_of_several_threads(seed: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(in_async(seed)).await.unwrap() });
}

fn in_actix(seed: u64) {
    System::new().block_on(in_async(seed));
}

/// The system ends while everything is held; the rest is dropped after it.
fn after_an_actix_system(seed: u64) {
    let mut random = Random(seed);
    let system = System::new();
    let pieces = system.block_on(async { world(&mut random) });
    if random.below(2) == 0 {
        system.block_on(async { System::current().stop() });
        system.run().unwrap();
    } else {
        drop(system);
    }
    drop_all(pieces, &mut random).into_iter().for_each(|thread| thread.join().unwrap());
}

/// A kind of program, and what tries one order in it.
type Host = (&'static str, fn(u64));

/// Runs one order on a thread of its own, for at most 20 s.
fn within_a_deadline(host: &str, seed: u64, run: fn(u64)) {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        run(seed);
        let _ = tell.send(());
    });
    match told.recv_timeout(Duration::from_secs(20)) {
        Err(RecvTimeoutError::Timeout) => panic!("{host} hangs; CALLBOARD_SEED={seed} tries it again"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
    }
    assert!(thread.join().is_ok(), "{host} panicked; CALLBOARD_SEED={seed} tries it again");
    eventually(&format!("{host} leaves nothing it carried; CALLBOARD_SEED={seed}"), || tokens() == 0);
    eventually(&format!("{host} leaves no thread; CALLBOARD_SEED={seed}"), || our_threads().is_empty());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn whatever_is_dropped_in_whatever_order_nothing_hangs_and_nothing_is_left() {
    let cases = number("CALLBOARD_CASES").unwrap_or(60);
    let hosts: [Host; 5] = [
        ("plain threads", in_plain_threads),
        ("tokio of one thread", in_tokio_of_one_thread),
        ("tokio of several threads", in_tokio_of_several_threads),
        ("actix", in_actix),
        ("an actix system that ends first", after_an_actix_system),
    ];
    if let Some(seed) = number("CALLBOARD_SEED") {
        hosts.into_iter().for_each(|(host, run)| within_a_deadline(host, seed, run));
        return;
    }
    let threads_before = threads();
    let start = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    println!("from seed {start}");
    for (host, run) in hosts {
        // The first ones fill thread-locals and tables of the process.
        (0..10).for_each(|case| within_a_deadline(host, start ^ case, run));
        eventually(&format!("{host}: the threads of runtimes end"), || threads() == threads_before);
        let (descriptors_before, bytes_before) = (descriptors(), HEAP.allocated());
        let started = Instant::now();
        for case in 0..cases {
            within_a_deadline(host, start.wrapping_add(case), run);
        }
        eventually(&format!("{host}: as many threads as before"), || threads() == threads_before);
        eventually(&format!("{host}: as many descriptors as before"), || descriptors() == descriptors_before);
        let grown = HEAP.allocated() as i64 - bytes_before as i64;
        println!("{host}: {cases} orders in {:?}, {grown} bytes more on the heap", started.elapsed());
        // Less than a hundred bytes an order: the smallest of what is held is larger.
        assert!(grown < 50 * cases as i64 + 4_096, "{host}: {grown} bytes more after {cases} orders from seed {start}");
    }
}
