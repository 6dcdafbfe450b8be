//! Maps in the ledger: pieces are cut, sent, cut again by whatever comes back, cancelled in part, recalled,
//! lost with their engine. Whatever the order, each item settles once, runs at most once, and is dropped once.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use callboard::ledger::{Assignment, EngineOffer, HandBack, Ledger, Order, Request, SettledTask};
use callboard::task::{Attempt, Chunk, ChunkRun, EngineId, ItemEvents, Moment, Payload, Retries, Span, Target};
use callboard::{Limits, Task, TaskContext, TaskError, TaskFailure, TaskId};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

thread_local! {
    /// How often each item ran, and how often it was dropped.
    static ITEMS: RefCell<BTreeMap<u64, (u32, u32)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Nobody wants to know how calls go.
struct Untold;

impl ItemEvents for Untold {
    fn begins(&self, _: &TaskContext) {}

    fn failed(&self, _: &TaskContext, _: TaskFailure) -> TaskError {
        TaskError::NoEngines
    }
}

/// An item; it knows its own id.
#[derive(Clone, Serialize, Deserialize)]
struct Item(u64);

impl Task for Item {
    type Output = u64;
    const NAME: &'static str = "pieces::Item";

    fn run(self, cx: &TaskContext) -> Result<u64, TaskFailure> {
        assert_eq!(cx.task_id().seq, self.0, "an item runs under its own id");
        ITEMS.with_borrow_mut(|items| items.entry(self.0).or_default().0 += 1);
        Ok(self.0)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        ITEMS.with_borrow_mut(|items| items.entry(self.0).or_default().1 += 1);
    }
}

/// What an engine is at.
struct Running {
    tasks: Span,
    attempt: Attempt,
    /// `None` for a single task, which is run when it is finished.
    chunk: Option<Box<dyn ChunkRun>>,
    single: Option<Payload>,
}

#[derive(Default)]
struct Sim {
    slots: usize,
    tray: VecDeque<Assignment>,
    running: Vec<Running>,
}

struct World {
    ledger: Ledger,
    now: Moment,
    sims: BTreeMap<EngineId, Sim>,
    /// The store: each task that is not settled.
    unsettled: BTreeMap<TaskId, ()>,
    settled: u64,
    accepted: u64,
    lane: VecDeque<SettledTask>,
    confirmations: VecDeque<SettledTask>,
    returns: VecDeque<(EngineId, Vec<HandBack>)>,
    revocations: VecDeque<(EngineId, TaskId)>,
    recalls: VecDeque<EngineId>,
    dismissals: VecDeque<EngineId>,
    next_seq: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Join { slots: u8 },
    Leave { engine: u8 },
    Retire { engine: u8 },
    HearDismissal,
    Map { items: u8, to_one: Option<u8>, chunksize: u8 },
    Single { to_one: Option<u8> },
    Cancel { from: u8, count: u8 },
    CancelAll,
    Look,
    Start { engine: u8 },
    Finish { engine: u8, nth: u8, ns: u16 },
    HearRevoke,
    HearRecall,
    HearReturns,
    Publish,
    Confirm,
}

fn event() -> impl Strategy<Value = Event> {
    let to_one = || prop::option::weighted(0.2, any::<u8>());
    prop_oneof![
        1 => (1..3_u8).prop_map(|slots| Event::Join { slots }),
        1 => any::<u8>().prop_map(|engine| Event::Leave { engine }),
        1 => any::<u8>().prop_map(|engine| Event::Retire { engine }),
        2 => Just(Event::HearDismissal),
        4 => (0..60_u8, to_one(), 0..12_u8).prop_map(|(items, to_one, chunksize)| Event::Map { items, to_one, chunksize }),
        2 => to_one().prop_map(|to_one| Event::Single { to_one }),
        3 => (any::<u8>(), 1..30_u8).prop_map(|(from, count)| Event::Cancel { from, count }),
        1 => Just(Event::CancelAll),
        3 => Just(Event::Look),
        5 => any::<u8>().prop_map(|engine| Event::Start { engine }),
        8 => (any::<u8>(), any::<u8>(), 1..2_000_u16).prop_map(|(engine, nth, ns)| Event::Finish { engine, nth, ns }),
        4 => Just(Event::HearRevoke),
        4 => Just(Event::HearRecall),
        4 => Just(Event::HearReturns),
        6 => Just(Event::Publish),
        6 => Just(Event::Confirm),
    ]
}

impl World {
    fn new() -> Self {
        ITEMS.with_borrow_mut(BTreeMap::clear);
        Self {
            ledger: Ledger::new(&Limits::default()),
            now: Moment::FIRST,
            sims: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            settled: 0,
            accepted: 0,
            lane: VecDeque::new(),
            confirmations: VecDeque::new(),
            returns: VecDeque::new(),
            revocations: VecDeque::new(),
            recalls: VecDeque::new(),
            dismissals: VecDeque::new(),
            next_seq: 0,
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Join { slots } => self.join(*slots),
            Event::Leave { engine } => {
                let Some(engine) = self.engine(*engine) else { return };
                drop(self.sims.remove(&engine));
                self.returns.retain(|(from, _)| *from != engine);
                let orders = self.ledger.on_leave(engine, "it was unplugged");
                self.carry_out(orders);
            }
            Event::Retire { engine } => self.with(*engine, |world, engine| {
                let orders = world.ledger.on_retire(engine, "it was asked to go");
                world.carry_out(orders);
            }),
            Event::HearDismissal => {
                let Some(engine) = self.dismissals.pop_front() else { return };
                if let Some(sim) = self.sims.remove(&engine) {
                    // A chunk all of whose items were taken back is nothing.
                    let has_nothing = sim.running.iter().all(|run| run.chunk.is_some() && rest_of(run).is_none());
                    assert!(sim.tray.is_empty() && has_nothing, "it is dismissed when it has nothing left");
                }
                let orders = self.ledger.on_leave(engine, "it was asked to go");
                self.carry_out(orders);
            }
            Event::Map { items, to_one, chunksize } => self.submit(u64::from(*items), *to_one, *chunksize),
            Event::Single { to_one } => self.submit(1, *to_one, 0),
            Event::Cancel { from, count } => {
                let first = id(u64::from(*from) % (self.next_seq + 1));
                let orders = self.ledger.on_cancel(&[Span { first, count: (*count).into() }], "no need");
                self.carry_out(orders);
            }
            Event::CancelAll => {
                let orders = self.ledger.on_cancel_all("no need");
                self.carry_out(orders);
            }
            Event::Look => {
                let orders = self.ledger.on_look();
                self.carry_out(orders);
            }
            Event::Start { engine } => self.with(*engine, Self::start),
            Event::Finish { engine, nth, ns } => {
                self.with(*engine, |world, engine| world.finish(engine, *nth, (*ns).into()));
            }
            Event::HearRevoke => self.hear_revoke(),
            Event::HearRecall => {
                if let Some(engine) = self.recalls.pop_front() {
                    self.hand_back_all(engine);
                }
            }
            Event::HearReturns => {
                let Some((engine, batch)) = self.returns.pop_front() else { return };
                let orders = self.ledger.on_handed_back(engine, batch);
                self.carry_out(orders);
            }
            Event::Publish => {
                if let Some(outcome) = self.lane.pop_front() {
                    self.store(outcome);
                }
            }
            Event::Confirm => {
                let batch: Vec<_> = self.confirmations.drain(..self.confirmations.len().min(3)).collect();
                let orders = self.ledger.on_settled(&batch);
                self.carry_out(orders);
            }
        }
    }

    fn join(&mut self, slots: u8) {
        let (engine, orders) = self.ledger.on_join(EngineOffer { slots: slots.into(), is_local: true, tasks: None });
        self.sims.insert(engine, Sim { slots: slots.into(), ..Sim::default() });
        self.carry_out(orders);
    }

    fn submit(&mut self, items: u64, to_one: Option<u8>, chunksize: u8) {
        if items == 0 {
            return;
        }
        let first = id(self.next_seq);
        let seqs = self.next_seq..self.next_seq + items;
        self.next_seq += items;
        self.accepted += items;
        self.unsettled.extend(seqs.clone().map(|seq| (id(seq), ())));
        let target = match to_one.and_then(|engine| self.engine(engine)) {
            Some(engine) => Target::One(engine),
            None => Target::Any,
        };
        let payload = Payload::Typed(Box::new(Chunk::new(seqs.map(Item))));
        let chunksize = std::num::NonZeroU32::new(chunksize.into());
        let extras =
            chunksize.map(|_| std::sync::Arc::new(callboard::task::Extras { chunksize, ..Default::default() }));
        let request = Request { id: first, kind: Item::kind(), payload, target, retries: Retries::default(), extras };
        let orders = self.ledger.on_submit(self.now, vec![request]);
        self.carry_out(orders);
    }

    fn start(&mut self, engine: EngineId) {
        let sim = self.sims.get_mut(&engine).unwrap();
        if sim.running.len() >= sim.slots {
            return;
        }
        let Some(Assignment { id, attempt, mut payload, .. }) = sim.tray.pop_front() else { return };
        let tasks = Span { first: id, count: payload.count() };
        let Payload::Typed(task) = &mut payload else { unreachable!() };
        let chunk = task.as_chunk();
        let single = chunk.is_none().then_some(payload);
        sim.running.push(Running { tasks, attempt, chunk, single });
    }

    /// The engine comes to the end of what it has of a piece: all of it, unless the rest was taken back.
    fn finish(&mut self, engine: EngineId, nth: u8, ns: u64) {
        let sim = self.sims.get_mut(&engine).unwrap();
        if sim.running.is_empty() {
            return;
        }
        let at = usize::from(nth) % sim.running.len();
        let Running { tasks, attempt, chunk, single } = sim.running.remove(at);
        let mut cx = TaskContext::here();
        cx.set_task_for_tests(tasks.first);
        let count = match (chunk, single) {
            (Some(mut chunk), _) => {
                chunk.run(&mut cx, &Untold);
                chunk.finish().0
            }
            (None, Some(Payload::Typed(task))) => {
                drop(task.run(&cx));
                1
            }
            _ => unreachable!(),
        };
        if count > 0 {
            let ran = Some(Duration::from_nanos(ns * u64::from(count)));
            self.lane.push_back(SettledTask { id: tasks.first, count, engine: Some(engine), attempt, ran, won: 0 });
        }
    }

    fn hear_revoke(&mut self) {
        let Some((engine, task)) = self.revocations.pop_front() else { return };
        let Some(sim) = self.sims.get_mut(&engine) else { return };
        if let Some(running) = sim.running.iter().find(|running| running.tasks.contains(task)) {
            let back = rest_of(running);
            self.returns.extend(back.map(|back| (engine, vec![back])));
        } else if let Some(at) = sim.tray.iter().position(|assignment| assignment.id == task) {
            let back = HandBack::unstarted(sim.tray.remove(at).unwrap());
            self.returns.push_back((engine, vec![back]));
        }
    }

    fn hand_back_all(&mut self, engine: EngineId) {
        let Some(sim) = self.sims.get_mut(&engine) else { return };
        let mut batch: Vec<HandBack> = sim.running.iter().filter_map(rest_of).collect();
        batch.extend(sim.tray.drain(..).map(HandBack::unstarted));
        if !batch.is_empty() {
            self.returns.push_back((engine, batch));
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Run { engine, assignment } => {
                    assert!(!assignment.payload.is_void(), "nothing is sent that is only holes");
                    self.sims.get_mut(&engine).expect("it is there").tray.push_back(assignment);
                }
                Order::Revoke { engine, task } => self.revocations.push_back((engine, task)),
                Order::Recall { engine } => self.recalls.push_back(engine),
                Order::Dismiss { engine, .. } => self.dismissals.push_back(engine),
                Order::Settle { tasks, attempt, .. } => {
                    let Span { first, count } = tasks;
                    self.store(SettledTask { id: first, count, engine: None, attempt, ran: None, won: 0 });
                }
                Order::Expect { .. } => unreachable!("nothing is retried here"),
                Order::Discard(payload) => drop(payload),
            }
        }
        self.check();
    }

    /// The first outcome of each task wins.
    fn store(&mut self, outcome: SettledTask) {
        let settles = (0..outcome.count).filter(|&n| self.unsettled.remove(&outcome.id.plus(n)).is_some());
        let won = settles.count() as u32;
        self.settled += u64::from(won);
        self.confirmations.push_back(SettledTask { won, ..outcome });
    }

    fn check(&self) {
        let unconfirmed: usize = self.confirmations.iter().map(|settled| settled.won as usize).sum();
        let status = self.ledger.status();
        assert_eq!(self.ledger.pending(), self.unsettled.len() + unconfirmed);
        assert_eq!(status.settled, self.settled - unconfirmed as u64);
        for (engine, status) in self.sims.values().zip(&status.engines) {
            let has = engine.tray.iter().map(|a| a.payload.count()).sum::<u32>();
            assert!(status.outstanding >= has, "{status:?} has {has} in its tray");
        }
    }

    fn run_to_the_end(&mut self) {
        self.join(1);
        for round in 0..100_000 {
            for _ in 0..self.recalls.len() {
                self.play(&Event::HearRecall);
            }
            for _ in 0..self.dismissals.len() {
                self.play(&Event::HearDismissal);
            }
            for _ in 0..self.revocations.len() {
                self.hear_revoke();
            }
            for engine in self.sims.keys().copied().collect::<Vec<_>>() {
                self.start(engine);
                self.finish(engine, 0, 50);
            }
            while !(self.returns.is_empty() && self.lane.is_empty() && self.confirmations.is_empty()) {
                self.play(&Event::HearReturns);
                self.play(&Event::Publish);
                self.play(&Event::Confirm);
            }
            if self.unsettled.is_empty() && self.sims.values().all(|sim| sim.tray.is_empty() && sim.running.is_empty())
            {
                return;
            }
            assert!(round < 99_999, "{:?} are never settled; {:?}", self.unsettled, self.ledger.status());
        }
    }

    fn check_nothing_left(&self) {
        let status = self.ledger.status();
        assert_eq!((status.pending, status.queued, status.settled), (0, 0, self.accepted));
        assert!(status.engines.iter().all(|engine| engine.outstanding == 0 && engine.queued == 0), "{status:?}");
        assert!(!self.ledger.wants_look());
        ITEMS.with_borrow(|items| {
            for seq in 0..self.next_seq {
                let (ran, dropped) = items.get(&seq).copied().unwrap_or_default();
                assert!(ran <= 1, "item {seq} ran {ran} times");
                assert_eq!(dropped, 1, "item {seq} was dropped {dropped} times");
            }
        });
    }

    fn with(&mut self, engine: u8, act: impl FnOnce(&mut Self, EngineId)) {
        if let Some(engine) = self.engine(engine) {
            act(self, engine);
        }
    }

    fn engine(&self, nth: u8) -> Option<EngineId> {
        let engines: Vec<_> = self.sims.keys().copied().collect();
        (!engines.is_empty()).then(|| engines[usize::from(nth) % engines.len()])
    }
}

fn id(seq: u64) -> TaskId {
    TaskId { client: 7, seq }
}

fn rest_of(running: &Running) -> Option<HandBack> {
    let (count, task) = running.chunk.as_ref()?.rest().take()?;
    let id = running.tasks.first.plus(running.tasks.count - count);
    Some(HandBack {
        id,
        count,
        attempt: running.attempt,
        payload: Some(Payload::Typed(task)),
        error: None,
        printed: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CALLBOARD_CASES").map_or(500, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_item_settles_once_runs_at_most_once_and_is_dropped_once(
        engines in 0..4_u8, events in prop::collection::vec(event(), 0..150),
    ) {
        let mut world = World::new();
        (0..engines).for_each(|_| world.join(1));
        events.iter().for_each(|event| world.play(event));
        world.run_to_the_end();
        world.check_nothing_left();
    }
}
