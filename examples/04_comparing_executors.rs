//! The 16 norms of the tutorial on every executor there is: the same results, and how long each takes.
//!
//! `cargo run --release --example 04_comparing_executors`; a number after `--` is the exponent of the largest array,
//! 24 by default: 16 M numbers of 8 bytes. What follows it are executors of your choice in place of those here: `24 threads:2
//! processes:2 tcp:2 cluster:default`; or the one that the environment names by CALLBOARD_EXECUTOR.
//!
//! Nearly all of the time is memory: an array is made, filled, read once and given back. So the allocator decides.
//! This program sets one that asks for huge pages; without it (try it) everything takes about four times as long.

#[path = "../src/bin/callboard/huge_pages.rs"]
mod huge_pages;

use std::error::Error;
use std::time::Instant;

use callboard::prelude::*;
use callboard::{ExecutorSpec, Policy, ThreadPoolExecutor};

#[global_allocator]
static ALLOCATOR: huge_pages::HugePages = huge_pages::HugePages;

/// Makes an array of `n` ones and computes its 2-norm.
#[task]
fn norm_of_ones(n: usize) -> f64 {
    let array = vec![1.0_f64; n];
    // In eight lanes, so that the processor adds that many at once.
    let mut sums = [0.0; 8];
    for chunk in array.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

const ENGINES: usize = 4;
const LOOPS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    // Where this was launched as a worker, it is one from here on.
    #[cfg(all(unix, feature = "remote"))]
    callboard::init();
    let mut arguments = std::env::args().skip(1);
    let largest: f64 = match arguments.next() {
        Some(argument) => argument.parse().map_err(|_| format!("not an exponent of 2: {argument}"))?,
        None => 24.0,
    };
    let sizes: Vec<usize> = (0..16).map(|i| (largest - 4.0 + 4.0 * f64::from(i) / 15.0).exp2() as usize).collect();
    let reference: Vec<f64> = sizes.iter().map(|&n| norm_of_ones(n).call()).collect();

    let mut chosen: Vec<ExecutorSpec> = arguments.map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    if chosen.is_empty() {
        chosen.extend(ExecutorSpec::from_env()?);
    }

    let cluster = Cluster::threads(ENGINES).start()?;
    let at_random = Cluster::threads(ENGINES).policy(Policy::TwoBin).start()?;
    let rc = cluster.client();
    let mut executors: Vec<(String, Box<dyn Executor>)> = vec![
        ("threads of rayon's pool".into(), Box::new(ThreadPoolExecutor::new(ENGINES)?)),
        ("the least loaded engine".into(), Box::new(rc.executor())),
        ("the engines in turn".into(), Box::new(rc.all().executor())),
        ("one engine".into(), Box::new(rc.engine(0)?.executor())),
        ("two at random, the older".into(), Box::new(at_random.client().executor())),
    ];
    if !chosen.is_empty() {
        let open = |spec: &ExecutorSpec| Ok((spec.to_string(), Box::new(spec.open()?) as Box<dyn Executor>));
        executors = chosen.iter().map(open).collect::<Result<_, callboard::Error>>()?;
    }

    println!("{:>26} {:>10} {:>10}", "", "best", "median");
    let local = times(|| Ok(sizes.iter().map(|&n| norm_of_ones(n).call()).collect()), &reference)?;
    print("this thread", &local);
    for (name, executor) in &executors {
        let norms = || Ok(executor.map(norm_of_ones, sizes.iter().copied()).collect::<Result<_, _>>()?);
        print(name, &times(norms, &reference)?);
    }
    Ok(())
}

/// Computes the norms again and again; returns how long each time took, in milliseconds, from the best on.
fn times(norms: impl Fn() -> Result<Vec<f64>, Box<dyn Error>>, reference: &[f64]) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = Vec::with_capacity(LOOPS);
    for _ in 0..LOOPS {
        let start = Instant::now();
        let norms = norms()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if norms != reference {
            return Err(format!("{norms:?} != {reference:?}").into());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn print(name: &str, times: &[f64]) {
    println!("{name:>26} {:>7.1} ms {:>7.1} ms", times[0], times[times.len() / 2]);
}
