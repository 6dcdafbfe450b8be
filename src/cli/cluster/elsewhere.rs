//! Engines that another program starts, wherever that does: what the command line says of them, and how they are
//! launched.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::exit::{Code, Failure};
use super::super::log::Logging;
use super::engines::Engines;
use crate::launchers::{Hosts, JobState, Launched, Mpi, Packed, Slurm, Ssh};
use crate::{Cluster, Error};

/// Where they are, and what they are.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Engines elsewhere (--engines ssh, slurm or mpi)")]
pub(super) struct Elsewhere {
    /// With ssh: a host, as ssh names it; several with commas between, or one by one. HOST:N gets N engines where HOST
    /// gets one
    #[arg(long = "host", value_name = "HOST[:N]", value_delimiter = ',')]
    hosts: Vec<Host>,
    /// The program there, which has to have this command line [default: this one, at the same path]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// An argument of ssh, sbatch (srun in an allocation) or mpiexec, one each time: --launch-arg=--partition=short
    #[arg(long = "launch-arg", value_name = "ARG", allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// A host, and how large its share is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    share: usize,
}

/// The largest share that a host may have.
const SHARE_MAX: usize = 1_024;

impl std::str::FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, share) = match text.split_once(':') {
            // With more of them it is an address.
            Some((name, share)) if !share.contains(':') => {
                let share = share.parse().ok().filter(|share| (1..=SHARE_MAX).contains(share));
                (name, share.ok_or_else(|| format!("behind the colon a number from 1 to {SHARE_MAX} is expected"))?)
            }
            _ => (text, 1),
        };
        match name {
            "" => Err("a name is expected".into()),
            name if name.starts_with('-') => Err("a name does not begin with '-'".into()),
            name => Ok(Self { name: name.into(), share }),
        }
    }
}

impl Elsewhere {
    /// Says what is wrong with it beside other arguments.
    pub(super) fn check(&self, engines: Engines, count: Option<usize>) -> Result<(), Failure> {
        let wrong = |text: String| Err(Failure::new(Code::CommandLine, text));
        let name = engines.name();
        if !self.hosts.is_empty() && engines != Engines::Ssh {
            return wrong(format!("--host is for --engines ssh, and these are {name}"));
        }
        if !engines.are_launched() || engines == Engines::Hosts {
            let given = [("--program", self.program.is_some()), ("--launch-arg", !self.args.is_empty())];
            if let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return wrong(format!("{option} is for --engines ssh, slurm or mpi, and these are {name}"));
            }
        }
        if engines == Engines::Ssh && self.hosts.is_empty() {
            return wrong("--engines ssh needs hosts: --host a,b, as ssh names them".into());
        }
        if matches!(engines, Engines::Slurm | Engines::Mpi | Engines::Hosts) && count.is_none() {
            return wrong(format!("--engines {name} needs a number of engines: -n 16"));
        }
        Ok(())
    }

    /// Returns how many engines the hosts are for, if there are any.
    pub(super) fn count(&self) -> Option<usize> {
        let count = self.hosts.iter().map(|host| host.share).sum();
        (count > 0).then_some(count)
    }

    /// Returns the arguments that say the same again.
    pub(super) fn to_args(&self) -> Vec<OsString> {
        let said = |option: &str, value: OsString| {
            let mut arg = OsString::from(option);
            arg.push(value);
            arg
        };
        let hosts = self.hosts.iter().map(|host| said("--host=", format!("{}:{}", host.name, host.share).into()));
        let program = self.program.iter().map(|program| said("--program=", program.clone().into()));
        hosts.chain(program).chain(self.args.iter().map(|arg| said("--launch-arg=", arg.clone()))).collect()
    }

    /// Reads the program that hosts are to run; its engines tell as much as this process does.
    pub(super) fn packed(&self, logging: &Logging) -> Result<Packed, Failure> {
        let (program, args) = self.engine(logging)?;
        // Whoever starts the cluster waits for hosts, and may be interrupted.
        Ok(Hosts::any().wait_for(Duration::ZERO).program(program).program_args(args).pack()?)
    }

    /// Launches `n` engines by any other, which tell as much as this process does. What dies is started again, but by Slurm's own means.
    pub(super) fn launch(
        &self,
        engines: Engines,
        cluster: &Cluster,
        n: usize,
        logging: &Logging,
    ) -> Result<Launched, Failure> {
        let (program, args) = self.engine(logging)?;
        let own = self.args.iter().cloned();
        Ok(match engines {
            Engines::Slurm => cluster.launch(Slurm::new().args(own).program(program).program_args(args), n)?,
            Engines::Mpi => {
                cluster.launch(Mpi::new().args(own).program(program).program_args(args), n)?.restarting()?
            }
            _ => {
                let hosts = self.hosts.iter().flat_map(|host| std::iter::repeat_n(&*host.name, host.share));
                cluster.launch(Ssh::to(hosts).args(own).program(program).program_args(args), n)?.restarting()?
            }
        })
    }

    /// Returns the program that engines are, and its arguments.
    fn engine(&self, logging: &Logging) -> Result<(PathBuf, Vec<String>), Failure> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        Ok((program, ["engine".into(), "-".into()].into_iter().chain(logging.to_args()).collect()))
    }
}

/// Looks how what was launched stands, for as long as it is there: a batch system takes its time to answer.
#[derive(Default)]
pub(super) struct Look(Mutex<String>);

/// How often.
const EVERY: Duration = Duration::from_millis(500);

impl Look {
    pub(super) fn at(launched: Arc<Launched>) -> Result<Arc<Self>, Error> {
        let look = Arc::<Self>::default();
        let told = Arc::downgrade(&look);
        let again = move || {
            while Weak::strong_count(&told) > 0 {
                let waiting = waiting(&launched.states());
                if let Some(look) = told.upgrade() {
                    *look.0.lock() = waiting;
                }
                std::thread::sleep(EVERY);
            }
        };
        let started = std::thread::Builder::new().name("cb-launch-queue".into()).spawn(again);
        started.map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })?;
        Ok(look)
    }

    /// Says what waits, to be added to what else is said.
    pub(super) fn waiting(&self) -> String {
        self.0.lock().clone()
    }
}

/// Says how many wait in a queue, and for what.
fn waiting(states: &[(String, JobState)]) -> String {
    let mut reasons = Vec::new();
    for (_, state) in states {
        if let JobState::Waiting { reason } = state {
            reasons.push(&**reason);
        }
    }
    let count = reasons.len();
    reasons.sort_unstable();
    reasons.dedup();
    match count {
        0 => String::new(),
        1 => format!("; 1 waits in the queue ({})", reasons.join(", ")),
        _ => format!("; {count} wait in the queue ({})", reasons.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_share_where_one_is_said() {
        let host = |name: &str, share| Ok(Host { name: name.into(), share });
        let cases = [
            ("a", host("a", 1)),
            ("ada@a.example:16", host("ada@a.example", 16)),
            ("fe80::1", host("fe80::1", 1)),
            ("a:0", Err("behind the colon a number from 1 to 1024 is expected".into())),
            ("a:many", Err("behind the colon a number from 1 to 1024 is expected".into())),
            (":4", Err("a name is expected".into())),
            ("-oProxyCommand=x", Err("a name does not begin with '-'".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Host>(), expected, "{text}");
        }
    }

    #[test]
    fn what_waits_is_told_with_its_reasons() {
        let job = |state| ("Slurm job 1_0".into(), state);
        let waits = |reason: &str| job(JobState::Waiting { reason: reason.into() });
        assert_eq!(waiting(&[job(JobState::Running)]), "");
        assert_eq!(waiting(&[job(JobState::Running), waits("Priority")]), "; 1 waits in the queue (Priority)");
        let states = [waits("Resources"), waits("Priority"), waits("Resources")];
        assert_eq!(waiting(&states), "; 3 wait in the queue (Priority, Resources)");
    }
}
