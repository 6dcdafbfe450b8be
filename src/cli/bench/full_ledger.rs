//! A ledger under load: every engine full, and a long queue that stays as long. Also driven by
//! `benches/ledger.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use callboard::ledger::{EngineOffer, Ledger, Order, Request, SettledTask};
use callboard::task::{Payload, Retries, Target};
use callboard::{EngineId, Limits, Moment, Task, TaskId};

use super::noop::Noop;

/// Tasks that come and go in one cycle: as many as the scheduler takes at once.
pub(crate) const BATCH: usize = 256;

/// How long each is said to have run. By the default limits an engine then gets 33 of them ahead, so that
/// even ten engines have a batch under way.
const RAN: Duration = Duration::from_micros(15);

/// The ledger, and what the rest of the controller would know.
pub(crate) struct FullLedger {
    ledger: Ledger,
    /// What views aim at, in turn.
    targets: Vec<Target>,
    /// Tasks that engines have, oldest first.
    running: VecDeque<SettledTask>,
    submitted: usize,
    sent: usize,
}

/// What happens in one cycle.
pub(crate) struct Batch {
    requests: Vec<Request>,
    outcomes: Vec<SettledTask>,
}

impl FullLedger {
    /// Fills a ledger: tasks go to any engine, or, if there are subsets, to any of half of the engines,
    /// to the subsets in turn.
    pub(crate) fn new(engines: u32, queued: usize, subsets: usize) -> Self {
        let mut full = Self {
            ledger: Ledger::new(&Limits::default()),
            targets: targets(engines, subsets),
            running: VecDeque::new(),
            submitted: 0,
            sent: 0,
        };
        for _ in 0..engines {
            let (_, orders) = full.ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
            full.on_orders(orders);
        }
        // Once each engine has run one task the ledger knows how long they take, and sends more ahead.
        full.submit(engines as usize);
        while let Some(outcome) = full.running.pop_front() {
            let orders = full.ledger.on_settled(&[outcome]);
            full.on_orders(orders);
        }
        while full.waiting() < queued {
            full.submit(BATCH.min(queued - full.waiting()));
        }
        full
    }

    /// Makes the next cycle's tasks and outcomes: the work of others, not to be timed.
    pub(crate) fn next_batch(&mut self) -> Batch {
        assert!(self.running.len() >= BATCH, "engines that are full have a batch under way: {}", self.running.len());
        Batch { requests: self.requests(BATCH), outcomes: self.running.drain(..BATCH).collect() }
    }

    /// As many tasks come as go: what the scheduler asks of the ledger.
    pub(crate) fn cycle(&mut self, batch: Batch) -> impl Iterator<Item = Order> + use<> {
        let queued = self.ledger.on_submit(Moment::FIRST, batch.requests);
        let sent = self.ledger.on_settled(&batch.outcomes);
        queued.into_iter().chain(sent)
    }

    /// Notes which tasks engines have now.
    pub(crate) fn on_orders(&mut self, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            let Order::Run { engine, assignment } = order else { continue };
            self.sent += 1;
            self.running.push_back(SettledTask {
                id: assignment.id,
                engine: Some(engine),
                attempt: assignment.attempt,
                ran: Some(RAN),
                count: 1,
                won: 1,
            });
        }
    }

    fn submit(&mut self, tasks: usize) {
        let requests = self.requests(tasks);
        let orders = self.ledger.on_submit(Moment::FIRST, requests);
        self.on_orders(orders);
    }

    fn waiting(&self) -> usize {
        self.submitted - self.sent
    }

    fn requests(&mut self, tasks: usize) -> Vec<Request> {
        (0..tasks).map(|_| self.request()).collect()
    }

    fn request(&mut self) -> Request {
        let seq = self.submitted;
        self.submitted += 1;
        Request {
            id: TaskId { client: 1, seq: seq as u64 },
            kind: Noop::kind(),
            payload: Payload::of(Noop),
            target: self.targets[seq % self.targets.len()].clone(),
            retries: Retries::default(),
            extras: None,
        }
    }
}

/// Returns what the tasks aim at: everything, or overlapping halves of the engines.
fn targets(engines: u32, subsets: usize) -> Vec<Target> {
    if subsets == 0 {
        return vec![Target::Any];
    }
    let mut draw = Draw(42);
    let half = |_| {
        let mut ids: Vec<EngineId> = (0..engines).map(EngineId).collect();
        let members = (engines as usize / 2).max(1);
        for place in 0..members {
            let other = place + draw.below(ids.len() - place);
            ids.swap(place, other);
        }
        ids.truncate(members);
        Target::Of(Arc::from(ids))
    };
    (0..subsets).map(half).collect()
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
