//! At home in every kind of program: one suite, run unchanged in a plain `main`, in tokio of both flavours, in
//! actix and in the workers of actix-web.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Waking, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{AsyncResult, EngineEvent, Error, Promise, ReturnWhen, ThreadPoolExecutor, wait};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(10);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[task]
fn fails(with: String) -> Result<u64, String> {
    Err(with)
}

/// Runs until it is cancelled.
#[task]
fn until_cancelled(cx: &TaskContext) {
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the thread that polls the suite drives a runtime.
#[derive(Clone, Copy, PartialEq)]
enum Polled {
    ByARuntime,
    ByAPlainThread,
}

/// What callboard does the same in every program.
async fn suite(polled: Polled) {
    let cluster = Cluster::threads(2).start().unwrap();
    let rc = cluster.client();
    values(&rc).await;
    callbacks(&rc).await;
    cancel_and_deadline(&rc).await;
    maps_and_executors(&rc).await;
    engines_come_and_go(&cluster).await;
    blocking(&rc, polled).await;
    shutdown(cluster).await;
    two_clusters().await;
    a_cluster_dropped_while_work_runs().await;
}

async fn values(rc: &Client) {
    rc.wait_for_engines(2).await.unwrap();
    assert_eq!(rc.engine(-1).unwrap().apply(square(9)).await, Ok(81));
    assert_eq!(rc.all().apply(square(3)).await, Ok(vec![9, 9]));
    let view = rc.load_balanced();
    let many: Vec<_> = (0..50).map(|x| view.apply(square(x))).collect();
    for (x, ar) in (0..).zip(many) {
        assert_eq!(ar.await, Ok(x * x));
    }
    assert_eq!(view.apply_fn(|| "a closure").await, Ok("a closure"));
    assert!(
        matches!(view.apply(fails("no luck".into())).await, Err(TaskError::Failed { text, .. }) if &*text == "no luck")
    );
    let panicked = view.apply_fn(|| -> u8 { panic!("a task of the suite panics") }).await;
    assert!(matches!(panicked, Err(TaskError::Panicked { .. })), "{panicked:?}");
    assert_eq!(rc.queue_status().await.unwrap().pending, 0);
}

async fn callbacks(rc: &Client) {
    let ar = rc.load_balanced().apply(square(4));
    let (tell, mut told) = mpsc::unbounded_channel();
    for i in 0..3 {
        let tell = tell.clone();
        ar.add_done_callback(move |ar| tell.send((i, ar.get())).unwrap()).unwrap();
    }
    drop(tell);
    for i in 0..3 {
        assert_eq!(told.recv().await, Some((i, Ok(16))), "in the order of registration");
    }
    assert_eq!(told.recv().await, None, "each once");
}

async fn cancel_and_deadline(rc: &Client) {
    let view = rc.load_balanced();
    let running: Vec<AsyncResult<()>> = (0..2).map(|_| view.apply(until_cancelled())).collect();
    let queued = view.apply(square(1));
    assert!(queued.cancel("the suite says so"));
    assert_eq!(queued.await, Err(TaskError::Cancelled { reason: "the suite says so".into() }));
    for ar in running {
        drop(ar.cancel_on_drop());
    }
    assert_eq!(rc.all().apply(square(2)).await, Ok(vec![4, 4]), "both engines are free again");

    let deadline = Duration::from_millis(5);
    assert_eq!(view.with().deadline(deadline).apply(until_cancelled()).await, Err(TaskError::TimedOut { deadline }));
    assert_eq!(rc.all().apply(square(2)).await, Ok(vec![4, 4]), "an overdue task is asked to stop");
}

async fn maps_and_executors(rc: &Client) {
    let squares = || (0..1_000).map(|x| x * x).collect::<Vec<u64>>();
    assert_eq!(rc.load_balanced().map(square, 0..1_000).await, Ok(squares()));
    assert_eq!(rc.all().map(square, 0..1_000).await, Ok(squares()));
    let streamed: Vec<_> = rc.load_balanced().map(square, 0..1_000).stream().collect().await;
    assert_eq!(streamed.into_iter().collect::<Result<Vec<_>, _>>(), Ok(squares()));
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let executors: Vec<Box<dyn Executor>> =
        vec![Box::new(pool), Box::new(rc.executor()), Box::new(rc.every().executor())];
    for executor in &executors {
        assert_eq!(executor.submit(square(5)).await, Ok(25));
        let mapped: Vec<_> = executor.map(square, 0..1_000).into_stream().collect().await;
        assert_eq!(mapped.into_iter().collect::<Result<Vec<_>, _>>(), Ok(squares()));
        executor.shutdown(Pending::Finish).await.unwrap();
        assert_eq!(executor.submit(square(5)).await, Err(TaskError::ShutDown));
    }
    let (promise, promised) = Promise::new("promised");
    let both = wait([rc.load_balanced().apply(square(6)), promised], ReturnWhen::AllCompleted);
    promise.fulfil(7);
    let values: Vec<_> = both.await.done.into_iter().map(|ar| ar.peek(Clone::clone)).collect();
    assert_eq!(values, [Some(Ok(36)), Some(Ok(7))]);
}

async fn engines_come_and_go(cluster: &Cluster) {
    let rc = cluster.client();
    let mut events = rc.engine_events();
    let added = cluster.add_threads(1).await.unwrap();
    assert_eq!(events.next().await, Some(EngineEvent::Joined { engine: added[0] }));
    assert_eq!(rc.every().apply(square(3)).await, Ok(vec![9; 3]));
    cluster.remove_engines(added).await.unwrap();
    assert!(matches!(events.next().await, Some(EngineEvent::Left { .. })));
    rc.wait().await.unwrap();
}

/// Blocking would stop a runtime, and is refused there; on a thread that is made for it, it is fine.
async fn blocking(rc: &Client, polled: Polled) {
    let ar = rc.load_balanced().apply(nap(20));
    if polled == Polled::ByAPlainThread {
        assert_eq!(ar.get(), Ok(20));
        assert_eq!(rc.all().apply(square(2)).get().unwrap(), [4, 4]);
        assert_eq!(rc.queue_status().get().unwrap().pending, 0);
        return;
    }
    assert_eq!(ar.get(), Err(TaskError::WouldBlock));
    assert_eq!(ar.get_timeout(Duration::from_secs(1)), Err(TaskError::WouldBlock));
    assert!(matches!(rc.all().apply(nap(20)).get(), Err(Error::WouldBlock)));
    assert!(matches!(rc.queue_status().get(), Err(Error::WouldBlock)));
    assert!(TaskError::WouldBlock.to_string().contains(".await"));
    let rc = rc.clone();
    let on_its_own = move || (ar.get(), rc.all().apply(square(2)).get().unwrap(), rc.queue_status().get().is_ok());
    assert_eq!(tokio::task::spawn_blocking(on_its_own).await.unwrap(), (Ok(20), vec![4, 4], true));
}

async fn shutdown(cluster: Cluster) {
    let rc = cluster.client();
    let view = rc.load_balanced();
    let pending: Vec<_> = (0..20).map(|x| view.apply(square(x))).collect();
    cluster.shutdown(Pending::Finish).await.unwrap();
    for (x, ar) in (0..).zip(pending) {
        assert_eq!((ar.ready(), ar.await), (true, Ok(x * x)));
    }
    assert_eq!(view.apply(square(1)).await, Err(TaskError::Disconnected));
    assert!(matches!(rc.queue_status().await, Err(Error::ClusterStopped)));
    assert!(matches!(rc.wait_for_engines(1).await, Err(Error::ClusterStopped)));
}

async fn two_clusters() {
    let (one, two) = (Cluster::threads(1).start().unwrap(), Cluster::threads(3).start().unwrap());
    assert_eq!((one.client().len(), two.client().len()), (1, 3));
    let inner = two.client();
    let nested = one.client().load_balanced().apply_fn(move || inner.load_balanced().apply(square(3)).get());
    assert_eq!(nested.await, Ok(Ok(9)), "a task may wait for another cluster");
    one.shutdown(Pending::Cancel).await.unwrap();
    assert_eq!(two.client().load_balanced().apply(square(4)).await, Ok(16), "the other one lives on");
}

async fn a_cluster_dropped_while_work_runs() {
    let cluster = Cluster::threads(1).start().unwrap();
    let view = cluster.client().load_balanced();
    let (returns, returned) = oneshot::channel::<()>();
    let (starts, started) = oneshot::channel::<()>();
    let left = Arc::new(AtomicBool::new(false));
    let leave = left.clone();
    let running = view.apply_fn(move || {
        drop(starts);
        let deadline = Instant::now() + PATIENCE;
        while !leave.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(returns);
    });
    let queued: Vec<_> = (0..10).map(|x| view.apply(square(x))).collect();
    assert!(started.await.is_err(), "it runs");
    // On a plain thread, dropping waits until what runs returns; so somebody else has it return, once the end
    // has begun.
    let probe = view.apply(square(1));
    let opener = std::thread::spawn(move || {
        let outcome = probe.get();
        left.store(true, Ordering::Release);
        assert!(matches!(outcome, Err(TaskError::Cancelled { .. })), "{outcome:?}");
    });
    drop(cluster);
    assert!(matches!(running.await, Err(TaskError::Cancelled { .. })));
    for ar in queued {
        assert!(matches!(ar.await, Err(TaskError::Cancelled { .. })));
    }
    assert!(returned.await.is_err(), "it returned, though nobody wants what it returns");
    opener.join().unwrap();
}

/// An actor of the program's own.
struct Listener {
    tell: mpsc::UnboundedSender<u64>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TaskDone> for Listener {
    type Result = ();
    fn handle(&mut self, _: TaskDone, _: &mut Context<Self>) {
        self.tell.send(0).unwrap();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Value(Result<u64, TaskError>);

impl From<Result<u64, TaskError>> for Value {
    fn from(outcome: Result<u64, TaskError>) -> Self {
        Self(outcome)
    }
}

impl Handler<Value> for Listener {
    type Result = ();
    fn handle(&mut self, msg: Value, _: &mut Context<Self>) {
        self.tell.send(msg.0.unwrap()).unwrap();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for Listener {
    type Result = ();
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("an actor of the program's own panics");
    }
}

/// What every program with actors of its own relies on.
async fn an_actor_that_panics_harms_nobody_else() {
    let cluster = Cluster::threads(1).start().unwrap();
    let rc = cluster.client();
    let view = rc.load_balanced();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (good, bad) = (Listener { tell: tell.clone() }.start(), Listener { tell }.start());

    // The one engine is kept until the actor is gone.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let held = view.apply_fn(move || gate.recv_timeout(PATIENCE).is_ok());
    let ar = view.apply(square(5));
    for listener in [&good, &bad] {
        ar.on_done(listener.clone().recipient()).unwrap();
        view.apply(square(6)).pipe_to(listener.clone().recipient::<Value>()).unwrap();
    }
    assert!(bad.send(Panic).await.is_err());
    assert!(!bad.connected());
    drop(open);

    assert_eq!(held.await, Ok(false));
    assert_eq!(ar.await, Ok(25));
    let mut values = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    values.sort_unstable();
    assert_eq!(values, [0, 36], "the other actor is told and gets its value");
    let deadline = Instant::now() + PATIENCE;
    while rc.queue_status().await.unwrap().undeliverable_callbacks < 2 {
        assert!(Instant::now() < deadline, "what the dead actor was to get is counted");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let status = rc.queue_status().await.unwrap();
    assert_eq!((status.undeliverable_callbacks, status.panicked_callbacks), (2, 0));
    assert!(told.try_recv().is_err(), "nothing came twice");
    assert_eq!(view.apply(square(7)).await, Ok(49));
    cluster.shutdown(Pending::Finish).await.unwrap();
}

/// Waiting must not stop the runtime: the task that is waited for ends only after a background has ticked.
async fn it_ticks_while_it_waits() {
    let cluster = Cluster::threads(1).start().unwrap();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let ar = cluster.client().load_balanced().apply_fn(move || gate.recv_timeout(PATIENCE).is_ok());
    let ticking = async {
        let mut interval = tokio::time::interval(Duration::from_millis(2));
        for _ in 0..15 {
            interval.tick().await;
        }
        open.send(()).is_ok()
    };
    assert_eq!(tokio::join!(ar, ticking), (Ok(true), true));
}

/// Polls a future on a plain thread, as small executors do.
fn on_a_plain_thread<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Waking::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn in_a_plain_main() {
    on_a_plain_thread(suite(Polled::ByAPlainThread));
}

#[test]
fn on_a_tokio_runtime_of_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(suite(Polled::ByARuntime));
    runtime.block_on(it_ticks_while_it_waits());
    runtime.block_on(async { tokio::spawn(suite(Polled::ByARuntime)).await.unwrap() });
}

#[test]
fn on_a_tokio_runtime_of_several_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suite(Polled::ByARuntime));
    runtime.block_on(async {
        let several = [(); 3].map(|()| tokio::spawn(suite(Polled::ByARuntime)));
        for one in several {
            one.await.unwrap();
        }
        let cluster = Cluster::threads(1).start().unwrap();
        let ar = cluster.client().load_balanced().apply(nap(20));
        // Allowed where tokio has made room for it.
        assert_eq!(tokio::spawn(async move { tokio::task::block_in_place(|| ar.get()) }).await.unwrap(), Ok(20));
    });
    let _inside = runtime.enter();
    let cluster = Cluster::threads(1).start().unwrap();
    assert_eq!(cluster.client().load_balanced().apply(nap(5)).get(), Ok(5), "entered, but not driven by this thread");
}

#[test]
fn in_an_actix_system() {
    System::new().block_on(async {
        suite(Polled::ByARuntime).await;
        an_actor_that_panics_harms_nobody_else().await;
        it_ticks_while_it_waits().await;
        // The same on an arbiter of the program's own.
        let arbiter = Arbiter::new();
        let (tell, told) = oneshot::channel();
        arbiter.spawn(async move {
            suite(Polled::ByARuntime).await;
            an_actor_that_panics_harms_nobody_else().await;
            tell.send(()).unwrap();
        });
        told.await.expect("the suite passes on an arbiter, too");
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

#[test]
fn in_several_workers_of_actix_web() {
    use actix_web::{App, HttpResponse, HttpServer, web};

    async fn value(rc: web::Data<Client>, x: web::Path<u64>) -> HttpResponse {
        match rc.load_balanced().apply(square(*x)).await {
            Ok(value) => HttpResponse::Ok().body(value.to_string()),
            Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
        }
    }
    /// Runs the suite inside a worker.
    async fn all() -> HttpResponse {
        suite(Polled::ByARuntime).await;
        an_actor_that_panics_harms_nobody_else().await;
        HttpResponse::Ok().body("passed")
    }
    async fn get(address: std::net::SocketAddr, path: String) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.rsplit("\r\n").next().unwrap().to_string()
    }

    actix_web::rt::System::new().block_on(async {
        let cluster = Cluster::threads(2).start().unwrap();
        let rc = web::Data::new(cluster.client());
        let app = move || {
            let app = App::new().app_data(rc.clone());
            app.route("/suite", web::get().to(all)).route("/{x}", web::get().to(value))
        };
        let server = HttpServer::new(app).workers(3).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        // The workers take connections in turn: each gets one suite at the least.
        let suites: Vec<_> = (0..6).map(|_| actix_web::rt::spawn(get(address, "/suite".into()))).collect();
        for x in 0..20_u64 {
            assert_eq!(get(address, format!("/{x}")).await, (x * x).to_string(), "beside the suites");
        }
        for passed in suites {
            assert_eq!(passed.await.unwrap(), "passed");
        }
        handle.stop(true).await;
        cluster.shutdown(Pending::Finish).await.unwrap();
    });
}

#[test]
fn a_system_that_ends_first_leaves_no_result_behind() {
    let system = System::new();
    let (cluster, ar) = system.block_on(async {
        let cluster = Cluster::threads(1).start().unwrap();
        let rc = cluster.client();
        drop(rc.load_balanced().apply(nap(50)));
        let ar = rc.load_balanced().apply(nap(1));
        System::current().stop();
        (cluster, ar)
    });
    system.run().unwrap();
    let outcome = ar.get_timeout(PATIENCE);
    assert!(matches!(outcome, Ok(1) | Err(TaskError::Disconnected | TaskError::Cancelled { .. })), "{outcome:?}");
    drop(cluster);
}
