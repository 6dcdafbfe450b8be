//! `apply_all`: the same call on every engine, and 64 MiB pushed, pulled, scattered and gathered; microseconds.

use std::time::Instant;

use callboard::DirectView;

use super::callboard_itself::Engines;
use super::noop::Noop;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, on_plain_thread};

/// How often the same call is made on every engine in one run, and how often each large operation is done; the
/// median is taken.
const CALLS: usize = 500;
const TIMES: usize = 11;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, bytes) = (plan.engines, plan.full_or_quick(64 << 20, 4 << 20));
    let of = move |system, operation, bytes: usize, times: Vec<f64>| {
        let params = Params::new().with("operation", operation).with("engines", engines).with("bytes", bytes);
        Figure { system, params, value: median(times), unit: "us" }
    };
    let callboard = move |kind: Engines| -> Contender {
        Box::new(move || {
            let times = on_plain_thread(|| callboard_times(kind, engines, bytes))?;
            Ok(times.into_iter().map(|(operation, bytes, times)| of(kind.name(), operation, bytes, times)).collect())
        })
    };
    let rayon: Contender = Box::new(move || Ok(vec![of("rayon", "apply", 0, broadcast_times(engines)?)]));
    // What gathering cannot do without, and scattering of numbers neither: every byte is copied once.
    let serial: Contender = Box::new(move || {
        let times = copy_times(bytes);
        Ok(["scatter", "gather"].into_iter().map(|operation| of("serial", operation, bytes, times.clone())).collect())
    });
    vec![callboard(Engines::Threads), callboard(Engines::Processes), callboard(Engines::Tcp), rayon, serial]
}

type Times = Vec<(&'static str, usize, Vec<f64>)>;

fn callboard_times(kind: Engines, engines: usize, bytes: usize) -> Fallible<Times> {
    let cluster = kind.start(engines)?;
    let dv = cluster.client().all();
    let numbers = vec![1.0_f64; bytes / 8];
    for _ in 0..CALLS / 10 {
        dv.apply(Noop).wait()?;
    }
    let applied = (0..CALLS).map(|_| time(|| Ok(dv.apply(Noop).wait()?))).collect::<Fallible<Vec<f64>>>()?;
    let mut times = Times::from(["push", "pull", "scatter", "gather"].map(|operation| (operation, bytes, Vec::new())));
    // The first of each is not counted: threads are up, memory was touched.
    for round in 0..=TIMES {
        for ((_, _, times), took) in times.iter_mut().zip(one_of_each(&dv, &numbers)?) {
            if round > 0 {
                times.push(took);
            }
        }
    }
    times.insert(0, ("apply", 0, applied));
    Ok(times)
}

fn one_of_each(dv: &DirectView, numbers: &[f64]) -> Fallible<[f64; 4]> {
    let pushed = numbers.to_vec();
    let push = time(|| Ok(dv.push("a", pushed).wait()?))?;
    let pull = time(|| {
        let pulled = dv.pull::<Vec<f64>>("a").take()?;
        if pulled.iter().all(|values| values.len() == numbers.len()) { Ok(()) } else { Err("pulled too little".into()) }
    })?;
    let scattered = numbers.to_vec();
    let scatter = time(|| Ok(dv.scatter("b", scattered).wait()?))?;
    let mut gathered = Vec::new();
    let gather = time(|| {
        gathered = dv.gather::<f64>("b").get()?;
        Ok(())
    })?;
    if gathered.len() != numbers.len() {
        return Err(format!("{} numbers gathered of {}", gathered.len(), numbers.len()).into());
    }
    Ok([push, pull, scatter, gather])
}

/// `broadcast`: the same closure on every thread of a pool.
fn broadcast_times(threads: usize) -> Fallible<Vec<f64>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let broadcast = || {
        pool.broadcast(|_| ());
        Ok(())
    };
    (0..CALLS).map(|_| time(broadcast)).collect()
}

fn copy_times(bytes: usize) -> Vec<f64> {
    let numbers = vec![1.0_f64; bytes / 8];
    let copy = |_| {
        let start = Instant::now();
        std::hint::black_box(numbers.to_vec());
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..TIMES).map(copy).collect()
}

/// Returns how long it takes, in microseconds.
fn time(operation: impl FnOnce() -> Fallible<()>) -> Fallible<f64> {
    let start = Instant::now();
    operation()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
