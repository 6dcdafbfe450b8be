//! The ledger's own work: 256 tasks come and 256 are settled, by the number of engines and of target subsets.
//!
//! `callboard bench --only scheduler_cost` measures the same with a million tasks waiting.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

#[path = "../src/cli/bench/full_ledger.rs"]
mod full_ledger;
#[path = "../src/cli/bench/noop.rs"]
mod noop;

use full_ledger::{BATCH, FullLedger};

const QUEUED: usize = 100_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("submit_and_settle");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (engines, subsets) in [(10, 0), (100, 0), (1_000, 0), (10_000, 0), (10, 100), (10_000, 100)] {
        let id = BenchmarkId::new(format!("{subsets}_subsets"), engines);
        let mut ledger = None;
        group.bench_function(id, |bencher| {
            let ledger = ledger.get_or_insert_with(|| FullLedger::new(engines, QUEUED, subsets));
            bencher.iter_custom(|cycles| (0..cycles).map(|_| timed_cycle(ledger)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
}

fn timed_cycle(ledger: &mut FullLedger) -> Duration {
    let batch = ledger.next_batch();
    let start = Instant::now();
    let orders = ledger.cycle(batch);
    let spent = start.elapsed();
    ledger.on_orders(orders);
    spent
}
