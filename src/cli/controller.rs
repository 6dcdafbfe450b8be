//! `callboard controller`: a controller without a program of its own, for engines and clients that are programs of yours.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::exit::Failure;
use super::log::Logging;
use super::program::Program;
use super::signals::{Signals, block_on};
use crate::{Client, Cluster, Listen, Pending};

/// Where to listen, and with which engines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen; at port 0 at one that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4700")]
    listen: String,
    /// Where the connection files are written; one that listened there before is the same cluster again
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Where others reach it, if that is another address than it listens at
    #[arg(long, value_name = "HOST:PORT")]
    reached_at: Option<String>,
    /// For how many days new connection files count, but never for longer than the authority in the directory. One that counts
    /// for less than a day, and less than a tenth of this, is made anew: then its files let nobody in
    #[arg(long, value_name = "DAYS", default_value = "365")]
    valid_days: u64,
    /// Speak without TLS, on loopback only
    #[arg(long)]
    plain_tcp: bool,
    /// How many engines to launch here, each a process of this program, or of --engine-program
    #[arg(long, value_name = "N", default_value = "0")]
    processes: usize,
    /// Another program that contains the tasks, and calls callboard::init() first in main
    #[arg(long, value_name = "FILE")]
    engine_program: Option<PathBuf>,
}

const EXAMPLES: &str = "\
It runs until it is interrupted, or a client shuts the cluster down.

Examples:
  {program} controller --listen 10.0.0.7:4700 --directory run
                                     copy run/callboard-engine.json to where engines are, and run/callboard-client.json
                                     to where clients are
  {program} controller --processes 4 --engine-program ./my-engine
                                     with four engines here that are processes of another program";

/// Is a controller until it is told to end, or a client has ended the cluster.
pub(crate) fn control(args: Args, program: &Program, logging: &Logging) -> Result<(), Failure> {
    let builder = Cluster::without_engines().processes(args.processes);
    let builder = match args.engine_program {
        Some(program) => builder.engine_program(program),
        // They tell as much as this process does.
        None => builder.engine_args(logging.to_args()),
    };
    let cluster = builder.start()?;
    let valid = Duration::from_secs(args.valid_days.saturating_mul(24 * 3_600));
    let mut listen = Listen::at(args.listen).directory(args.directory).valid_for(valid);
    if let Some(address) = args.reached_at {
        listen = listen.reached_at(address);
    }
    if args.plain_tcp {
        listen = listen.plain_tcp();
    }
    let listening = cluster.listen(listen)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening at {}", listening.address())?;
    writeln!(out, "engines join with {}", listening.engine_file().display())?;
    writeln!(out, "clients connect with {}", listening.client_file().display())?;
    drop(out);
    let client = cluster.client();
    let why = block_on(end(&client, program))??;
    if let Some(why) = why {
        eprintln!("{program}: {why}; {} pending tasks are cancelled", pending(&client));
    }
    Ok(cluster.shutdown(Pending::Cancel).get()?)
}

fn pending(client: &Client) -> usize {
    client.queue_status().get().map_or(0, |status| status.pending)
}

/// Waits until it is time to end; returns why, if not everything has ended by then.
async fn end(client: &Client, program: &Program) -> std::io::Result<Option<&'static str>> {
    let mut signals = Signals::new()?;
    let finished = async {
        // Answered when no engine joins any more: there are never so many.
        drop(client.wait_for_engines(usize::MAX).await);
        eprintln!("{program}: ended by a client; pending tasks are finished, unless it has cancelled them");
        drop(client.shutdown(Pending::Finish).await);
    };
    Ok(tokio::select! {
        why = signals.next() => Some(why),
        () = finished => None,
    })
}
