//! The work that is compared, and how long it takes.

use std::time::{Duration, Instant};

use super::super::bench::Fallible;
use super::super::bench::noop::Noop;
use super::super::bench::norms::{Norm, norm_of_ones, sizes};
use super::super::bench::report::{Figure, Params};
use crate::executors::OpenExecutor;
use crate::{Executor, ExecutorExt, ExecutorSpec};

/// An executor that takes part.
pub(super) struct Contender {
    /// Its kind, as in the lines of `callboard bench`.
    system: &'static str,
    /// What it was asked for by.
    pub(super) label: &'static str,
    executor: OpenExecutor,
}

/// What each is given to do.
pub(super) struct Work {
    sizes: Vec<usize>,
    expected: Vec<f64>,
    tasks: usize,
}

/// Small tasks that are run before any is timed.
const WARM_UP: usize = 100;

impl Contender {
    pub(super) fn open(spec: &ExecutorSpec) -> Result<Self, crate::Error> {
        let system = match spec {
            ExecutorSpec::Threads(_) => "callboard-thread-pool",
            ExecutorSpec::Engines(_) => "callboard-threads",
            ExecutorSpec::Processes(_) => "callboard-process-pool",
            ExecutorSpec::Tcp(_) => "callboard-tcp",
            ExecutorSpec::Cluster(_) => "callboard-cluster",
            ExecutorSpec::Dask(_) | ExecutorSpec::DaskLocal(_) => "callboard-dask",
        };
        let executor = spec.open()?;
        // Bound: one for each that the command line names.
        Ok(Self { system, label: spec.to_string().leak(), executor })
    }

    fn params(&self) -> Params {
        Params::new().with("executor", self.label).with("engines", self.executor.max_workers())
    }

    fn wrong(&self, what: &str) -> String {
        format!("{}: {what}", self.label)
    }
}

impl Work {
    /// Makes it; computes here what is to come.
    pub(super) fn new(highest: f64, tasks: usize) -> Self {
        let sizes = sizes(highest);
        let expected = sizes.iter().map(|&n| norm_of_ones(n)).collect();
        Self { sizes, expected, tasks }
    }

    /// Computes the norms once on this thread and once on each executor; milliseconds.
    pub(super) fn norms(&self, contenders: &[Contender]) -> Fallible<Vec<Figure>> {
        let largest = self.sizes.last().copied().unwrap_or_default();
        let figure = |system, params: Params, time: Duration| {
            let params = params.with("largest", largest);
            Figure { system, params, value: time.as_secs_f64() * 1e3, unit: "ms/loop" }
        };
        let start = Instant::now();
        let here: Vec<f64> = self.sizes.iter().map(|&n| norm_of_ones(n)).collect();
        let mut figures = vec![figure("serial", Params::new(), start.elapsed())];
        assert_eq!(here, self.expected, "the same code gives the same numbers");
        for contender in contenders {
            let start = Instant::now();
            let norms: Result<Vec<f64>, _> = contender.executor.map(Norm, self.sizes.iter().copied()).collect();
            let time = start.elapsed();
            if norms.map_err(|error| contender.wrong(&error.to_string()))? != self.expected {
                return Err(contender.wrong("its norms are not those that were computed here").into());
            }
            figures.push(figure(contender.system, contender.params(), time));
        }
        Ok(figures)
    }

    /// Submits tasks that do nothing, one by one, and gathers them; tasks a second.
    pub(super) fn rates(&self, contenders: &[Contender]) -> Fallible<Vec<Figure>> {
        let rate = |contender: &Contender| {
            burst(contender, WARM_UP)?;
            let start = Instant::now();
            burst(contender, self.tasks)?;
            let value = self.tasks as f64 / start.elapsed().as_secs_f64();
            let params = contender.params().with("tasks", self.tasks);
            Ok(Figure { system: contender.system, params, value, unit: "tasks/s" })
        };
        contenders.iter().map(rate).collect()
    }

    /// Has one task that does nothing run after the other; the median in microseconds.
    pub(super) fn latencies(&self, contenders: &[Contender]) -> Fallible<Vec<Figure>> {
        let latency = |contender: &Contender| {
            let mut times = Vec::with_capacity(self.tasks / 10);
            for _ in 0..self.tasks / 10 {
                let start = Instant::now();
                burst(contender, 1)?;
                times.push(start.elapsed());
            }
            times.sort_unstable();
            let value = times[times.len() / 2].as_secs_f64() * 1e6;
            let params = contender.params().with("quantile", "p50");
            Ok(Figure { system: contender.system, params, value, unit: "us" })
        };
        contenders.iter().map(latency).collect()
    }
}

fn burst(contender: &Contender, tasks: usize) -> Fallible<()> {
    let results: Vec<_> = (0..tasks).map(|_| contender.executor.submit(Noop)).collect();
    for result in results {
        result.get().map_err(|error| contender.wrong(&error.to_string()))?;
    }
    Ok(())
}
