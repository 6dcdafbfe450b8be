//! `engine_death`: tasks of 20 ms on process engines, one of which is killed halfway; seconds to the last result, and what
//! became of the tasks.

use std::time::{Duration, Instant};

use callboard::{Cluster, Task, TaskContext, TaskFailure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::callboard_itself::Engines;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, on_plain_thread};

/// Sleeps; returns the number of the process that it ran in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Nap {
    ms: u64,
}

impl Task for Nap {
    type Output = i32;
    const NAME: &'static str = "callboard::bench::nap";
    const IDEMPOTENT: bool = true;

    fn run(self, _: &TaskContext) -> Result<i32, TaskFailure> {
        std::thread::sleep(Duration::from_millis(self.ms));
        Ok(std::process::id() as i32)
    }
}

callboard::register_task!(Nap);

const NAP_MS: u64 = 20;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, tasks) = (plan.engines, plan.full_or_quick(200, 40));
    let contender = move |killed: usize| -> Contender {
        Box::new(move || {
            let outcome = on_plain_thread(|| run(engines, tasks, killed))?;
            let quantities =
                [("time", outcome.time_s, "s"), ("lost", outcome.lost, "tasks"), ("retried", outcome.retried, "tasks")];
            let figure = |(quantity, value, unit)| {
                let params = Params::new().with("engines", engines).with("tasks", tasks);
                let params = params.with("killed", killed).with("quantity", quantity);
                Figure { system: Engines::Processes.name(), params, value, unit }
            };
            Ok(quantities.into_iter().map(figure).collect())
        })
    };
    vec![contender(0), contender(1)]
}

struct Outcome {
    time_s: f64,
    lost: f64,
    retried: f64,
}

fn run(engines: usize, tasks: usize, killed: usize) -> Fallible<Outcome> {
    let cluster = Cluster::processes(engines).start()?;
    let rc = cluster.client();
    let pids = rc.all().apply(Nap { ms: 0 }).get()?;
    let half = Duration::from_millis(NAP_MS * tasks as u64 / engines as u64 / 2);
    let view = rc.load_balanced();
    let start = Instant::now();
    let naps: Vec<_> = (0..tasks).map(|_| view.apply(Nap { ms: NAP_MS })).collect();
    std::thread::sleep(half.saturating_sub(start.elapsed()));
    for pid in pids.into_iter().take(killed) {
        kill_process(Pid::from_raw(pid).ok_or("a process has a number")?, Signal::KILL)?;
    }
    let lost = naps.iter().filter(|nap| nap.get().is_err()).count();
    let time_s = start.elapsed().as_secs_f64();
    let retried = naps.iter().filter(|nap| nap.metadata().attempt.0 > 1).count();
    Ok(Outcome { time_s, lost: lost as f64, retried: retried as f64 })
}
