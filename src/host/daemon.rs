//! The daemon: dials a controller as an engine does, and runs what it is told to run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep_until;

use super::cache::Cache;
use super::jobs::{Jobs, Order};
use super::machine::Machine;
use crate::error::Error;
use crate::net::{Connection, ConnectionFile, Dial, Serve};
use crate::remote::Departure;
use crate::wire::frame::{Lane, Message};
use crate::wire::hosts::{Description, FromHost, ToHost};
use crate::wire::protocol::{decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, Speaker};

/// A machine that runs, as engines of a cluster, the programs that are shipped to it; what `callboard host` is.
///
/// It dials the controller with an engine's connection file, again and again, and needs no program of any cluster's. What it runs is
/// shipped by [`Cluster::hosts`](crate::Cluster::hosts), the launcher [`Hosts`](crate::launchers::Hosts) or
/// [`Client::run_on_hosts`](crate::Client::run_on_hosts).
///
/// **Who may run programs on it:** whoever owns the controller, and whoever has a client's file of it. Nobody, unless
/// [`allow_programs`](Self::allow_programs) says so.
///
/// ```no_run
/// use callboard::Host;
///
/// Host::with("callboard-engine.json").cache("/var/cache/callboard").allow_programs().run()?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is dialled before .run()"]
pub struct Host {
    file: PathBuf,
    name: String,
    cache: PathBuf,
    cache_bytes_max: u64,
    engines_max: usize,
    allows_programs: bool,
    leave: Duration,
}

/// How many bytes of programs are kept by default.
const CACHE_BYTES_MAX: u64 = 2 << 30;

/// How long engines may go on with what they run once the host is told to leave, by default.
const LEAVE: Duration = Duration::from_secs(20);

impl Host {
    /// Describes a host of the cluster whose engine's connection file this is: as many engines as it has processors, programs of 2
    /// GiB in `callboard-host` of the present directory, under the name that the machine has.
    pub fn with(file: impl Into<PathBuf>) -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            file: file.into(),
            name,
            cache: "callboard-host".into(),
            cache_bytes_max: CACHE_BYTES_MAX,
            engines_max: std::thread::available_parallelism().map_or(1, usize::from),
            allows_programs: false,
            leave: LEAVE,
        }
    }

    /// Runs programs that are shipped. Without this the host is there, and refuses each.
    pub fn allow_programs(mut self) -> Self {
        self.allows_programs = true;
        self
    }

    /// Sets the directory of programs and of what runs, of this host alone.
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = directory.into();
        self
    }

    /// Sets how many bytes of programs are kept at most. Those that were used longest ago make place for others.
    pub fn cache_bytes_max(mut self, bytes: u64) -> Self {
        self.cache_bytes_max = bytes;
        self
    }

    /// Sets how many engines it runs at most.
    pub fn engines_max(mut self, n: usize) -> Self {
        self.engines_max = n;
        self
    }

    /// Sets what it is called in errors and logs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how long engines may go on with what they run once the host is told to leave, by `SIGTERM`.
    pub fn leave_within(mut self, leave: Duration) -> Self {
        self.leave = leave;
        self
    }

    /// Is a host until the cluster ends, or `SIGTERM` tells it to leave. Where the controller is away, it is looked for without end.
    ///
    /// # Errors
    /// [`Error::ConnectionFile`] if the file is not as it should be; [`Error::Refused`] if the controller does not let it in;
    /// [`Error::Launch`] if the directory cannot be used; [`Error::Zero`] for no engines.
    pub fn run(self) -> Result<(), Error> {
        if self.engines_max == 0 {
            return Err(Error::Zero { what: "the number of engines" });
        }
        // Programs run in folders of their own, so the path has to be the same from everywhere.
        let directory = std::path::absolute(&self.cache).unwrap_or_else(|_| self.cache.clone());
        let cache = Cache::open(&directory, self.cache_bytes_max);
        let cache = cache.map_err(|problem| Error::Launch { by: "the host".into(), problem: problem.into() })?;
        let (cache, machine, ending) = (Arc::new(Mutex::new(cache)), Machine::here(), Endings::default());
        let describe = || Description {
            name: crate::catch::shortened(&self.name, super::NAME_BYTES_MAX).into(),
            machine: machine.clone(),
            engines_max: u32::try_from(self.engines_max).unwrap_or(u32::MAX),
            allows_programs: self.allows_programs,
            programs: cache.lock().hashes(),
        };
        let dial =
            Dial::with(&self.file).search_for(Duration::MAX).leave_within(self.leave).finish_within(Duration::ZERO);
        let new = |speaker: Speaker, departure, file: &ConnectionFile| {
            speaker.say_or_end(Lane::Bulk, encode(&FromHost::Here(describe()), Vec::new()));
            let jobs = Jobs::new(cache.clone(), file.clone(), speaker.clone(), self.allows_programs);
            Desk::new(jobs, speaker, departure, &ending)
        };
        let ended = dial.run_host(new);
        // What still runs is on its way out.
        ending.0.lock().drain(..).for_each(|thread| drop(thread.join()));
        ended
    }
}

/// The threads of sessions that may not have ended.
#[derive(Default)]
struct Endings(Mutex<Vec<JoinHandle<()>>>);

/// Hands on what the controller says, for one session.
struct Desk {
    speaker: Speaker,
    orders: Sender<Order>,
    departing: tokio::task::JoinHandle<()>,
}

impl Desk {
    fn new(jobs: Jobs, speaker: Speaker, departure: Departure, endings: &Endings) -> Self {
        let (orders, received) = channel();
        let started = std::thread::Builder::new().name("cb-host".into()).spawn(move || jobs.carry_out(&received));
        match started {
            Ok(thread) => {
                let mut threads = endings.0.lock();
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => {
                tracing::error!(%error, "no thread for what runs here");
                speaker.close("the host has no thread left");
            }
        }
        let (told, told_speaker) = (orders.clone(), speaker.clone());
        let departing = actix::spawn(async move {
            let by = departure.told().await;
            // Where the thread is gone there is nothing that would leave.
            let _ = told.send(Order::Leave);
            sleep_until(by).await;
            told_speaker.close("the time of the host was over");
        });
        Self { speaker, orders, departing }
    }

    fn on_heard(&self, heard: Heard) -> Result<(), Box<str>> {
        let Heard { message, credit, .. } = heard;
        let said: ToHost = decode(&message)?;
        let Message { mut buffers, .. } = message;
        // Where the thread is gone the session ends.
        let _ = self.orders.send(Order::Said(said, buffers.pop(), credit));
        Ok(())
    }
}

impl Serve for Desk {
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending {
        let (reader, writer) = tokio::io::split(stream);
        let speaker = self.speaker.clone();
        run(reader, writer, &speaker, |heard| self.on_heard(heard)).await
    }

    /// What its engines run they finish themselves.
    async fn finish(&mut self) {}
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.departing.abort();
    }
}
