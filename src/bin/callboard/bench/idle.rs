//! `idle`: what a cluster that does nothing takes; MB of memory, and milliseconds of processor time a second.

use std::time::{Duration, Instant};

use callboard::Cluster;

use super::noop::Noop;
use super::own_process::{Run, in_own_process, processor_time, resident_bytes};
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, callboard_itself};

/// What was started may still be settling down for so long.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, watch_ms) = (plan.engines, plan.full_or_quick(2_000, 1_000));
    vec![Box::new(move || {
        let values = in_own_process(Run::Idle { engines, watch_ms })?;
        let figure = |(value, (quantity, unit))| {
            let params = Params::new().with("engines", engines).with("quantity", quantity);
            Figure { system: callboard_itself::THREADS, params, value, unit }
        };
        Ok(values.into_iter().zip([("memory", "MB"), ("processor", "ms/s")]).map(figure).collect())
    })]
}

/// Makes the run; for a process of its own.
pub(super) fn measure(engines: usize, watch: Duration) -> Fallible<Vec<f64>> {
    let cluster = Cluster::threads(engines).start()?;
    cluster.client().all().apply(Noop).get()?;
    std::thread::sleep(SETTLE);

    let (before, start) = (processor_time()?, Instant::now());
    std::thread::sleep(watch);
    let used = processor_time()?.saturating_sub(before);
    let used_ms_per_s = used.as_secs_f64() * 1e3 / start.elapsed().as_secs_f64();
    Ok(vec![resident_bytes()? as f64 / 1e6, used_ms_per_s])
}
