//! Engines take from clients in turn: whoever has little to do waits for nobody who has much.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use callboard::ledger::{Assignment, EngineOffer, Ledger, Order, Request, SettledTask};
use callboard::task::{
    Attempt, Chunk, Closure, EngineId, Moment, Payload, Retries, Target, TaskKind, TaskTable, key_of,
};
use callboard::{Limits, Task, TaskContext, TaskFailure, TaskId};
use serde::{Deserialize, Serialize};

/// An item of a map.
#[derive(Clone, Serialize, Deserialize)]
struct Item(u64);

impl Task for Item {
    type Output = u64;
    const NAME: &'static str = "fairness::Item";

    fn run(self, _: &TaskContext) -> Result<u64, TaskFailure> {
        Ok(self.0)
    }
}

const fn kind(name: &'static str) -> TaskKind {
    let key = key_of(name, 1);
    TaskKind { name, version: 1, key, fingerprint: key, idempotent: false, portable: true }
}

static SINGLE: TaskKind = kind("single");
static OTHER: TaskKind = kind("other");

const TINY: Duration = Duration::from_micros(1);
const LONG: Duration = Duration::from_millis(20);

/// A ledger and its engines, each of which runs what it was sent in that order.
struct Site {
    ledger: Ledger,
    /// How long each task runs.
    ran: Duration,
    engines: BTreeMap<EngineId, VecDeque<SettledTask>>,
    /// What was sent, in order: the first task, and how many.
    sent: Vec<(TaskId, u32)>,
    /// The next number of each client.
    seqs: BTreeMap<u64, u64>,
}

impl Site {
    fn new(engines: u32, ran: Duration) -> Self {
        let ledger = Ledger::new(&Limits::default());
        let mut site = Self { ledger, ran, engines: BTreeMap::new(), sent: Vec::new(), seqs: BTreeMap::new() };
        for _ in 0..engines {
            site.join(None);
        }
        site
    }

    fn join(&mut self, tasks: Option<TaskTable>) -> EngineId {
        let (engine, orders) =
            self.ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: tasks.map(Arc::new) });
        self.engines.insert(engine, VecDeque::new());
        self.carry_out(orders);
        engine
    }

    fn submit(&mut self, client: u64, count: u64, kind: &'static TaskKind) {
        for _ in 0..count {
            self.request(client, kind, Payload::Typed(Box::new(Closure(|| ()))), Target::Any);
        }
    }

    /// Submits one that only this engine may run.
    fn submit_to(&mut self, engine: EngineId, client: u64, kind: &'static TaskKind) {
        self.request(client, kind, Payload::Typed(Box::new(Closure(|| ()))), Target::One(engine));
    }

    fn submit_map(&mut self, client: u64, count: u64) {
        self.request(client, Item::kind(), Payload::Typed(Box::new(Chunk::new((0..count).map(Item)))), Target::Any);
    }

    fn request(&mut self, client: u64, kind: &'static TaskKind, payload: Payload, target: Target) {
        let next = self.seqs.entry(client).or_default();
        let id = TaskId { client, seq: *next };
        *next += u64::from(payload.count());
        let request = Request { id, kind, payload, target, retries: Retries::default(), extras: None };
        let orders = self.ledger.on_submit(Moment::FIRST, vec![request]);
        self.carry_out(orders);
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            let Order::Run { engine, assignment } = order else { continue };
            let Assignment { id, attempt, payload, .. } = assignment;
            let count = payload.count();
            let ran = Some(self.ran * count);
            self.sent.push((id, count));
            let outcome = SettledTask { id, count, engine: Some(engine), attempt, ran, won: count };
            self.engines.get_mut(&engine).expect("it is there").push_back(outcome);
        }
    }

    /// Each engine finishes the oldest that it has. Returns whether there was something.
    fn finish_one_each(&mut self) -> bool {
        let outcomes: Vec<_> = self.engines.values_mut().filter_map(VecDeque::pop_front).collect();
        for outcome in &outcomes {
            let orders = self.ledger.on_settled(std::slice::from_ref(outcome));
            self.carry_out(orders);
        }
        !outcomes.is_empty()
    }

    /// Lets everything come to its end. Returns the clients of what was sent, in order.
    fn run_out(&mut self) -> Vec<u64> {
        while self.finish_one_each() {}
        assert_eq!(self.ledger.pending(), 0);
        self.sent.iter().map(|(id, _)| id.client).collect()
    }
}

/// Checks that the clients had about the same at each point, while all of them had something left.
fn check_turns(sent: &[u64], clients: &[u64], each: usize, differ_max: usize) {
    let mut had: BTreeMap<u64, usize> = clients.iter().map(|&client| (client, 0)).collect();
    for (at, client) in sent.iter().enumerate() {
        *had.get_mut(client).expect("it is one of them") += 1;
        let (least, most) = (had.values().min().unwrap_or(&0), had.values().max().unwrap_or(&0));
        assert!(most - least <= differ_max || *most == each, "after {at}: {had:?}");
    }
    assert!(had.values().all(|&count| count == each), "{had:?}");
}

#[test]
fn the_only_task_of_a_client_runs_next_however_many_of_another_wait() {
    let mut site = Site::new(1, LONG);
    site.submit(1, 10_000, &SINGLE);
    site.finish_one_each();
    site.submit(2, 1, &SINGLE);
    site.finish_one_each();
    site.finish_one_each();
    let clients: Vec<u64> = site.sent.iter().map(|(id, _)| id.client).collect();
    assert_eq!(clients, [1, 1, 2, 1]);
}

#[test]
fn clients_with_equal_loads_take_turns_and_each_keeps_its_order() {
    for engines in [1, 2, 5] {
        for ran in [TINY, LONG] {
            // Somebody runs one first: how long they take is known, and nobody waits.
            let mut site = Site::new(engines, ran);
            site.submit(9, engines.into(), &SINGLE);
            site.run_out();
            site.sent.clear();
            // All are busy, and have as much as they get ahead.
            site.submit(9, 10_000, &SINGLE);
            let busy = site.sent.len();
            site.sent.clear();
            (1..=3).for_each(|client| site.submit(client, 300, &SINGLE));
            let sent: Vec<u64> = site.run_out().into_iter().filter(|&client| client != 9).collect();
            check_turns(&sent, &[1, 2, 3], 300, engines as usize);
            assert!(busy > 0 && site.sent.len() == 10_900 - busy);
            for client in 1..=3 {
                let seqs = site.sent.iter().filter(|(id, _)| id.client == client).map(|(id, _)| id.seq);
                assert!(seqs.eq(0..300), "client {client} of {engines} engines");
            }
        }
    }
}

#[test]
fn those_that_wait_for_the_first_engine_take_turns_on_it() {
    let mut site = Site::new(0, LONG);
    (1..=4).for_each(|client| site.submit(client, 100, &SINGLE));
    site.join(None);
    check_turns(&site.run_out(), &[1, 2, 3, 4], 100, 1);
}

#[test]
fn a_map_keeps_nobody_waiting_and_waits_for_nobody() {
    let mut site = Site::new(1, Duration::from_micros(100));
    site.submit_map(1, 10_000);
    site.finish_one_each();
    site.submit(2, 100, &SINGLE);
    site.submit_map(3, 200);
    site.run_out();
    let last = |client| site.sent.iter().rposition(|(id, _)| id.client == client).expect("it ran");
    let before = |at: usize| site.sent[..at].iter().filter(|(id, _)| id.client == 1).map(|(_, count)| count).sum();
    let (single, map): (u32, u32) = (before(last(2)), before(last(3)));
    // Of a task of 100 us two go together, half of what is sent ahead.
    assert!(single <= 2 * 103 && map <= 2 * 103, "{single}, {map}");

    // A map among many single tasks.
    let mut site = Site::new(1, Duration::from_micros(100));
    site.submit(1, 10_000, &SINGLE);
    site.finish_one_each();
    site.submit_map(2, 200);
    site.run_out();
    let last = site.sent.iter().rposition(|(id, _)| id.client == 2).expect("it ran");
    assert!(last <= 2 * 200 + 10, "{last}");
}

#[test]
fn clients_take_turns_with_each_function_that_not_every_engine_has() {
    let mut site = Site::new(0, LONG);
    let able = site.join(Some(TaskTable::of([&SINGLE, &OTHER])));
    let half = site.join(Some(TaskTable::of([&OTHER])));
    site.submit(9, 1, &SINGLE);
    site.submit(9, 1, &OTHER);
    site.sent.clear();
    (1..=3).for_each(|client| site.submit(client, 100, &SINGLE));
    site.finish_one_each();
    assert!(site.engines[&half].is_empty(), "it lacks what waits");
    assert_eq!(site.engines[&able].len(), 1);
    check_turns(&site.run_out(), &[1, 2, 3], 100, 1);

    // An engine that comes takes from all of them.
    site.sent.clear();
    site.submit(9, 1, &SINGLE);
    (1..=3).for_each(|client| site.submit(client, 100, &SINGLE));
    site.join(Some(TaskTable::of([&SINGLE])));
    site.join(None);
    let sent: Vec<u64> = site.run_out().into_iter().filter(|&client| client != 9).collect();
    check_turns(&sent, &[1, 2, 3], 100, 3);
}

#[test]
fn one_task_behind_one_that_only_its_engine_may_run_is_recalled_for_an_idle_engine() {
    let mut site = Site::new(1, TINY);
    site.submit(1, 1, &SINGLE);
    site.run_out();
    let busy = site.engines.keys().next().copied().expect("there is one");
    site.submit_to(busy, 1, &SINGLE);
    site.submit(1, 1, &SINGLE);
    assert_eq!(site.engines[&busy].len(), 2);
    site.join(None);
    assert!(site.ledger.wants_look() && site.ledger.on_look().is_empty());
    let orders = site.ledger.on_look();
    assert!(matches!(&orders[..], [Order::Recall { engine }] if *engine == busy), "{orders:?}");
}

#[test]
fn what_was_sent_ahead_of_any_client_is_recalled_for_an_idle_engine() {
    let mut site = Site::new(1, TINY);
    site.submit(1, 1, &SINGLE);
    site.run_out();
    // The first client keeps the first queue; the second has one of its own.
    site.submit(1, 1, &SINGLE);
    site.submit(2, 5, &SINGLE);
    let busy = site.engines.keys().next().copied().expect("there is one");
    assert_eq!(site.engines[&busy].len(), 6);
    site.join(None);
    assert!(site.ledger.wants_look() && site.ledger.on_look().is_empty());
    let orders = site.ledger.on_look();
    assert!(matches!(&orders[..], [Order::Recall { engine }] if *engine == busy), "{orders:?}");
    // When it comes back, it goes where it may run at once.
    let back = site.engines.get_mut(&busy).expect("it is there").split_off(1);
    let back = back.into_iter().map(|outcome| callboard::ledger::HandBack {
        id: outcome.id,
        count: 1,
        attempt: Attempt(1),
        payload: Some(Payload::Typed(Box::new(Closure(|| ())))),
        error: None,
        printed: None,
    });
    let orders = site.ledger.on_handed_back(busy, back.collect());
    site.carry_out(orders);
    assert_eq!(site.engines.values().map(VecDeque::len).collect::<Vec<_>>(), [1, 5]);
    site.run_out();
}
