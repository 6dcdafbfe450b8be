//! `callboard cluster`: clusters of this machine that have names. Each has a folder of its own, with the files by which it is
//! found.
//!
//! In reading order: `start` reads what is to be started and says what was; `run` is the controller, in this process or one in
//! the background, which `daemon` starts and listens to, and which has a `log_file`; `stop` ends one, `list` shows all. `facts` is what a cluster tells of
//! itself, `engines` what kinds of engines there are, `elsewhere` those that another program starts.

mod start;
mod run;
mod daemon;
mod log_file;
mod engines;
mod elsewhere;
mod facts;
mod stop;
mod list;

use clap::Subcommand;

use super::exit::Failure;
use super::log::Logging;
use super::program::Program;
use crate::net::ClusterName;

pub(crate) use facts::{Facts, in_words};

/// The name of a cluster that is given none.
pub(crate) const DEFAULT: &str = "default";

/// What to do with clusters.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    /// Start a cluster on this machine
    Start(start::Args),
    /// Stop a cluster that runs
    Stop(stop::Args),
    /// List the clusters of this machine
    List(list::Args),
}

const EXAMPLES: &str = "\
Examples:
  {program} cluster start -n 4 --daemonize   four engines, in the background
  {program} cluster list                     what runs, and what has died
  {program} cluster stop                     the end of it
  {program} help cluster start               names, folders, and more";

impl Command {
    pub(crate) fn stays(&self) -> bool {
        matches!(self, Self::Start(args) if !args.leaves())
    }

    pub(crate) fn run(self, program: &Program, logging: &Logging) -> Result<(), Failure> {
        match self {
            Self::Start(args) => start::start(&args, program, logging),
            Self::Stop(args) => stop::stop(&args, program),
            Self::List(args) => list::list(&args),
        }
    }
}

/// Reads the name of a cluster from the command line.
fn read_name(name: &str) -> Result<ClusterName, String> {
    name.parse()
}
