//! One task's way there and back, on an idle cluster: alone, and a thousand in flight.
//!
//! `callboard bench` lays the same beside other systems; this is for seeing what a change did.

use std::hint::black_box;
use std::process::ExitCode;

use callboard::{Cluster, Error, LoadBalancedView, TaskError, task};
use criterion::{Criterion, Throughput};

/// Does nothing. That of `callboard bench` is not to be had from here.
#[task]
fn noop() {}

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
    group.bench_function("one", |bencher| bencher.iter(|| black_box(view.apply(noop()).get())));
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("thousand", |bencher| bencher.iter(|| black_box(gather(&view))));
    group.finish();
    Ok(())
}

fn gather(view: &LoadBalancedView) -> Result<(), TaskError> {
    let results: Vec<_> = (0..MANY).map(|_| view.apply(noop())).collect();
    results.into_iter().try_for_each(|result| result.get())
}
