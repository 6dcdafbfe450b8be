//! `callboard status`: a client that asks where the tasks are, once or again and again.

mod look;
mod table;

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::{DEFAULT, Facts, in_words};
use super::exit::{Code, Failure};
use super::program::Program;
use super::progress::slowly;
use super::signals::{Signals, block_on};
use crate::net::{CLIENT_FILE, ClusterName, Dial, Home, Life};
use crate::{Client, Error};
use look::{Look, Since};

/// Which cluster, and how to show it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the cluster is called [default: default]
    #[arg(value_parser = |name: &str| name.parse::<ClusterName>())]
    name: Option<ClusterName>,
    /// The connection file of a client, for a cluster that has no name here
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    file: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Look again every so many seconds, until Ctrl-C or the cluster's end
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = read_interval)]
    watch: Option<Duration>,
}

const EXAMPLES: &str = "\
`sent` are tasks that an engine has and has not returned: it runs one at a time, the others wait there. `queued` are tasks
that wait for this engine and no other. The rate is that of the last quarter of a second, that of an engine since it joined;
with --watch both since the last look.

Examples:
  {program} status                       the cluster called `default`
  {program} status night --watch         again and again, every second
  {program} status --watch 10 --json     an object a line, every ten seconds
  {program} status --file run/callboard-client.json

Exit codes: 0 shown, 1 the controller cannot be reached, 3 no cluster of this name runs, 5 it has died.";

/// How far apart two looks are that tell a rate.
const RATE_OVER: Duration = Duration::from_millis(250);

/// How long the controller is looked for.
const SEARCH: Duration = Duration::from_secs(5);

fn read_interval(text: &str) -> Result<Duration, String> {
    let s: f64 = text.parse().map_err(|_| "a number of seconds is expected")?;
    let interval = Duration::try_from_secs_f64(s).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) { Err("at least 0.1".into()) } else { Ok(interval) }
}

/// Shows a cluster.
pub(crate) fn status(args: &Args, program: &Program) -> Result<(), Failure> {
    let target = match &args.file {
        Some(file) => Target { file: file.clone(), name: None, facts: None },
        None => Target::find(args.name.clone().unwrap_or_else(default), program)?,
    };
    let say = async |waited| program.say(format_args!("the controller has not answered for {}", in_words(waited)));
    let connecting = slowly(Dial::with(&target.file).search_for(SEARCH).connect(), say);
    // Dropped where it may wait until it has said goodbye; or the controller would wait for it.
    let client = block_on(or_interrupted(args, async { Ok(Some(connecting.await?)) }, None))??;
    let Some(client) = client else { return Ok(()) };
    block_on(or_interrupted(args, show(args, &client, &target, program), ()))?
}

/// Does something, until there is a signal: then whoever watches has seen enough.
async fn or_interrupted<T>(
    args: &Args,
    work: impl Future<Output = Result<T, Failure>>,
    enough: T,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        why = signals.next() => match args.watch {
            Some(_) => Ok(enough),
            None => Err(Failure::new(Code::Interrupted, format!("{why} before the controller had answered"))),
        },
        done = work => done,
    }
}

fn default() -> ClusterName {
    DEFAULT.parse().expect("it is a name")
}

/// The cluster that is looked at.
struct Target {
    file: PathBuf,
    name: Option<ClusterName>,
    facts: Option<Facts>,
}

impl Target {
    /// Finds a cluster by its name.
    fn find(name: ClusterName, program: &Program) -> Result<Self, Failure> {
        let home = Home::find()?;
        match home.life(&name)? {
            Life::Alive(_) => {}
            Life::None => {
                let text =
                    format!("no cluster is called {name}; start one with: {program} cluster start {name} --daemonize");
                return Err(Failure::new(Code::NoCluster, text));
            }
            Life::Dead => return Err(died(&name, program)),
        }
        let folder = home.folder(&name);
        Ok(Self { file: folder.join(CLIENT_FILE), facts: Facts::read(&folder), name: Some(name) })
    }

    /// Returns whether it has ended, as far as that can be seen from here; fails if it has died.
    fn has_gone(&self, program: &Program) -> Result<bool, Failure> {
        let Some(name) = &self.name else { return Ok(false) };
        match Home::find()?.life(name)? {
            Life::Alive(_) => Ok(false),
            Life::None => Ok(true),
            Life::Dead => Err(died(name, program)),
        }
    }
}

fn died(name: &ClusterName, program: &Program) -> Failure {
    let text = format!(
        "cluster {name} has died without being stopped; {program} cluster stop {name} removes what it left, and so does \
         starting it again"
    );
    Failure::new(Code::HadDied, text)
}

async fn show(args: &Args, client: &Client, target: &Target, program: &Program) -> Result<(), Failure> {
    let mut last = Look::at(client).await?;
    let Some(interval) = args.watch else {
        tokio::time::sleep(RATE_OVER).await;
        let look = Look::at(client).await?;
        return Ok(print(args, &look.report(&last, Since::Joined, target.facts.as_ref()))?);
    };
    let mut wait = RATE_OVER.min(interval);
    loop {
        tokio::time::sleep(wait).await;
        wait = interval;
        let look = match look_again(client, target, program).await? {
            Some(look) => look,
            None => {
                program.say("the cluster has ended");
                return Ok(());
            }
        };
        if stdout().is_terminal() && !args.json {
            // From the upper left corner on; what was there goes.
            write!(stdout(), "\x1b[H\x1b[2J")?;
        }
        print(args, &look.report(&last, Since::Before(&last), target.facts.as_ref()))?;
        last = look;
    }
}

/// Looks once more, when the controller is back if it is away; `None` if the cluster has ended.
async fn look_again(client: &Client, target: &Target, program: &Program) -> Result<Option<Look>, Failure> {
    let mut is_told = false;
    loop {
        match Look::at(client).await {
            Err(Error::ClusterStopped) => return Ok(None),
            Err(Error::Disconnected) => {
                if target.has_gone(program)? {
                    return Ok(None);
                }
                if !is_told {
                    program.say("the controller cannot be reached at present; it is looked for");
                    is_told = true;
                }
                tokio::time::sleep(RATE_OVER).await;
            }
            look => return Ok(Some(look?)),
        }
    }
}

fn print(args: &Args, report: &look::Report) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
    } else {
        write!(out, "{}", table::table(report))?;
        if args.watch.is_some() && !stdout().is_terminal() {
            writeln!(out)?;
        }
    }
    out.flush()
}
