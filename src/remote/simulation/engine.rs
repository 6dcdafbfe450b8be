//! An engine that works inline: it runs what it gets one after the other, and says some outcomes twice.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use super::{Life, Lives, PORT, Random, World, hello, limits};
use crate::attempt;
use crate::ledger::Assignment;
use crate::messages::Completion;
use crate::registry::Registry;
use crate::remote::early::Early;
use crate::remote::engine::{self, assignment, end};
use crate::remote::{Mark, STOPPED};
use crate::task::{EngineId, Payload, Span, TaskContext, Value};
use crate::wire::frame::{Lane, Message};
use crate::wire::handshake::{Role, join};
use crate::wire::protocol::{FromEngine, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Heard, Speaker};

/// An engine that works inline: connects, joins, runs what it gets one after the other, and comes back when it is lost.
pub(super) async fn engine(seed: u64, world: Rc<World>, lives: Lives, is_unknown: bool) -> turmoil::Result {
    let mut random = Random(seed);
    // So that one that crashed and comes back is another.
    random.0 ^= turmoil::sim_elapsed().unwrap_or_default().as_nanos() as u64;
    loop {
        sleep(random.ms(200)).await;
        let Ok(Ok(mut stream)) = timeout(Duration::from_secs(2), TcpStream::connect(("controller", PORT))).await else {
            continue;
        };
        let life = Arc::new(Life { is_unknown, stammers: true, ..Life::default() });
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
pub(crate) async fn work(
    world: &World,
    life: &Life,
    random: &mut Random,
    speaker: Speaker,
    mut told: UnboundedReceiver<(ToEngine, Message)>,
) {
    let registry = Registry::auto().expect("no task is there twice");
    let (mut tray, mut early, mut id) = (VecDeque::<Assignment>::new(), Early::default(), EngineId(0));
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
                let times = if life.stammers && random.once_in(100) { 2 } else { 1 };
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
            Some((ToEngine::Run(mut calls), message)) => {
                let revoked = early.on_run(&mut calls);
                if !revoked.is_empty() {
                    say(&engine::back(&revoked), Vec::new());
                }
                tray.extend(calls.into_iter().map(|call| assignment(call, &message).expect("it is whole")));
            }
            Some((ToEngine::Revoke { tasks, after }, _)) => {
                early.on_revoked(&tasks, after);
                let (gone, left): (VecDeque<_>, VecDeque<_>) =
                    tray.drain(..).partition(|task: &Assignment| tasks.contains(&task.id));
                tray = left;
                back(Vec::from(gone));
            }
            Some((ToEngine::Recall, _)) => back(tray.drain(..).collect()),
            // It works inline: who hears that is at nothing.
            Some((ToEngine::Look, _)) => say(&FromEngine::IsAt(None), Vec::new()),
            Some((ToEngine::Stop, _)) => {
                back(tray.drain(..).collect());
                speaker.close(STOPPED);
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
