//! `callboard cluster stop`: has a controller end in good order, and if it does not, ends it.

use std::io::{Write, stdout};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::super::exit::{Code, Failure};
use super::super::program::Program;
use super::super::progress::slowly;
use super::super::signals::{Signals, block_on};
use super::facts::{Facts, in_words};
use super::{DEFAULT, read_name};
use crate::limits::WAIT_MAX;
use crate::net::{ClusterName, Holder, Home, Life};

/// Which cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the cluster is called
    #[arg(default_value = DEFAULT, value_parser = read_name)]
    name: ClusterName,
    /// How long it may take to end before it is killed, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    kill_after: u64,
}

const EXAMPLES: &str = "\
Pending tasks are cancelled. Tasks that run on engines that are processes end with these; those of threads have 5 s to
return. When this returns, no process and no file of the cluster is left. Ctrl-C kills the cluster at once.

Examples:
  {program} cluster stop                      the cluster called `default`
  {program} cluster stop night --kill-after 60

Exit codes: 0 stopped, 3 no cluster of this name runs, 5 it had died, and what it left was removed.";

/// Ends a cluster.
pub(super) fn stop(args: &Args, program: &Program) -> Result<(), Failure> {
    let (home, name) = (Home::find()?, &args.name);
    let holder = match home.life(name)? {
        Life::None => {
            let text = format!("no cluster is called {name}; {program} cluster list shows those that are");
            return Err(Failure::new(Code::NoCluster, text));
        }
        Life::Dead => {
            home.clear(name)?;
            let text = format!("cluster {name} had died without being stopped; what it left was removed");
            return Err(Failure::new(Code::HadDied, text));
        }
        Life::Alive(holder) => holder,
    };
    if let Some(facts) = Facts::read(&home.folder(name)).filter(Facts::is_elsewhere) {
        return Err(Failure::new(Code::Failed, format!("cluster {name} runs on {}; stop it there", facts.host)));
    }
    let pid = holder.pid;
    let end = block_on(end(holder, args, program))??;
    home.clear(name)?;
    match end {
        End::Orderly => writeln!(stdout(), "cluster {name} has ended (pid {pid})")?,
        End::Killed => {
            let after = args.kill_after;
            writeln!(stdout(), "cluster {name} was killed (pid {pid}): it had not ended within {after} s")?;
        }
        End::Interrupted => {
            return Err(Failure::new(Code::Interrupted, format!("interrupted: cluster {name} was killed (pid {pid})")));
        }
    }
    Ok(())
}

/// How a cluster has ended.
enum End {
    Orderly,
    Killed,
    Interrupted,
}

/// Tells a controller to end, and waits until it has.
async fn end(holder: Holder, args: &Args, program: &Program) -> Result<End, Failure> {
    let (name, mut signals) = (&args.name, Signals::new()?);
    holder.signal(Signal::TERM)?;
    let kill_at = Instant::now() + Duration::from_secs(args.kill_after).min(WAIT_MAX);
    let (killer, mut ended) = await_end(holder)?;
    let say = async |waited| {
        program.say(format_args!("cluster {name} has not ended after {}: tasks still run", in_words(waited)));
    };
    let end = slowly(
        async {
            tokio::select! {
                biased;
                _ = &mut ended => End::Orderly,
                _ = signals.next() => End::Interrupted,
                () = sleep_until(kill_at) => End::Killed,
            }
        },
        say,
    )
    .await;
    if !matches!(end, End::Orderly) {
        killer.signal(Signal::KILL)?;
        let _ = ended.await;
    }
    Ok(end)
}

/// Waits for the end on a thread of its own: it is the lock that tells, and for a lock one can only block.
fn await_end(holder: Holder) -> Result<(Holder, oneshot::Receiver<()>), Failure> {
    let (tell, ended) = oneshot::channel();
    let waiting = holder.try_clone()?;
    std::thread::Builder::new().name("cb-stop".into()).spawn(move || {
        if waiting.wait().is_ok() {
            let _ = tell.send(());
        }
    })?;
    Ok((holder, ended))
}
