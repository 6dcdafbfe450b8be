//! `idle`: what a cluster that does nothing takes, its processes together; MB of memory, and milliseconds of processor time
//! a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use callboard::{Client, ClusterBuilder, Task, TaskContext, TaskFailure};
use serde::{Deserialize, Serialize};

use super::own_process::{Run, in_own_process, processor_time, resident_bytes};
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, callboard_itself};

/// What was started may still be settling down for so long.
const SETTLE: Duration = Duration::from_millis(300);

/// What the process takes that this runs in: its number, bytes of memory, processor time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Usage;

impl Task for Usage {
    type Output = (u32, u64, Duration);
    const NAME: &'static str = "callboard::bench::usage";

    fn run(self, _: &TaskContext) -> Result<(u32, u64, Duration), TaskFailure> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| TaskFailure::new(error.to_string());
        Ok((std::process::id(), resident_bytes().map_err(failed)?, processor_time().map_err(failed)?))
    }
}

callboard::register_task!(Usage);

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, watch_ms) = (plan.engines, plan.full_or_quick(2_000, 1_000));
    let contender = |system: &'static str, processes: bool| -> Contender {
        Box::new(move || {
            let values = in_own_process(Run::Idle { engines, watch_ms, processes })?;
            let figure = |(value, (quantity, unit))| {
                let params = Params::new().with("engines", engines).with("quantity", quantity);
                Figure { system, params, value, unit }
            };
            Ok(values.into_iter().zip([("memory", "MB"), ("processor", "ms/s")]).map(figure).collect())
        })
    };
    vec![contender(callboard_itself::THREADS, false), contender(callboard_itself::PROCESSES, true)]
}

/// Makes the run; for a process of its own.
pub(super) fn measure(cluster: ClusterBuilder, watch: Duration) -> Fallible<Vec<f64>> {
    let cluster = cluster.start()?;
    let rc = cluster.client();
    // Twice: the first has the processes read their memory in.
    for _ in 0..2 {
        usage(&rc)?;
        std::thread::sleep(SETTLE);
    }
    let ((_, before), start) = (usage(&rc)?, Instant::now());
    std::thread::sleep(watch);
    let (bytes, after) = usage(&rc)?;
    let used_ms_per_s = after.saturating_sub(before).as_secs_f64() * 1e3 / start.elapsed().as_secs_f64();
    Ok(vec![bytes as f64 / 1e6, used_ms_per_s])
}

/// Asks each process once: this one, and those of the engines.
fn usage(rc: &Client) -> Fallible<(u64, Duration)> {
    let mut processes: BTreeMap<u32, (u64, Duration)> = BTreeMap::new();
    for (id, bytes, time) in rc.all().apply(Usage).get()? {
        processes.insert(id, (bytes, time));
    }
    processes.insert(std::process::id(), (resident_bytes()?, processor_time()?));
    let sum = |(bytes, time): (u64, Duration), (more, longer): (u64, Duration)| (bytes + more, time + longer);
    Ok(processes.into_values().fold((0, Duration::ZERO), sum))
}
