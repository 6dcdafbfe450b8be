//! `map_throughput`: a map of tasks that do nothing, one task an item, and all its values; items/s.

use std::time::Instant;

use rayon::prelude::*;

use super::callboard_itself::Engines;
use super::noop::Noop;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, on_plain_thread};

/// How often a map is made in one run, after one that is not counted: threads are up, memory was touched, and
/// callboard has measured how long an item takes.
const MAPS: u32 = 3;

/// Makes one map of so many items and looks at every value.
type Map = Box<dyn Fn(usize) -> Fallible<usize>>;

/// How to set a system up, with so many threads.
type SetUp = fn(usize) -> Fallible<Map>;

const SYSTEMS: [(&str, SetUp); 7] = [
    (Engines::Threads.name(), |engines| callboard_map(Engines::Threads, engines)),
    (Engines::Processes.name(), |engines| callboard_map(Engines::Processes, engines)),
    (Engines::Tcp.name(), |engines| callboard_map(Engines::Tcp, engines)),
    (Engines::PlainTcp.name(), |engines| callboard_map(Engines::PlainTcp, engines)),
    (Engines::Elsewhere.name(), |engines| callboard_map(Engines::Elsewhere, engines)),
    ("rayon", rayon_map),
    ("serial", serial_map),
];

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, items) = (plan.engines, plan.full_or_quick(500_000, 100_000));
    let contender = |(system, set_up): (&'static str, SetUp)| -> Contender {
        Box::new(move || {
            let value = on_plain_thread(|| items_per_second(set_up, engines, items))?;
            let params = Params::new().with("engines", engines).with("items", items);
            Ok(vec![Figure { system, params, value, unit: "items/s" }])
        })
    };
    SYSTEMS.into_iter().map(contender).collect()
}

fn items_per_second(set_up: SetUp, engines: usize, items: usize) -> Fallible<f64> {
    let map = set_up(engines)?;
    let check = |values: usize| if values == items { Ok(()) } else { Err(format!("{values} values of {items} items")) };
    check(map(items)?)?;
    let start = Instant::now();
    for _ in 0..MAPS {
        check(map(items)?)?;
    }
    Ok(items as f64 * f64::from(MAPS) / start.elapsed().as_secs_f64())
}

fn callboard_map(kind: Engines, engines: usize) -> Fallible<Map> {
    let cluster = kind.start(engines)?;
    let view = cluster.client().load_balanced();
    Ok(Box::new(move |items| {
        // The cluster lives as long as its view is asked.
        let _alive = &cluster;
        Ok(view.map(|_| Noop, 0..items).take()?.len())
    }))
}

/// `par_iter` on a pool of its own: slices shared out by halving, nothing sent.
fn rayon_map(threads: usize) -> Fallible<Map> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Box::new(move |items| {
        let values: Vec<()> = pool.install(|| (0..items).into_par_iter().map(|_| std::hint::black_box(())).collect());
        Ok(values.len())
    }))
}

fn serial_map(_: usize) -> Fallible<Map> {
    Ok(Box::new(|items| Ok((0..items).map(|_| std::hint::black_box(())).collect::<Vec<()>>().len())))
}
