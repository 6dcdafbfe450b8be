//! Engines on hosts: this program, shipped to machines where nobody installed it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::launches::LOOK;
use super::program::{Program, program_settings};
use crate::actors::ToAsk;
use crate::error::Error;
use crate::host::{self, LeaveHosts, NotNow, RunOnHosts, Shipment};
use crate::limits::WAIT_MAX;

/// Launches engines on [hosts](crate::Host) of the cluster: machines that run whatever program is shipped to them.
///
/// The program travels once to each host, and is known there by what is in it; so of one that has not changed nothing travels. It
/// has to be its own engines: its `main` calls [`init`](crate::init) first, as that of any program with
/// [`Cluster::processes`](crate::Cluster::processes). Hosts of another architecture, or without the libc that it needs, are not
/// taken.
///
/// ```no_run
/// use callboard::launchers::Hosts;
/// use callboard::{Listen, prelude::*};
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init(); // this program is its own engines
///     let cluster = Cluster::without_engines().start()?;
///     cluster.listen(Listen::at("10.0.0.7:4700").directory("run"))?; // hosts dial with run/callboard-engine.json
///     let engines = cluster.launch(Hosts::any(), 8)?;
///     assert_eq!(engines.joined().get()?.len(), 8);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Hosts {
    program: Program,
    wait: Duration,
}

/// How long hosts are waited for, by default: one that looks for its controller dials every few seconds.
const WAIT: Duration = Duration::from_secs(20);

impl Hosts {
    /// Launches on whichever hosts have room, those that have most of it first.
    pub fn any() -> Self {
        Self { program: Program::default(), wait: WAIT }
    }

    /// Sets how long hosts with enough room are waited for, by default 20 s.
    pub fn wait_for(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    program_settings!();
}

/// A program that has been read, and is to run on hosts: however often they are asked, what travels is this.
#[derive(Clone)]
pub(crate) struct Packed {
    program: host::Program,
    bytes: Bytes,
    args: Vec<Vec<u8>>,
    wait: Duration,
}

impl Hosts {
    /// Reads the program.
    ///
    /// # Errors
    /// [`Error::Launch`] if it cannot be read, or runs on no host.
    pub(crate) fn pack(&self) -> Result<Packed, Error> {
        let (program, bytes) = self.program.read().map_err(refused)?;
        let args = self.program.argv()?.into_iter().skip(1).map(OsString::into_vec).collect();
        Ok(Packed { program, bytes, args, wait: self.wait })
    }

    /// Returns what a client asks for `n` engines.
    pub(crate) fn ask(&self, n: usize, leave: ToAsk<LeaveHosts>) -> Result<RunOnHosts, Error> {
        let Packed { program, bytes, args, wait } = self.pack()?;
        Ok(RunOnHosts { program, bytes, args, engines: n, wait, leave })
    }
}

fn refused(problem: String) -> Error {
    Error::Launch { by: "hosts".into(), problem: problem.into() }
}

impl Launcher for Hosts {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        self.pack()?.launch(file, n)
    }
}

impl Launcher for Packed {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let shipment = Shipment { launch: file.number(), program: self.program.clone(), args: self.args.clone() };
        let shipment = Arc::new(shipment);
        let by = Instant::now() + self.wait.min(WAIT_MAX);
        loop {
            match file.hosts().start(&shipment, Some(&self.bytes), n) {
                Ok(jobs) => return Ok(jobs.into_iter().map(|job| Box::new(job) as Box<dyn LaunchedJob>).collect()),
                Err(NotNow::NoRoom(told)) if Instant::now() >= by => return Err(refused(told)),
                Err(NotNow::NoRoom(_)) => std::thread::sleep(LOOK),
                Err(NotNow::Wanted) => unreachable!("what is in it was given"),
            }
        }
    }
}

impl Program {
    /// Reads the program that is to travel.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    fn read(&self) -> Result<(host::Program, Bytes), String> {
        let named = match &self.path {
            Some(path) => path.clone(),
            None => {
                std::env::current_exe().map_err(|error| format!("it is not known where this program is: {error}"))?
            }
        };
        // What runs, although its file may have been replaced since.
        let itself = Path::new("/proc/self/exe");
        let path = if self.path.is_none() && itself.exists() { itself } else { &named };
        let bytes = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", named.display()))?;
        let (bytes, name) = (Bytes::from(bytes), named.file_name().unwrap_or_default().to_string_lossy());
        let program = host::Program::of(name.trim_end_matches(" (deleted)"), &bytes);
        Ok((program.map_err(|problem| format!("{}: {problem}", named.display()))?, bytes))
    }
}
