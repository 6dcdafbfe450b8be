//! The command line: what one does with a cluster from a shell.
//!
//! A program whose `main` is [`main`] has all of it, and its own tasks with it: it is the controller, and launched again it is
//! the engines. The `callboard` command is such a program, whose tasks are those of [`demo`].

mod program;
mod exit;
mod log;
mod tell_controller;
mod signals;
mod progress;

pub mod demo;
mod cluster;
mod status;
mod controller;
mod engine;
mod host;
mod bench;
mod compare;
mod completions;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use tell_controller::TellController;

use exit::Failure;
use program::Program;

/// Parallel computing with futures over engines
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    logging: log::Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start, stop and list clusters of this machine, by name
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Show the engines, queues and tasks of a cluster
    Status(status::Args),
    /// Be a controller, for engines and clients that come over the network
    Controller(controller::Args),
    /// Be an engine of the cluster whose connection file this is
    Engine(engine::Args),
    /// Run the programs that are shipped to this machine, as engines of the cluster whose connection file this is
    Host(host::Args),
    /// Measure callboard on this machine, beside other ways to run a task
    Bench(bench::Args),
    /// Run the tutorial's comparison on executors of your choice
    Compare(compare::Args),
    /// Print what completes this command in a shell
    Completions(completions::Args),
    /// One run of a test that needs a process of its own; `bench` starts it
    #[command(hide = true)]
    BenchChild(bench::ChildArgs),
}

const EXAMPLES: &str = "\
Examples:
  {program} cluster start -n 4 --daemonize   a cluster of four engine processes, in the background
  {program} status --watch                   what it does, again and again
  {program} cluster stop                     its end
  {program} controller --listen 10.0.0.7:4700 --directory run
                                             a controller for engines and clients on other machines
  {program} engine callboard-engine.json     one of its engines
  {program} host --allow-programs callboard-engine.json
                                             this machine for programs that are shipped to it
  {program} bench --quick                    what a task costs here (some twenty seconds)
  {program} compare --executors threads:4,processes:4
                                             the same work on each, side by side
  {program} help cluster start               more about one of them

Exit codes:
  0    it is done
  1    it failed; standard error says why
  2    the command line is wrong
  3    no cluster of that name runs
  4    the cluster runs already
  5    the cluster had died without being stopped
  130  interrupted before it was done";

/// Runs the command line of this program: the whole of its `main`.
///
/// It calls [`init`](crate::init) first: launched as an engine, this program is one. The subcommands are those of the
/// `callboard` command, under this program's own name; `--help` tells them. Whatever tasks are linked into the program, the
/// engines of its clusters run, and its clients may call.
///
/// ```no_run
/// use callboard::prelude::*;
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// fn main() -> std::process::ExitCode {
///     callboard::cli::main() // my-program cluster start -n 4 --daemonize
/// }
/// ```
pub fn main() -> ExitCode {
    log::begin_in_engine();
    crate::init();
    let program = Program::find();
    let Cli { logging, command } = match parse(&program) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(command, &program, &logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&program),
    }
}

/// Reads the command line, in the program's own name.
fn parse(program: &Program) -> Result<Cli, clap::Error> {
    let mut command = program.name(Cli::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn run(command: Command, program: &Program, logging: &log::Logging) -> Result<(), Failure> {
    match &command {
        Command::Engine(_) => logging.begin_in_one_that_dials()?,
        command => logging.begin(command.stays()),
    }
    match command {
        Command::Cluster(command) => command.run(program, logging),
        Command::Status(args) => status::status(&args, program),
        Command::Controller(args) => controller::control(args, program, logging),
        Command::Engine(args) => engine::be_engine(args),
        Command::Host(args) => host::be_host(args),
        Command::Bench(args) => bench::bench(&args).map_err(Failure::Error),
        Command::Compare(args) => compare::compare(&args).map_err(Failure::Error),
        Command::BenchChild(args) => bench::child(&args).map_err(Failure::Error),
        Command::Completions(args) => completions::print(&args, program.name(Cli::command()), program),
    }
}

impl Command {
    /// Returns whether it goes on until it is ended, and so tells what happens meanwhile.
    fn stays(&self) -> bool {
        match self {
            Self::Controller(_) | Self::Host(_) => true,
            Self::Cluster(command) => command.stays(),
            _ => false,
        }
    }
}
