//! `callboard host`: a machine that runs the programs that are shipped to it.

use std::path::PathBuf;
use std::time::Duration;

use super::exit::Failure;
use crate::Host;

/// Of which cluster, and what it may do.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// As the controller has written it: callboard-engine.json
    file: PathBuf,
    /// Run programs that are shipped: those of the controller, and of whoever has its callboard-client.json. Without this it refuses
    /// each
    #[arg(long)]
    allow_programs: bool,
    /// Where programs are kept, of this host alone
    #[arg(long, value_name = "DIR", default_value = "callboard-host")]
    cache: PathBuf,
    /// How much is kept of programs, in MiB; those that were used longest ago make place for others
    #[arg(long, value_name = "MIB", default_value = "2048")]
    cache_mib: u64,
    /// How many engines it runs at most; by default as many as it has processors
    #[arg(long, value_name = "N")]
    engines: Option<usize>,
    /// What it is called in errors and logs; by default what the machine is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long its engines may go on with what they run once SIGTERM tells it to leave, in seconds
    #[arg(long, value_name = "S", default_value = "20")]
    leave_s: u64,
}

const EXAMPLES: &str = "\
It needs no program of the cluster's: a client ships its own, once, and it runs here as engines. It looks for its controller
without end, so it may be started with the machine.

Examples:
  {program} host --allow-programs callboard-engine.json
                                  run what is shipped, on all processors
  {program} host --allow-programs --cache /var/cache/callboard --engines 8 /etc/callboard/callboard-engine.json
                                  as a service does";

/// Is a host until the cluster has ended.
pub(crate) fn be_host(args: Args) -> Result<(), Failure> {
    let Args { file, allow_programs, cache, cache_mib, engines, name, leave_s } = args;
    let mut host = Host::with(file).cache(cache).cache_bytes_max(cache_mib.saturating_mul(1 << 20));
    host = host.leave_within(Duration::from_secs(leave_s));
    if allow_programs {
        host = host.allow_programs();
    }
    if let Some(engines) = engines {
        host = host.engines_max(engines);
    }
    if let Some(name) = name {
        host = host.name(name);
    }
    Ok(host.run()?)
}
