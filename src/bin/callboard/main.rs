//! The `callboard` command: what one does with a cluster from a shell.

mod bench;
mod controller;
mod huge_pages;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use callboard::Dial;
use clap::{Parser, Subcommand};

/// For `callboard bench --only norms`, and the like: tasks that fill large buffers.
#[global_allocator]
static ALLOCATOR: huge_pages::HugePages = huge_pages::HugePages;

/// Parallel computing with futures over engines.
#[derive(Debug, Parser)]
#[command(name = "callboard", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure callboard on this machine, beside other ways to run a task
    Bench(bench::Args),
    /// Be a controller, for engines and clients that come over the network
    Controller(controller::Args),
    /// Be an engine of the cluster whose connection file this is
    Engine {
        /// As the controller has written it: callboard-engine.json; or `-`, which is the standard input
        file: PathBuf,
        /// How many engines this process is
        #[arg(long, value_name = "N", default_value = "1")]
        engines: usize,
        /// How long a controller that cannot be reached is looked for, in seconds
        #[arg(long, value_name = "S", default_value = "60")]
        search_s: u64,
        /// How long it may go on with the task that it runs where none was found, in seconds
        #[arg(long, value_name = "S", default_value = "600")]
        finish_s: u64,
        /// How long it may go on with the task that it runs once SIGTERM tells it to leave, in seconds
        #[arg(long, value_name = "S", default_value = "20")]
        leave_s: u64,
        /// What is told on standard error: error, warn, info, debug or trace
        #[arg(long = "log", value_name = "LEVEL", default_value = "info")]
        level: tracing::Level,
    },
    /// One run of a test that needs a process of its own; `bench` starts it
    #[command(hide = true)]
    BenchChild(bench::ChildArgs),
}

const EXAMPLES: &str = "\
Examples:
  callboard bench                      every test, as a table (about four minutes)
  callboard bench --quick              smaller and fewer runs (some twenty seconds)
  callboard bench --only latency       one test; repeat --only for more
  callboard bench --json > mine.jsonl  one object a line, to lay beside other systems' figures
  callboard help bench                 what the tests measure
  callboard controller --listen 10.0.0.7:4700 --directory run
                                       a controller, which writes the files with which engines and clients come
  callboard engine callboard-engine.json
                                       an engine with no tasks but its own; for those of yours write a program that
                                       uses their crate and calls callboard::run_engine";

fn main() -> ExitCode {
    // A cluster of processes launches this program again, as its engines.
    callboard::init();
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::bench(&args),
        Command::Controller(args) => {
            log(args.log);
            controller::control(args)
        }
        Command::Engine { file, engines, search_s, finish_s, leave_s, level } => {
            log(level);
            let [search, finish, leave] = [search_s, finish_s, leave_s].map(Duration::from_secs);
            let dial = Dial::with(file).engines(engines).search_for(search).finish_within(finish);
            dial.leave_within(leave).run_engine().map_err(Into::into)
        }
        Command::BenchChild(args) => bench::child(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads our output may have seen enough: `callboard bench --json | head -1`.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callboard: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Has what happens told on standard error.
fn log(level: tracing::Level) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
