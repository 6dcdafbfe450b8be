//! Where a task is, asked of engines of every kind: queued, sent ahead, running, returned, settled.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use callboard::executors::{Backoff, RetryPolicy};
use callboard::ledger::EngineOffer;
use callboard::messages::{EngineAddress, Join, Look, Recall, Revoke, Run, StopEngine};
use callboard::prelude::*;
use callboard::{Attempt, EngineId, Error, Promise, Status, TaskId, TaskState, ThreadPoolExecutor};
use tokio::sync::oneshot;

mod support;
use support::{CommonGate, engines_of, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(all(unix, feature = "remote"))]
const KINDS: &[&str] = &["threads", "processes", "tcp", "elsewhere"];
#[cfg(not(all(unix, feature = "remote")))]
const KINDS: &[&str] = &["threads"];

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

/// Returns at once; or opens the first of two gates and waits at the second.
#[task]
fn hold(gates: Option<[String; 2]>) -> u64 {
    if let Some([begun, open]) = gates {
        CommonGate::named(begun).open();
        CommonGate::named(open).pass();
    }
    1
}

/// Fails the first time; then as `hold`.
#[task]
fn hold_at_second(cx: &TaskContext, gates: [String; 2]) -> Result<u64, String> {
    if cx.attempt() == Attempt(1) { Err("the first time".into()) } else { Ok(hold(Some(gates)).call()) }
}

/// Ends its process the first time; then as `hold`.
#[task(idempotent)]
fn die_at_first(cx: &TaskContext, first: [String; 2], second: [String; 2]) -> u64 {
    if cx.attempt() == Attempt(1) {
        hold(Some(first)).call();
        std::process::exit(3);
    }
    hold(Some(second)).call()
}

/// Two gates of a test's own: `begun` and `open`.
struct Gates([String; 2]);

impl Gates {
    fn of(test: &str, kind: &str) -> Self {
        Self(["begun", "open"].map(|gate| format!("states-{test}-{kind}-{gate}")))
    }

    fn names(&self) -> [String; 2] {
        self.0.clone()
    }

    fn await_begun(&self) {
        CommonGate::named(self.0[0].clone()).pass();
    }

    fn open(&self) {
        CommonGate::named(self.0[1].clone()).open();
    }
}

fn state<T: Send + 'static>(ar: &AsyncResult<T>) -> TaskState {
    ar.state().get_timeout(PATIENCE).unwrap()
}

fn on(engine: u32) -> Option<EngineId> {
    Some(EngineId(engine))
}

#[test]
fn what_an_engine_has_begun_runs_and_what_it_has_not_does_not() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("sent", kind));
        let view = cluster.client().load_balanced();
        // It is known to be short, so more is sent ahead behind it.
        for _ in 0..100 {
            view.apply(hold(None)).get().unwrap();
        }
        let running = view.apply(hold(Some(gates.names())));
        let sent = view.apply(hold(None));
        gates.await_begun();
        assert_eq!(state(&running), TaskState::Running { engine: on(0) }, "{kind}");
        eventually("it is sent ahead", || state(&sent) == TaskState::Sent { engine: on(0) });
        assert_eq!((running.running().get(), sent.running().get()), (Ok(true), Ok(false)), "{kind}");
        // Of a kind that never ran nothing is sent ahead.
        let queued = view.apply(hold_at_second(gates.names()));
        assert_eq!(state(&queued), TaskState::Queued, "{kind}");
        assert!(queued.cancel("not needed"));
        assert!(sent.cancel("not needed"));
        assert!(sent.get_timeout(PATIENCE).is_err() && queued.get_timeout(PATIENCE).is_err());
        let cancelled = TaskState::Settled(Status::Cancelled);
        assert_eq!((state(&sent), state(&queued)), (cancelled, cancelled), "{kind}");
        assert_eq!(format!("{running:?}"), "<AsyncResult hold: pending>");
        gates.open();
        assert_eq!(running.get_timeout(PATIENCE), Ok(1));
        assert_eq!(state(&running), TaskState::Settled(Status::Done), "{kind}");
    }
}

#[test]
fn a_cancelled_task_that_runs_on_is_settled() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("cancelled", kind));
        let running = cluster.client().load_balanced().apply(hold(Some(gates.names())));
        gates.await_begun();
        assert!(running.cancel("not needed"));
        // Asked at once: the question is behind the cancel.
        assert_eq!(state(&running), TaskState::Settled(Status::Cancelled), "{kind}");
        gates.open();
    }
}

#[test]
fn of_items_that_travel_together_one_runs() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("items", kind));
        let view = cluster.client().load_balanced().with().chunksize(5);
        let items = view.map(|x| hold((x == 2).then(|| gates.names())), 0..5).split();
        gates.await_begun();
        let (sent, running) = (TaskState::Sent { engine: on(0) }, TaskState::Running { engine: on(0) });
        let returned = TaskState::Returned { engine: on(0) };
        let states: Vec<_> = items.iter().map(state).collect();
        assert_eq!(states, [returned, returned, running, sent, sent], "{kind}");
        // One that is given up by itself is settled, whatever becomes of the others.
        assert!(items[4].cancel("not needed"));
        assert_eq!(state(&items[4]), TaskState::Settled(Status::Cancelled), "{kind}");
        let joined = callboard::AsyncMapResult::join(items).split();
        assert_eq!(state(&joined[2]), running, "{kind}");
        gates.open();
        for ar in &joined[..4] {
            assert_eq!((ar.get_timeout(PATIENCE), state(ar)), (Ok(1), TaskState::Settled(Status::Done)), "{kind}");
        }
    }
}

#[test]
fn a_task_that_is_tried_again_runs_in_its_second_attempt() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("again", kind));
        let ar = cluster.client().load_balanced().with().retries_on_error(1).apply(hold_at_second(gates.names()));
        gates.await_begun();
        assert_eq!(state(&ar), TaskState::Running { engine: on(0) }, "{kind}");
        gates.open();
        assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().attempt), (Ok(1), Attempt(2)), "{kind}");
    }
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn a_task_whose_engine_is_lost_runs_on_another_and_every_question_is_answered() {
    for kind in ["processes", "tcp"] {
        let (cluster, first, second) =
            (engines_of(kind, 2).start().unwrap(), Gates::of("first", kind), Gates::of("second", kind));
        let ar = cluster.client().load_balanced().apply(die_at_first(first.names(), second.names()));
        first.await_begun();
        let before = state(&ar);
        assert!(matches!(before, TaskState::Running { engine: Some(_) }), "{before}");
        let questions: Vec<_> = (0..200).map(|_| ar.state()).collect();
        first.open();
        let more: Vec<_> = (0..200).map(|_| ar.state()).collect();
        for answer in questions.into_iter().chain(more) {
            let answer = answer.get_timeout(PATIENCE).unwrap();
            assert!(!matches!(answer, TaskState::Settled(_)), "{answer}");
        }
        second.await_begun();
        let after = state(&ar);
        assert!(matches!(after, TaskState::Running { engine: Some(_) }), "{after}");
        assert_ne!(after.engine(), before.engine(), "{kind}");
        second.open();
        assert_eq!((ar.get_timeout(PATIENCE), ar.metadata().engine), (Ok(1), after.engine()), "{kind}");
    }
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn a_task_that_is_lost_with_its_engine_is_settled() {
    for kind in ["processes", "tcp"] {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("lost", kind));
        let view = cluster.client().load_balanced().with().retries_on_loss(0);
        let ar = view.apply(die_at_first(gates.names(), gates.names()));
        gates.await_begun();
        let asked = ar.state();
        gates.open();
        let last = ar.state();
        assert!(asked.get_timeout(PATIENCE).is_ok() && last.get_timeout(PATIENCE).is_ok());
        assert!(matches!(ar.get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
        assert_eq!(state(&ar), TaskState::Settled(Status::Lost), "{kind}");
    }
}

#[cfg(all(unix, feature = "remote"))]
#[test]
fn questions_on_their_way_outlive_connections_and_end_with_what_they_ask() {
    let (network, gates) = (support::Forwarder::start(), Gates::of("cut", "tcp"));
    let (cluster, directory) = (Cluster::without_engines().start().unwrap(), tempfile::tempdir().unwrap());
    let listen = callboard::Listen::at("127.0.0.1:0").directory(directory.path()).reached_at(network.address());
    let listening = cluster.listen(listen).unwrap();
    network.forward_to(listening.address());
    let mut engine = support::dialling(&listening.engine_file());
    let _engine = support::Dialling::start(engine.args(["engine", "--exact"]));
    // Both are on the other side of that network.
    let (here, there) = (cluster.client(), Client::connect(listening.client_file()).get().unwrap());
    here.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    there.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
    let running = here.load_balanced().apply(hold(Some(gates.names())));
    gates.await_begun();
    let queued = there.load_balanced().apply(hold_at_second(gates.names()));
    for _ in 0..10 {
        let asked = [running.state(), queued.state()];
        network.cut();
        let states = asked.map(|asked| asked.get_timeout(PATIENCE).unwrap());
        assert_eq!(states, [TaskState::Running { engine: on(0) }, TaskState::Queued]);
    }
    // An engine that is not heard of is lost, and so is what it was asked about.
    network.stand_still();
    eventually("it is settled", || {
        let state = state(&running);
        assert!(matches!(state, TaskState::Running { .. } | TaskState::Settled(Status::Lost)), "{state}");
        state == TaskState::Settled(Status::Lost)
    });
    let refused = queued.state().get_timeout(PATIENCE);
    assert!(matches!(refused, Ok(TaskState::Settled(Status::Lost)) | Err(Error::Disconnected)), "{refused:?}");
    gates.open();
}

#[test]
fn what_is_asked_while_the_cluster_ends_is_answered() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 1).start().unwrap(), Gates::of("end", kind));
        let rc = cluster.client();
        let running = rc.load_balanced().apply(hold(Some(gates.names())));
        let queued = rc.load_balanced().apply(hold(None));
        gates.await_begun();
        let ending = rc.shutdown(Pending::Cancel);
        let asked = [running.state(), queued.state()];
        ending.get_timeout(PATIENCE).unwrap();
        let cancelled = TaskState::Settled(Status::Cancelled);
        for answer in asked {
            assert_eq!(answer.get_timeout(PATIENCE), Ok(cancelled), "{kind}");
        }
        gates.open();
        drop(cluster);
        assert_eq!((state(&running), state(&queued)), (cancelled, cancelled), "{kind}");
    }
}

#[test]
fn an_answer_comes_also_where_its_result_was_dropped() {
    let (cluster, gates) = (engines_of("threads", 1).start().unwrap(), Gates::of("dropped", "threads"));
    let view = cluster.client().load_balanced();
    let running = view.apply(hold(Some(gates.names())));
    gates.await_begun();
    let asked = running.state();
    drop(running);
    assert_eq!(asked.get_timeout(PATIENCE), Ok(TaskState::Running { engine: on(0) }));
    // In async code.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let queued = view.apply(hold(None));
    assert_eq!(runtime.block_on(queued.state()), Ok(TaskState::Queued));
    assert_eq!(runtime.block_on(async { queued.state().get() }), Err(Error::WouldBlock));
    gates.open();
    assert_eq!(queued.get_timeout(PATIENCE), Ok(1));
}

// ---- not of a cluster

#[test]
fn a_promise_runs_once_somebody_says_so() {
    let (promise, promised) = Promise::new("promised");
    assert_eq!((state(&promised), promised.running().get()), (TaskState::Queued, Ok(false)));
    assert!(promise.start());
    assert_eq!((state(&promised), promised.running().get()), (TaskState::Running { engine: None }, Ok(true)));
    promise.fulfil(7);
    assert_eq!(state(&promised), TaskState::Settled(Status::Done));

    let (promise, promised) = Promise::<u64>::new("cancelled");
    assert!(promise.start() && promised.cancel("not needed"));
    assert_eq!(state(&promised), TaskState::Settled(Status::Cancelled));
}

#[test]
fn what_waits_for_its_turn_is_queued() {
    for kind in KINDS {
        let (cluster, gates) = (engines_of(kind, 2).start().unwrap(), Gates::of("turn", kind));
        let limited = cluster.client().executor().limit(1);
        let first = limited.submit(hold(Some(gates.names())));
        let second = limited.submit(hold(None));
        gates.await_begun();
        let engine = state(&first).engine();
        assert_eq!(state(&first), TaskState::Running { engine }, "{kind}");
        assert_eq!(state(&second), TaskState::Queued, "an engine is free, and it has no turn: {kind}");
        gates.open();
        assert_eq!((first.get_timeout(PATIENCE), first.metadata().engine), (Ok(1), engine), "{kind}");
        assert_eq!(second.get_timeout(PATIENCE), Ok(1));
    }
}

#[test]
fn between_two_attempts_a_task_is_queued() {
    let (minute, (tell, told)) = (Duration::from_secs(60), mpsc::channel());
    let policy = || {
        let tell = tell.clone();
        // Asked when an attempt has failed.
        RetryPolicy::new(3).backoff(Backoff::new(minute, minute)).only(move |_| tell.send(()).is_ok())
    };
    let cluster = Cluster::threads(1).start().unwrap();
    let of_cluster = cluster.client().executor().retry(policy());
    let of_threads = ThreadPoolExecutor::new(1).unwrap().retry(policy());
    let gates = Gates::of("between", "two");
    for executor in [&of_cluster as &dyn Executor, &of_threads] {
        let ar = executor.submit(hold_at_second(gates.names()));
        told.recv_timeout(PATIENCE).unwrap();
        eventually("it waits for another attempt", || state(&ar) == TaskState::Queued);
        assert_eq!(ar.running().get(), Ok(false));
        assert!(ar.cancel("not needed"));
        assert_eq!(state(&ar), TaskState::Settled(Status::Cancelled));
    }
}

// ---- engines of one's own

/// An engine that keeps what it is sent, and whoever asks which of it runs.
struct Silent {
    scheduler: Addr<callboard::actors::Scheduler>,
    tells: bool,
    asked: Vec<oneshot::Sender<Option<(TaskId, Attempt)>>>,
    tasks: Vec<Run>,
    joined: Option<oneshot::Sender<()>>,
}

impl Actor for Silent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut address = EngineAddress::of(ctx.address());
        if self.tells {
            address = address.telling(ctx.address().recipient());
        }
        let join = Join { offer: EngineOffer { slots: 1, is_local: true, tasks: None }, address };
        let joining = self.scheduler.send(join).into_actor(self);
        ctx.wait(joining.map(|_, silent, _| silent.joined.take().unwrap().send(()).unwrap()));
    }
}

impl Handler<Run> for Silent {
    type Result = ();
    fn handle(&mut self, msg: Run, _: &mut Context<Self>) {
        self.tasks.push(msg);
    }
}

impl Handler<Look> for Silent {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        self.asked.push(msg.tell);
    }
}

impl Handler<Revoke> for Silent {
    type Result = ();
    /// Answers all that was asked: it says that it is at a task that nobody has given it.
    fn handle(&mut self, _: Revoke, _: &mut Context<Self>) {
        for tell in self.asked.drain(..) {
            let _ = tell.send(Some((TaskId { client: 1, seq: 1 }, Attempt(9))));
        }
    }
}

impl Handler<Recall> for Silent {
    type Result = ();
    fn handle(&mut self, _: Recall, _: &mut Context<Self>) {}
}

impl Handler<StopEngine> for Silent {
    type Result = ();
    fn handle(&mut self, _: StopEngine, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// A cluster whose one engine is silent.
async fn silent(tells: bool) -> (Cluster, Addr<Silent>) {
    let (cluster, (tell, told)) = (Cluster::without_engines().start().unwrap(), oneshot::channel());
    let scheduler = cluster.addresses().scheduler.clone();
    let engine = Silent { scheduler, tells, asked: Vec::new(), tasks: Vec::new(), joined: Some(tell) }.start();
    told.await.unwrap();
    (cluster, engine)
}

#[test]
fn questions_that_an_engine_does_not_answer_are_bounded() {
    System::new().block_on(async {
        let (cluster, engine) = silent(true).await;
        let ar = cluster.client().load_balanced().apply(hold(None));
        let mut asked = Vec::new();
        let refused = loop {
            assert!(asked.len() < 100_000, "there is a bound");
            asked.extend((0..4_096).map(|_| ar.state()));
            // One that is refused is answered at once, and one that is not, never: then more are asked.
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(300), ar.state()).await {
                break answer;
            }
        };
        let Err(Error::Overloaded { what: "questions where tasks are", limit }) = refused else {
            panic!("{refused:?}")
        };
        assert!(asked.len() >= limit);
        // What it says is of no task of ours, so none of them has begun.
        engine.do_send(Revoke { tasks: Vec::new(), manner: callboard::messages::Manner::Ask });
        for answer in asked.into_iter().take(limit / 2) {
            assert_eq!(answer.await, Ok(TaskState::Sent { engine: on(0) }));
        }
        // It ends without a word, and the task is lost with it.
        let last = ar.state();
        engine.do_send(StopEngine { cause: "it has had enough".into() });
        assert_eq!(last.await, Ok(TaskState::Settled(Status::Lost)));
    });
}

#[test]
fn an_engine_that_takes_no_questions_has_begun_nothing_as_far_as_is_known() {
    System::new().block_on(async {
        let (cluster, _engine) = silent(false).await;
        let ar = cluster.client().load_balanced().apply(hold(None));
        assert_eq!(ar.state().await, Ok(TaskState::Sent { engine: on(0) }));
        assert!(ar.cancel("not needed"));
        assert_eq!(ar.state().await, Ok(TaskState::Settled(Status::Cancelled)));
    });
}
