//! `scheduler_cost`: the ledger's own work for one task, from its submission to the place it frees for the
//! next, by the number of engines and of the sets of engines that views aim at; ns/task.
//!
//! No threads, no actors: the pure ledger, with as many tasks waiting and every engine full.

use std::time::{Duration, Instant};

use super::callboard_itself::Engines;
use super::full_ledger::{BATCH, FullLedger};
use super::report::{Figure, Params};
use super::{Contender, Plan};

const ENGINES: [u32; 4] = [10, 100, 1_000, 10_000];

const SUBSETS: [usize; 2] = [0, 100];

/// Cycles before the clock starts.
const WARM_UP: usize = 20;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (queued, cycles) = plan.full_or_quick((1_000_000, 400), (100_000, 100));
    let contender = move |engines: u32, subsets: usize| -> Contender {
        Box::new(move || {
            let params =
                Params::new().with("engines", engines as usize).with("queued", queued).with("subsets", subsets);
            let value = ns_per_task(FullLedger::new(engines, queued, subsets), cycles);
            Ok(vec![Figure { system: Engines::Threads.name(), params, value, unit: "ns/task" }])
        })
    };
    SUBSETS.into_iter().flat_map(|subsets| ENGINES.map(|engines| contender(engines, subsets))).collect()
}

fn ns_per_task(mut ledger: FullLedger, cycles: usize) -> f64 {
    for _ in 0..WARM_UP {
        timed_cycle(&mut ledger);
    }
    let spent: Duration = (0..cycles).map(|_| timed_cycle(&mut ledger)).sum();
    spent.as_secs_f64() * 1e9 / (cycles * BATCH) as f64
}

fn timed_cycle(ledger: &mut FullLedger) -> Duration {
    let batch = ledger.next_batch();
    let start = Instant::now();
    let orders = ledger.cycle(batch);
    let spent = start.elapsed();
    ledger.on_orders(orders);
    spent
}
