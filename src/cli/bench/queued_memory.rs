//! `queued_memory`: what a task that waits takes, its `AsyncResult`, waiter and record included; bytes/task.
//!
//! One engine is kept busy by one blocking task, the rest queues behind it. The growth of the process is
//! divided by their number; the `Vec` that holds their results is counted, nothing is subtracted.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use callboard::{Client, Cluster, Limits};

use super::callboard_itself::Engines;
use super::noop::Noop;
use super::own_process::{Run, in_own_process, resident_bytes};
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan};

/// How long the scheduler may take to get all of them.
const QUEUED_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let tasks = plan.full_or_quick(1_000_000, 100_000);
    vec![Box::new(move || {
        let params = Params::new().with("queued", tasks);
        let figures = in_own_process(Run::QueuedMemory { tasks })?.into_iter();
        let figure =
            |value| Figure { system: Engines::Threads.name(), params: params.clone(), value, unit: "bytes/task" };
        Ok(figures.map(figure).collect())
    })]
}

/// Makes the run; for a process of its own.
pub(super) fn measure(tasks: usize) -> Fallible<Vec<f64>> {
    let limits = Limits { pending_tasks_max: tasks + 1, ..Limits::default() };
    let cluster = Cluster::threads(1).limits(limits).start()?;
    let rc = cluster.client();
    let view = rc.load_balanced();

    let (started, has_started) = channel();
    let (release, released) = channel::<()>();
    let busy = view.apply_fn(move || {
        _ = started.send(());
        _ = released.recv();
    });
    has_started.recv()?;

    // Not touched yet, so that its pages count as they are filled.
    let mut results = Vec::with_capacity(tasks);
    let before = resident_bytes()?;
    results.extend((0..tasks).map(|_| view.apply(Noop)));
    wait_until_queued(&rc, tasks)?;
    let after = resident_bytes()?;

    drop(release);
    busy.get()?;
    for result in results {
        result.get()?;
    }
    Ok(vec![after.saturating_sub(before) as f64 / tasks as f64])
}

/// Waits until the scheduler has them all: a task on its way there holds other memory than one that waits.
fn wait_until_queued(rc: &Client, tasks: usize) -> Fallible<()> {
    let deadline = Instant::now() + QUEUED_WITHIN;
    loop {
        let queued = rc.queue_status().get()?.queued;
        if queued >= tasks {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{queued} of {tasks} tasks are queued after {QUEUED_WITHIN:?}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
