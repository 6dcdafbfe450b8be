//! Views are choices of engines; executors are one way to submit for all of them, and for other mechanisms.
//!
//! `cargo run --example 03_views_and_executors`; after `--` may follow further executors, by a text: `processes:2`.

use std::error::Error;
use std::time::Duration;

use callboard::prelude::*;
use callboard::{ExecutorSpec, MapOptions, ThreadPoolExecutor, every_nth};

#[task]
fn power(base: u64, exponent: u32) -> u64 {
    base.pow(exponent)
}

/// The engine that runs this.
#[task]
fn engine(cx: &TaskContext) -> u32 {
    cx.engine().map_or(0, |engine| engine.0)
}

#[task]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn main() -> Result<(), Box<dyn Error>> {
    // Where this was launched as a worker of `processes:2`, it is one from here on.
    #[cfg(all(unix, feature = "remote"))]
    callboard::init();
    let cluster = Cluster::threads(4).start()?;
    let rc = cluster.client();

    // One engine, some, every second one, all: a direct view runs a task on each.
    println!("{:?} {:?}", rc.engine(-1)?, rc.engines([0, -1])?);
    println!("{:?} runs on {:?}", rc.engines(every_nth(.., 2))?, rc.engines(every_nth(.., 2))?.apply(engine()).get()?);

    // `map` parts the items among them, in order; partial application is an ordinary closure.
    println!("{:?}", rc.all().map(|x| power(x, 2), 0..10).get()?);

    // A load-balanced view gives each item to the engine that has the least to do. The results in order ..
    let view = rc.load_balanced();
    for square in &view.map(|x| power(x, 2), 10..13) {
        print!("{} ", square?);
    }
    // .. or as they come.
    let naps = view.with().chunksize(1).map(nap, [60, 30, 1]);
    let in_turn: Vec<usize> = naps.as_completed().map(|(position, _)| position).collect();
    println!("and then {in_turn:?}");

    // An executor has the interface of `concurrent.futures`: the same function for any of them.
    let mut executors: Vec<Box<dyn Executor>> = vec![
        Box::new(ThreadPoolExecutor::new(2)?),
        Box::new(rc.executor()),
        Box::new(rc.engines(..2)?.executor()),
        Box::new(view.with().retries(2).label("night run").executor()),
    ];
    // Which it is need not be in the code.
    for argument in std::env::args().skip(1) {
        executors.push(Box::new(argument.parse::<ExecutorSpec>()?.open()?));
    }
    for executor in &executors {
        println!("{:>19}, {} at once: {:?}", executor.name(), executor.max_workers(), cubes(executor)?);
        executor.shutdown(Pending::Finish).get()?;
    }
    Ok(())
}

/// The first cubes above a thousand, of an endless input; at most 16 are computed ahead.
fn cubes(executor: &dyn Executor) -> Result<Vec<u64>, Box<dyn Error>> {
    let options = MapOptions::new().buffersize(16).timeout(Duration::from_secs(60));
    let cubes = executor.map_with(options, |x| power(x, 3), 1..)?;
    // Dropping the map, at the end of this, cancels what was computed ahead and is not wanted.
    let large = cubes.filter(|cube| cube.as_ref().is_ok_and(|cube| *cube > 1_000)).take(3);
    Ok(large.collect::<Result<_, _>>()?)
}
