//! The controller with its gateways, and a client of it that submits work and judges what becomes of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use super::{FAULTS_S, Lives, PATIENCE, PORT, Random, Square, World, hello, is_shy, limits};
use crate::actors::Threads;
use crate::client::Client;
use crate::controller::Actors;
use crate::ledger::{EngineOffer, Policy};
use crate::limits::Limits;
use crate::registry::Registry;
use crate::remote::{Fate, Gateway, GatewayParts, Lost, Process, attend as attend_to};
use crate::task::{Attempt, Retries, Status, TaskId};
use crate::wire::handshake::{Role, welcome};
use crate::wire::session::Speaker;
use crate::{AsyncMapResult, AsyncResult, TaskError, With};

/// Speaks with an engine from its first word to its end, as the parent of a child does.
async fn attend(mut stream: TcpStream, actors: Rc<Actors>, lives: Lives) {
    let ours = hello(Role::Controller, 1);
    let Ok((theirs, _)) = welcome(&mut stream, &ours, &[Role::Engine], Duration::from_secs(5)).await else {
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
    let ending = attend_to(reader, writer, &speaker, &gateway).await;
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
pub(super) async fn controller(seed: u64, world: Rc<World>, lives: Lives, is_unknown: bool) -> turmoil::Result {
    let mut random = Random(seed);
    let limits = Limits { spin_us: 0, ..Limits::default() };
    let registry = Registry::auto()?;
    let actors = Rc::new(Actors::start(limits, registry, Policy::default(), Arc::new(Threads::default())));
    let rc = Client::new(actors.link.clone());
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (attended, attending) = (actors.clone(), lives.clone());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(attend(stream, attended.clone(), attending.clone()));
        }
    });

    let (mut submitted, mut asked) = (Vec::new(), Vec::new());
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
        if random.once_in(3) {
            let at = random.below(submitted.len() as u64) as usize;
            let states: Vec<_> = match &submitted[at].2 {
                Submitted::One(_, ar) => vec![ar.state()],
                Submitted::Map(..) => Vec::new(),
                Submitted::Items(_, items) => items.iter().map(AsyncResult::state).collect(),
            };
            // Whatever becomes of the engines that are asked.
            let is_answered = |state| async { timeout(PATIENCE, state).await.expect("it is answered in time") };
            asked.extend(states.into_iter().map(|state| tokio::task::spawn_local(is_answered(state))));
        }
        sleep(random.ms(300)).await;
    }

    let count = x;
    for state in asked {
        state.await?.expect("the cluster is there");
    }
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
