//! `noop_throughput`: tasks that do nothing, submitted one by one, all in flight, then gathered; tasks/s.

use std::time::Instant;

use super::report::{Figure, Params};
use super::yardsticks::{Setup, YARDSTICKS};
use super::{Contender, Fallible, Plan, callboard_itself, on_plain_thread};

/// One in so many tasks is run before the clock starts: threads are up, and memory was touched.
const WARM_UP: usize = 10;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, tasks) = (plan.engines, plan.full_or_quick(200_000, 50_000));
    let systems = callboard_itself::ALL.into_iter().chain(YARDSTICKS);
    let contender = |(system, set_up): (&'static str, Setup)| -> Contender {
        Box::new(move || {
            let value = on_plain_thread(|| tasks_per_second(set_up, engines, tasks))?;
            let params = Params::new().with("engines", engines).with("tasks", tasks);
            Ok(vec![Figure { system, params, value, unit: "tasks/s" }])
        })
    };
    systems.map(contender).collect()
}

fn tasks_per_second(set_up: Setup, engines: usize, tasks: usize) -> Fallible<f64> {
    let mut system = set_up(engines)?;
    system.burst(tasks / WARM_UP)?;
    let start = Instant::now();
    system.burst(tasks)?;
    Ok(tasks as f64 / start.elapsed().as_secs_f64())
}
