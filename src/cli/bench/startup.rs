//! `startup`: from nothing to every engine answering, in a program and from the shell; seconds.

use std::time::Instant;

use super::callboard_itself::Engines;
use super::noop::Noop;
use super::report::{Figure, Params};
use super::shell::InBackground;
use super::{Contender, Fallible, Plan, on_plain_thread};

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let engines = plan.engines;
    let contender = |system: &'static str, start: fn(usize) -> Fallible<f64>| -> Contender {
        Box::new(move || {
            let value = on_plain_thread(|| start(engines))?;
            Ok(vec![Figure { system, params: Params::new().with("engines", engines), value, unit: "s" }])
        })
    };
    vec![
        contender(Engines::Threads.name(), |engines| start_callboard(Engines::Threads, engines)),
        contender(Engines::Processes.name(), |engines| start_callboard(Engines::Processes, engines)),
        contender(Engines::Tcp.name(), |engines| start_callboard(Engines::Tcp, engines)),
        Box::new(move || {
            let (system, value) = (Engines::Processes.name(), start_from_shell(engines)?);
            let params = Params::new().with("engines", engines).with("from", "shell");
            Ok(vec![Figure { system, params, value, unit: "s" }])
        }),
        contender("rayon", start_rayon),
    ]
}

fn start_callboard(kind: Engines, engines: usize) -> Fallible<f64> {
    let start = Instant::now();
    let cluster = kind.start(engines)?;
    cluster.client().all().apply(Noop).get()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Until `callboard cluster start --daemonize` returns.
fn start_from_shell(engines: usize) -> Fallible<f64> {
    let start = Instant::now();
    let started = InBackground::start(engines)?;
    let took = start.elapsed().as_secs_f64();
    drop(started);
    Ok(took)
}

fn start_rayon(threads: usize) -> Fallible<f64> {
    let start = Instant::now();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.broadcast(|_| ());
    Ok(start.elapsed().as_secs_f64())
}
