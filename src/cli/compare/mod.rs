//! `callboard compare`: the tutorial's comparison, the same work on every executor, side by side.
//!
//! Whatever can be named by an [`ExecutorSpec`] takes part. Executors take turns, one loop each, so that a machine that grows
//! slower meanwhile grows slower for all. In reading order:

mod measure;
mod table;
mod plot;

use std::fs;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use super::bench::report::{self, Series};
use super::bench::{Fallible, note};
use crate::{Error, ExecutorSpec};
use measure::{Contender, Work};

/// What to compare, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Args {
    /// Executors, with commas between: threads:N (a pool), processes:N (a pool), engines:N (threads of a cluster),
    /// tcp:N (processes that dial over TCP), cluster:NAME, cluster:FILE.json, dask:ADDRESS, dask:local:N (a Dask cluster that
    /// is started for it, with the Python that CALLBOARD_PYTHON names)
    #[arg(long, value_name = "LIST", default_value = "threads:4,processes:4,engines:4,tcp:4", value_delimiter = ',', value_parser = one_of_list)]
    executors: Vec<ExecutorSpec>,
    /// The largest of the 16 arrays has two to the power of this many numbers of 8 bytes
    #[arg(long, value_name = "N", default_value = "24", value_parser = RangedU64ValueParser::<u32>::new().range(4..=30))]
    exponent: u32,
    /// Loops over the 16 norms on each executor
    #[arg(long, value_name = "N", default_value = "15", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    loops: usize,
    /// Small tasks that are in flight together; also divided by ten, how many are timed one by one
    #[arg(long, value_name = "N", default_value = "20000", value_parser = RangedU64ValueParser::<usize>::new().range(10..=10_000_000))]
    tasks: usize,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Draw the norms as a picture, too
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    plot: Option<PathBuf>,
}

const ABOUT: &str = "\
norms: the time of 16 tasks, each of which makes an array of ones and computes its 2-norm; every result is checked
against the one that is computed here. The ratio is that of the best loop to the best of all executors.
tasks/s: tasks that do nothing, submitted one by one, all in flight. latency: one such task and its result.
Engines elsewhere need to run this program, which has these tasks.

Examples:
  callboard compare --executors threads:2,processes:2 --plot norms.svg
  callboard compare --json | jq -r '[.test, .params.executor, .value, .unit] | @tsv'";

/// Runs on each executor of one kind of small work; the figure is the median of them.
const RUNS: usize = 3;

/// Runs `callboard compare`.
pub(crate) fn compare(args: &Args) -> Fallible<()> {
    let twice = |(at, spec): (usize, &ExecutorSpec)| args.executors[..at].contains(spec);
    if let Some(at) = args.executors.iter().enumerate().position(twice) {
        return Err(format!("{} is named twice", args.executors[at]).into());
    }
    let work = Work::new(f64::from(args.exponent), args.tasks);
    let say = |what: &str| {
        if stderr().is_terminal() {
            note(what);
        }
    };
    if let Some(file) = &args.plot {
        // Before the work: nobody is to learn after an hour that it cannot be written.
        can_be_written(file).map_err(|error| in_file(file, &error))?;
    }
    let open = |spec: &ExecutorSpec| {
        say(&format!("starting {spec}"));
        Contender::open(spec).map_err(|error| format!("{spec}: {error}"))
    };
    let contenders: Vec<Contender> = args.executors.iter().map(open).collect::<Result<_, _>>()?;
    let mut norms = Vec::new();
    // One that is not counted: threads and memory are there after it.
    for run in 0..=args.loops {
        say(&format!("norms: loop {run} of {}", args.loops));
        let figures = work.norms(&contenders)?;
        if run > 0 {
            norms.extend(figures);
        }
    }
    let (mut rates, mut waits) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        say(&format!("small tasks: run {run} of {RUNS}"));
        rates.extend(work.rates(&contenders)?);
        waits.extend(work.latencies(&contenders)?);
    }
    let all = [("norms", norms), ("noop_throughput", rates), ("latency", waits)];
    let [norms, rates, waits] = all.map(|(test, figures)| report::series_of(test, figures));
    let picture = plot::picture(&labels(&contenders), &norms, &report::machine());
    print(args, &contenders, &[norms, rates, waits])?;
    if let Some(file) = &args.plot {
        fs::write(file, picture).map_err(|error| in_file(file, &error))?;
    }
    Ok(())
}

/// Tries whether a file can be written. What is in it stays, and one that was not there is not left behind.
fn can_be_written(file: &Path) -> io::Result<()> {
    let was_there = file.symlink_metadata().is_ok();
    fs::File::options().append(true).create(true).open(file)?;
    if was_there { Ok(()) } else { fs::remove_file(file) }
}

fn in_file(file: &Path, error: &io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// Reads one executor of a list, after whose commas there may be spaces.
fn one_of_list(text: &str) -> Result<ExecutorSpec, Error> {
    text.trim().parse()
}

/// Takes the name of a picture, which is an SVG whatever it is called.
fn svg_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    match file.extension() {
        Some(other) if !other.eq_ignore_ascii_case("svg") => Err(format!(
            "the picture is an SVG, not a .{}; call it {}",
            other.display(),
            file.with_extension("svg").display()
        )),
        _ => Ok(file),
    }
}

fn print(args: &Args, contenders: &[Contender], measured: &[Vec<Series>; 3]) -> Fallible<()> {
    let mut out = stdout().lock();
    if args.json {
        note(report::machine());
        return measured.iter().try_for_each(|series| report::print_json(series, &mut out));
    }
    writeln!(out, "{}\n", report::machine())?;
    writeln!(out, "{}", table::of(&labels(contenders), measured))?;
    Ok(())
}

/// Returns what rows are called: first this thread, then each executor.
fn labels(contenders: &[Contender]) -> Vec<String> {
    std::iter::once("this thread".into())
        .chain(contenders.iter().map(|contender| contender.label.to_string()))
        .collect()
}
