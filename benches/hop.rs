//! One task's way there and back, on an idle cluster: alone, and a thousand in flight.
//!
//! `callboard bench` lays the same beside other systems; this is for seeing what a change did.

use std::hint::black_box;
use std::process::ExitCode;

use callboard::{Cluster, Error, LoadBalancedView, TaskError};
use criterion::{Criterion, Throughput};

#[path = "../src/bin/callboard/bench/noop.rs"]
mod noop;

use noop::Noop;

const ENGINES: usize = 2;

const MANY: usize = 1_000;

fn main() -> ExitCode {
    let mut criterion = Criterion::default().configure_from_args();
    if let Err(error) = hop(&mut criterion) {
        eprintln!("hop: {error}");
        return ExitCode::FAILURE;
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn hop(criterion: &mut Criterion) -> Result<(), Error> {
    let cluster = Cluster::threads(ENGINES).start()?;
    let view = cluster.client().load_balanced();
    let mut group = criterion.benchmark_group("hop");
    group.bench_function("one", |bencher| bencher.iter(|| black_box(view.apply(Noop).get())));
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("thousand", |bencher| bencher.iter(|| black_box(gather(&view))));
    group.finish();
    Ok(())
}

fn gather(view: &LoadBalancedView) -> Result<(), TaskError> {
    let results: Vec<_> = (0..MANY).map(|_| view.apply(Noop)).collect();
    results.into_iter().try_for_each(|result| result.get())
}
