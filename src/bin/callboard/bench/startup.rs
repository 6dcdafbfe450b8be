//! `startup`: from nothing to every engine answering; seconds.

use std::time::Instant;

use callboard::{Cluster, ClusterBuilder};

use super::noop::Noop;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, callboard_itself, on_plain_thread};

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let engines = plan.engines;
    let contender = |system: &'static str, start: fn(usize) -> Fallible<f64>| -> Contender {
        Box::new(move || {
            let value = on_plain_thread(|| start(engines))?;
            Ok(vec![Figure { system, params: Params::new().with("engines", engines), value, unit: "s" }])
        })
    };
    vec![
        contender(callboard_itself::THREADS, |engines| start_callboard(Cluster::threads(engines))),
        contender(callboard_itself::PROCESSES, |engines| start_callboard(Cluster::processes(engines))),
        contender("rayon", start_rayon),
    ]
}

fn start_callboard(cluster: ClusterBuilder) -> Fallible<f64> {
    let start = Instant::now();
    let cluster = cluster.start()?;
    cluster.client().all().apply(Noop).get()?;
    Ok(start.elapsed().as_secs_f64())
}

fn start_rayon(threads: usize) -> Fallible<f64> {
    let start = Instant::now();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.broadcast(|_| ());
    Ok(start.elapsed().as_secs_f64())
}
