//! `callboard engine`: an engine of a cluster elsewhere, with the tasks of this program.

use std::path::PathBuf;
use std::time::Duration;

use super::exit::Failure;
use crate::net::Dial;

/// Of which cluster, and with what patience.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
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
}

const EXAMPLES: &str = "\
It has the tasks that are compiled into this program. It ends when the cluster ends, or lets it go.

Examples:
  {program} engine callboard-engine.json                one engine
  {program} engine --engines 16 callboard-engine.json   sixteen in one process; what crashes one, crashes all";

/// Is an engine until the cluster has ended.
pub(crate) fn be_engine(args: Args) -> Result<(), Failure> {
    let [search, finish, leave] = [args.search_s, args.finish_s, args.leave_s].map(Duration::from_secs);
    let dial = Dial::with(args.file).engines(args.engines).search_for(search).finish_within(finish);
    Ok(dial.leave_within(leave).run_engine()?)
}
