//! `callboard controller`: a controller without a program of its own, for engines and clients that are programs of yours.

use std::io::{self, Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::in_words;
use super::exit::{Code, Failure};
use super::log::Logging;
use super::program::Program;
use super::progress::{slowly, unfinished};
use super::signals::{Signals, block_on};
use crate::{Client, Cluster, Listen, Listening, Pending};

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
    block_on(async {
        // From now on signals end this in good order.
        let mut signals = Signals::new()?;
        let cluster = start(&args, logging)?;
        let client = cluster.client();
        let begun = tokio::select! {
            biased;
            why = signals.next() => Err(Failure::new(Code::Interrupted, format!("{why} while engines were starting"))),
            begun = begin(&args, &cluster, program) => begun,
        };
        let done = match begun {
            Ok(()) => {
                if let Some(why) = until_end(&client, program, &mut signals).await {
                    let pending = client.queue_status().await.map_or(0, |status| status.pending);
                    program.say(format_args!("{why}; {pending} pending tasks are cancelled"));
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        let say = async |waited| {
            program.say(format_args!("the cluster has not ended after {}: tasks still run", in_words(waited)));
        };
        let ended = tokio::select! {
            ended = slowly(cluster.shutdown(Pending::Cancel), say) => ended,
            // Told once more, it does not wait for what runs.
            _ = signals.next() => Ok(()),
        };
        done.and_then(|()| Ok(ended?))
    })?
}

/// Starts a cluster whose engines are still to come.
fn start(args: &Args, logging: &Logging) -> Result<Cluster, Failure> {
    let builder = Cluster::without_engines();
    let builder = match &args.engine_program {
        Some(program) => builder.engine_program(program),
        // They tell as much as this process does.
        None => builder.engine_args(logging.to_args()),
    };
    Ok(builder.start()?)
}

/// Launches the engines that are this machine's, then listens, and says where.
async fn begin(args: &Args, cluster: &Cluster, program: &Program) -> Result<(), Failure> {
    let (count, client) = (args.processes, cluster.client());
    if count > 0 {
        let say = async |waited| {
            let (joined, waited) = (client.len(), in_words(waited));
            program.say(format_args!("{joined} of {count} engines have joined after {waited}"));
        };
        slowly(cluster.add_processes(count), say).await?;
    }
    let valid = Duration::from_secs(args.valid_days.saturating_mul(24 * 3_600));
    let mut listen = Listen::at(&args.listen).directory(&args.directory).valid_for(valid);
    if let Some(address) = &args.reached_at {
        listen = listen.reached_at(address);
    }
    if args.plain_tcp {
        listen = listen.plain_tcp();
    }
    let listening = cluster.listen(listen)?;
    // It is a controller also where nobody reads that.
    let _ = print(&listening);
    Ok(())
}

fn print(listening: &Listening) -> io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "listening at {}", listening.address())?;
    writeln!(out, "engines join with {}", listening.engine_file().display())?;
    writeln!(out, "clients connect with {}", listening.client_file().display())
}

/// Waits until it is time to end; returns why, if not everything has ended by then.
async fn until_end(client: &Client, program: &Program, signals: &mut Signals) -> Option<&'static str> {
    let finished = async {
        // Answered when no engine joins any more: there are never so many.
        drop(client.wait_for_engines(usize::MAX).await);
        program.say("ended by a client; pending tasks are finished, unless it has cancelled them");
        let say = async |waited| {
            let unfinished = unfinished(client).await;
            program.say(format_args!("after {}: {unfinished}", in_words(waited)));
        };
        drop(slowly(client.shutdown(Pending::Finish), say).await);
    };
    tokio::select! {
        why = signals.next() => Some(why),
        () = finished => None,
    }
}
