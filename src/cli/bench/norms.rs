//! `norms`: the tutorial's 16 norms of arrays of 8 to 128 MiB; milliseconds a loop.
//!
//! Nearly all of it is memory: each array is allocated, filled, read once and freed. So the allocator decides,
//! which is the same for all systems here: one that asks for huge pages.

use std::time::Instant;

use callboard::{Cluster, Task, TaskContext, TaskFailure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::callboard_itself::Engines;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, on_plain_thread};

/// The 2-norm of `0` ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Norm(pub(in crate::cli) usize);

impl Task for Norm {
    type Output = f64;
    const NAME: &'static str = "callboard::bench::norm";

    fn run(self, _: &TaskContext) -> Result<f64, TaskFailure> {
        Ok(norm_of_ones(self.0))
    }
}

callboard::register_task!(Norm);

/// Loops in one run, after one that is not counted.
const LOOPS: u32 = 5;

/// Computes all norms once.
type Norms = Box<dyn Fn(&[usize]) -> Fallible<Vec<f64>>>;

/// How to set a system up, with so many threads.
type SetUp = fn(usize) -> Fallible<Norms>;

const SYSTEMS: [(&str, SetUp); 3] =
    [(Engines::Threads.name(), callboard_norms), ("rayon", rayon_norms), ("serial", serial_norms)];

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    // 2^20 to 2^24 numbers, as `numpy.logspace(20, 24, 16, base=2, dtype=int)`; an eighth of that to be quick.
    let sizes = sizes(plan.full_or_quick(24.0, 21.0));
    let (engines, largest) = (plan.engines, *sizes.last().expect("there are 16"));
    let contender = |(system, set_up): (&'static str, SetUp)| -> Contender {
        let sizes = sizes.clone();
        Box::new(move || {
            let value = on_plain_thread(|| ms_per_loop(set_up, engines, &sizes))?;
            let params = Params::new().with("engines", engines).with("largest", largest);
            Ok(vec![Figure { system, params, value, unit: "ms/loop" }])
        })
    };
    SYSTEMS.into_iter().map(contender).collect()
}

/// Returns how many numbers each of the 16 arrays has, up to 2 to the power of `highest`.
pub(in crate::cli) fn sizes(highest: f64) -> Vec<usize> {
    (0..16).map(|i| 2_f64.powf(highest - 4.0 + 4.0 * f64::from(i) / 15.0) as usize).collect()
}

fn ms_per_loop(set_up: SetUp, engines: usize, sizes: &[usize]) -> Fallible<f64> {
    let norms = set_up(engines)?;
    let expected: Vec<f64> = sizes.iter().map(|&n| norm_of_ones(n)).collect();
    let check = |got: Vec<f64>| if got == expected { Ok(()) } else { Err("the norms are not those computed here") };
    check(norms(sizes)?)?;
    let start = Instant::now();
    for _ in 0..LOOPS {
        check(norms(sizes)?)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(LOOPS))
}

fn callboard_norms(engines: usize) -> Fallible<Norms> {
    let cluster = Cluster::threads(engines).start()?;
    let view = cluster.client().load_balanced();
    Ok(Box::new(move |sizes| {
        // The cluster lives as long as its view is asked.
        let _alive = &cluster;
        Ok(view.map(Norm, sizes.iter().copied()).take()?)
    }))
}

fn rayon_norms(threads: usize) -> Fallible<Norms> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Box::new(move |sizes| Ok(pool.install(|| sizes.par_iter().map(|&n| norm_of_ones(n)).collect()))))
}

fn serial_norms(_: usize) -> Fallible<Norms> {
    Ok(Box::new(|sizes| Ok(sizes.iter().map(|&n| norm_of_ones(n)).collect())))
}

/// Makes an array of so many ones and computes its 2-norm.
///
/// Sums in as many lanes as a processor adds at once; one sum alone would wait for each addition.
pub(in crate::cli) fn norm_of_ones(n: usize) -> f64 {
    const LANES: usize = 16;
    let array = vec![1.0_f64; n];
    let mut sums = [0.0; LANES];
    let mut chunks = array.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|x| x * x).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}
