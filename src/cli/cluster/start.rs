//! `callboard cluster start`: what is to be started, and what is said of it.

use std::ffi::OsString;
use std::io::{self, Write, stdout};
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::super::exit::{Code, Failure};
use super::super::log::Logging;
use super::super::program::Program;
use super::elsewhere::Elsewhere;
use super::engines::Engines;
use super::{DEFAULT, daemon, read_name, run};
use crate::net::ClusterName;

/// Which cluster, with which engines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the cluster is called
    #[arg(default_value = DEFAULT, value_parser = read_name)]
    pub(super) name: ClusterName,
    /// How many engines; each runs one task at a time [default: as many as there are processors, or as hosts say]
    #[arg(short = 'n', long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    count: Option<usize>,
    /// Where they are
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = Engines::Processes)]
    pub(super) engines: Engines,
    /// Run it in the background: return when its engines answer
    #[arg(long)]
    daemonize: bool,
    /// Where engines and clients reach it; at port 0 at one that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(super) listen: String,
    /// Where others reach it, if that is another address than it listens at
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) reached_at: Option<String>,
    /// Where its connection files are made, and stay: one that was started there before is the same cluster again, for engines
    /// and hosts elsewhere [default: the cluster's folder, which goes with it]
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Stop it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) lifetime: Option<u64>,
    /// This is the process in the background
    #[arg(long, hide = true)]
    in_background: bool,
    #[command(flatten)]
    pub(super) elsewhere: Elsewhere,
}

const EXAMPLES: &str = "\
A cluster has a name and a folder of its own, $CALLBOARD_HOME/NAME, else $XDG_STATE_HOME/callboard/NAME, else
~/.local/state/callboard/NAME, with the files by which engines and clients find it. It ends by `{program} cluster stop`, by
Ctrl-C, or when a client shuts it down; nothing is left then. A program connects by Client::connect_to(\"NAME\").

Its engines are processes of this program, and have the tasks that are compiled into it. Those that ssh, Slurm or mpiexec
start dial: they reach what --listen or --reached-at says, and end with the cluster. An engine that dies is started again, but for
those that Slurm starts, where --launch-arg=--requeue has it do that.

Examples:
  {program} cluster start -n 4                          four engines, here, until Ctrl-C
  {program} cluster start -n 4 --daemonize              the same in the background
  {program} cluster start night --daemonize             one called `night`, beside it
  {program} cluster start --engines threads             threads of one process
  {program} cluster start --listen 10.0.0.7:4700        for engines and clients on other machines too
  {program} cluster start --listen 10.0.0.7:4700 --engines ssh --host a:4,ada@b:4
                                                        eight engines, four on each of two hosts
  {program} cluster start --listen 10.0.0.7:4700 --engines slurm -n 64 --launch-arg=--partition=short
                                                        a job array of 64
  {program} cluster start --listen 10.0.0.7:4700 --directory run --engines hosts -n 8
                                                        eight on hosts that dial with run/callboard-engine.json

Exit codes: 0 started, 1 it could not be, 2 the command line is wrong, 4 a cluster of this name runs already.";

impl Args {
    /// Returns whether this process does not stay, and leaves a cluster.
    pub(super) fn leaves(&self) -> bool {
        self.daemonize
    }

    pub(super) fn count(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.count.or(self.elsewhere.count()).unwrap_or_else(processors)
    }

    /// Says what hosts lack: they dial what they dialled before.
    fn check_hosts(&self) -> Result<(), Failure> {
        if self.engines != Engines::Hosts {
            return Ok(());
        }
        let wrong = |text: &str| Err(Failure::new(Code::CommandLine, text.to_owned()));
        if self.directory.is_none() {
            return wrong(
                "--engines hosts needs --directory DIR: hosts dial with the callboard-engine.json that stays there",
            );
        }
        if self.listen.ends_with(":0") {
            return wrong(
                "--engines hosts needs --listen HOST:PORT with a port that is the same each time: hosts dial there",
            );
        }
        Ok(())
    }

    /// Returns the arguments by which this program is the same cluster, in the background.
    pub(super) fn to_background(&self) -> Vec<OsString> {
        let mut args = vec!["cluster".into(), "start".into(), "--in-background".into(), self.name.to_string()];
        args.extend(["--count".into(), self.count().to_string(), "--engines".into(), self.engines.name().into()]);
        args.extend(["--listen".into(), self.listen.clone()]);
        args.extend(self.reached_at.iter().flat_map(|address| ["--reached-at".into(), address.clone()]));
        args.extend(self.lifetime.iter().flat_map(|s| ["--lifetime".into(), s.to_string()]));
        // The process in the background may be in another directory.
        let absolute = |directory: &PathBuf| std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        let directory = self.directory.iter().flat_map(|directory| ["--directory".into(), absolute(directory).into()]);
        args.into_iter().map(OsString::from).chain(directory).chain(self.elsewhere.to_args()).collect()
    }
}

/// What was started. The process in the background says it to the one that started it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Started {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) engines: Engines,
    pub(super) count: usize,
    pub(super) address: String,
    pub(super) engine_file: PathBuf,
    pub(super) client_file: PathBuf,
    /// Where its process tells what happens, if it is in the background.
    pub(super) log: Option<PathBuf>,
}

impl Started {
    /// Says what there is now, and how it ends.
    pub(super) fn print(&self, program: &Program) -> io::Result<()> {
        let Self { name, pid, engines, count, address, .. } = self;
        let mut out = stdout().lock();
        let engines = engines.counted(*count);
        writeln!(out, "cluster {name} runs: its engines answer ({engines}); pid {pid}, at {address}")?;
        writeln!(out, "engines join with {}", self.engine_file.display())?;
        writeln!(out, "clients connect with {}", self.client_file.display())?;
        if let Some(log) = &self.log {
            writeln!(out, "what happens is told in {}", log.display())?;
        }
        let or = if self.log.is_none() { "Ctrl-C, or " } else { "" };
        writeln!(out, "it ends by {or}{program} cluster stop {name}")?;
        out.flush()
    }
}

/// Starts a cluster, here or in the background.
pub(super) fn start(args: &Args, program: &Program, logging: &Logging) -> Result<(), Failure> {
    args.elsewhere.check(args.engines, args.count)?;
    args.check_hosts()?;
    if args.daemonize {
        return daemon::start(args, program, logging);
    }
    if args.in_background {
        return daemon::be(args, program, logging);
    }
    run::run(args, program, logging, run::Listener::Terminal)
}
