//! `idle`: what a cluster that does nothing takes, its processes together; MB of memory, and milliseconds of processor time
//! a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use callboard::{Task, TaskContext, TaskFailure};
use serde::{Deserialize, Serialize};

use super::callboard_itself::Engines;
use super::own_process::{Run, in_own_process, processor_time_of, resident_bytes_of};
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan};

/// What was started may still be settling down for so long.
const SETTLE: Duration = Duration::from_millis(300);

/// Says which process it runs in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Pid;

impl Task for Pid {
    type Output = u32;
    const NAME: &'static str = "callboard::bench::pid";

    fn run(self, _: &TaskContext) -> Result<u32, TaskFailure> {
        Ok(std::process::id())
    }
}

callboard::register_task!(Pid);

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, watch_ms) = (plan.engines, plan.full_or_quick(2_000, 1_000));
    let contender = |kind: Engines| -> Contender {
        Box::new(move || {
            let values = in_own_process(Run::Idle { engines, watch_ms, kind })?;
            let figure = |(value, (quantity, unit))| {
                let params = Params::new().with("engines", engines).with("quantity", quantity);
                Figure { system: kind.name(), params, value, unit }
            };
            Ok(values.into_iter().zip([("memory", "MB"), ("processor", "ms/s")]).map(figure).collect())
        })
    };
    [Engines::Threads, Engines::Processes, Engines::Tcp].map(contender).into()
}

/// Makes the run; for a process of its own.
pub(super) fn measure(kind: Engines, engines: usize, watch: Duration) -> Fallible<Vec<f64>> {
    let cluster = kind.start(engines)?;
    let mut processes: BTreeSet<u32> = cluster.client().all().apply(Pid).get()?.into_iter().collect();
    processes.insert(std::process::id());
    std::thread::sleep(SETTLE);

    let used = || processes.iter().map(|id| processor_time_of(*id)).sum::<Fallible<Duration>>();
    let (before, start) = (used()?, Instant::now());
    std::thread::sleep(watch);
    let used_ms_per_s = used()?.saturating_sub(before).as_secs_f64() * 1e3 / start.elapsed().as_secs_f64();
    let bytes = processes.iter().map(|id| resident_bytes_of(*id)).sum::<Fallible<u64>>()?;
    Ok(vec![bytes as f64 / 1e6, used_ms_per_s])
}
