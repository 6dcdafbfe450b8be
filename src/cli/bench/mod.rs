//! `callboard bench`: what a task costs here, each figure beside those of other systems from the same run.
//!
//! A test names its contenders; each makes its runs in turn, so that a machine that grows slower meanwhile
//! grows slower for all of them. In reading order:

pub(in crate::cli) mod report;

mod bare_socket;
mod callboard_itself;
pub(in crate::cli) mod noop;
mod ping_pong;
mod pin;
mod shell;
mod yardsticks;

mod apply_all;
mod engine_death;
mod full_ledger;
mod idle;
mod latency;
mod map_throughput;
mod noop_throughput;
pub(in crate::cli) mod norms;
mod payload;
mod queued_memory;
mod scheduler_cost;
mod startup;

mod own_process;

use std::error::Error;
use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

pub(crate) use own_process::{Args as ChildArgs, child};
use report::{Figure, Series};

/// What to measure, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Args {
    /// Run only this test; may be given more than once
    #[arg(long, value_name = "TEST", value_enum)]
    only: Vec<Test>,
    /// Runs of each system in each test; the figure is their median [default: 5, with --quick 2]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    runs: Option<usize>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Engines of the cluster, and threads of the systems beside it
    #[arg(long, value_name = "N", default_value = "4", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_024))]
    engines: usize,
    /// Fewer tasks and runs: to see that it works, not how fast
    #[arg(long)]
    quick: bool,
}

const ABOUT: &str = "\
Every figure is the median of the runs. The yardsticks run in turn with callboard, one run each: compare
within one table, not between two. A ratio beside a yardstick is callboard's figure divided by its own.

Examples:
  callboard bench --only noop_throughput --only latency --engines 2 --runs 9
  callboard bench --json | jq -r '[.test, .system, .value, .unit] | @tsv'";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Test {
    /// Tasks that do nothing, submitted one by one, all in flight, then gathered
    NoopThroughput,
    /// A map of items that do nothing, one task an item
    MapThroughput,
    /// The tutorial's 16 norms of large arrays
    Norms,
    /// The same call on every engine; 64 MiB pushed, pulled, scattered, gathered
    ApplyAll,
    /// A blob to one engine and back
    Payload,
    /// One task that does nothing and its result, on an idle cluster
    Latency,
    /// Tasks of 20 ms on process engines, one of which is killed halfway
    EngineDeath,
    /// Memory of a task that waits, its result included
    QueuedMemory,
    /// The scheduler's own work for one task, by engines and sets of engines
    SchedulerCost,
    /// Memory and processor time of a cluster that does nothing
    Idle,
    /// From nothing to every engine answering
    Startup,
}

/// How large the tests are.
#[derive(Clone, Copy, Debug)]
struct Plan {
    engines: usize,
    runs: usize,
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Full,
    Quick,
}

pub(in crate::cli) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One system in a test: makes one run of it, which gives a figure or several.
type Contender = Box<dyn Fn() -> Fallible<Vec<Figure>>>;

/// Runs `callboard bench`.
pub(crate) fn bench(args: &Args) -> Fallible<()> {
    let plan = args.plan();
    if args.json {
        note(report::machine());
        for test in args.tests() {
            report::print_json(&measure(test, &plan)?, &mut stdout().lock())?;
        }
        return Ok(());
    }
    writeln!(stdout(), "{}\n", report::machine())?;
    let measured: Vec<(Test, Vec<Series>)> =
        args.tests().map(|test| Ok((test, measure(test, &plan)?))).collect::<Fallible<_>>()?;
    report::print_table(&measured, &mut stdout().lock())?;
    Ok(())
}

impl Args {
    fn plan(&self) -> Plan {
        let (size, runs) = if self.quick { (Size::Quick, 2) } else { (Size::Full, 5) };
        Plan { engines: self.engines, runs: self.runs.unwrap_or(runs), size }
    }

    /// Returns the tests in their own order, each once.
    fn tests(&self) -> impl Iterator<Item = Test> {
        let is_wanted = |test: &Test| self.only.is_empty() || self.only.contains(test);
        Test::value_variants().iter().copied().filter(is_wanted).filter(Test::is_possible_here)
    }
}

impl Plan {
    fn full_or_quick<T>(&self, full: T, quick: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Quick => quick,
        }
    }
}

impl Test {
    fn name(self) -> &'static str {
        match self {
            Self::NoopThroughput => "noop_throughput",
            Self::MapThroughput => "map_throughput",
            Self::Norms => "norms",
            Self::ApplyAll => "apply_all",
            Self::Payload => "payload",
            Self::Latency => "latency",
            Self::EngineDeath => "engine_death",
            Self::QueuedMemory => "queued_memory",
            Self::SchedulerCost => "scheduler_cost",
            Self::Idle => "idle",
            Self::Startup => "startup",
        }
    }

    fn contenders(self, plan: &Plan) -> Vec<Contender> {
        match self {
            Self::NoopThroughput => noop_throughput::contenders(plan),
            Self::MapThroughput => map_throughput::contenders(plan),
            Self::Norms => norms::contenders(plan),
            Self::ApplyAll => apply_all::contenders(plan),
            Self::Payload => payload::contenders(plan),
            Self::Latency => latency::contenders(plan),
            Self::EngineDeath => engine_death::contenders(plan),
            Self::QueuedMemory => queued_memory::contenders(plan),
            Self::SchedulerCost => scheduler_cost::contenders(plan),
            Self::Idle => idle::contenders(plan),
            Self::Startup => startup::contenders(plan),
        }
    }

    /// Returns whether this system can measure it; says so if not.
    fn is_possible_here(&self) -> bool {
        let needs_linux = matches!(self, Self::QueuedMemory | Self::Idle);
        if needs_linux && !cfg!(target_os = "linux") {
            note(format_args!("{}: left out, it reads /proc, which only Linux has", self.name()));
            return false;
        }
        true
    }
}

/// Says something on standard error. Where nobody reads that, nobody is told.
pub(in crate::cli) fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Makes all runs of one test, the contenders in turn.
fn measure(test: Test, plan: &Plan) -> Fallible<Vec<Series>> {
    let contenders = test.contenders(plan);
    let mut figures = Vec::new();
    for run in 1..=plan.runs {
        if stderr().is_terminal() {
            note(format_args!("{}: run {run} of {}", test.name(), plan.runs));
        }
        for contender in &contenders {
            figures.extend(contender().map_err(|error| format!("{}: {error}", test.name()))?);
        }
    }
    Ok(report::series_of(test.name(), figures))
}

/// Measures on a thread of its own: a plain one, that no runtime or actor system has been on before.
fn on_plain_thread<T: Send>(work: impl FnOnce() -> Fallible<T> + Send) -> Fallible<T> {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|_| Err("the thread that measures panicked".into()))
}
