//! What a client asks of hosts: to run its program, and to let it go.

use std::fmt;
use std::time::Duration;

use actix::Message;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::program::Program;
use crate::actors::{ToAsk, ask};
use crate::async_result::Reply;
use crate::client::Client;
use crate::error::Error;
use crate::launchers::Hosts;
use crate::task::EngineId;

/// Run a program on hosts, as so many engines.
#[derive(Message)]
#[rtype(result = "Result<Running, Error>")]
pub(crate) struct RunOnHosts {
    pub(crate) program: Program,
    /// What is in it, should a host want it.
    pub(crate) bytes: Bytes,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) engines: usize,
    /// How long hosts with room are waited for.
    pub(crate) wait: Duration,
    /// Where it is asked that they end.
    pub(crate) leave: ToAsk<LeaveHosts>,
}

/// Engines that have joined. They end with this, whoever has it.
pub(crate) struct Running {
    launch: u64,
    engines: Vec<EngineId>,
    leave: ToAsk<LeaveHosts>,
    is_ended: bool,
}

impl Running {
    pub(crate) fn new(launch: u64, mut engines: Vec<EngineId>, leave: ToAsk<LeaveHosts>) -> Self {
        engines.sort_unstable();
        Self { launch, engines, leave, is_ended: false }
    }

    fn end(&mut self) -> oneshot::Receiver<()> {
        self.is_ended = true;
        ask(&self.leave, LeaveHosts { launch: self.launch })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_ended {
            // Asked is enough.
            drop(self.end());
        }
    }
}

/// End the engines of a launch.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaveHosts {
    pub(crate) launch: u64,
}

/// Engines on hosts of a cluster elsewhere that run a client's program. Owns them: dropping it ends them, and so does the end of the
/// client.
///
/// It does not wait for their end; [`end`](Self::end) does. What they run then they may finish, for 20 s.
#[must_use = "engines end when this is dropped"]
pub struct OnHosts {
    running: Running,
    /// Behind what runs: it is by this that it is asked.
    client: Client,
}

impl OnHosts {
    /// Returns the engines that have joined.
    pub fn engines(&self) -> &[EngineId] {
        &self.running.engines
    }

    /// Ends them; answered when they have.
    pub fn end(mut self) -> Reply<()> {
        let told = self.running.end();
        Reply::new(async move { told.await.map_err(|_| self.client.gone()) })
    }
}

impl fmt::Debug for OnHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnHosts").field(&self.running.engines).finish()
    }
}

impl Client {
    /// Runs this program on [hosts](crate::Host) of the cluster that the client is connected to, as `n` engines; answered when they have joined.
    ///
    /// So a program that was built a moment ago runs on machines where nobody installed it, and this one need not be reached
    /// from there: what travels goes by way of the controller. The engines have the tasks of this program, and so its tasks run
    /// on them; the program's `main` calls [`init`](crate::init) first.
    ///
    /// Answers [`Error::Launch`] if the client's cluster is of its own process (there, [`Cluster::launch`](crate::Cluster::launch) with
    /// [`Hosts`](crate::launchers::Hosts) does this), if there are no hosts with room, or if none can run the program;
    /// [`Error::EngineFailed`] if an engine has not joined, and then none is left.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// fn main() -> Result<(), callboard::Error> {
    ///     callboard::init();
    ///     let client = Client::connect("callboard-client.json").get()?;
    ///     let on_hosts = client.run_on_hosts(8).get()?;
    ///     assert_eq!(client.load_balanced().apply(square(7)).get()?, 49);
    ///     on_hosts.end().get()
    /// }
    /// ```
    pub fn run_on_hosts(&self, n: usize) -> Reply<OnHosts> {
        self.run_on_hosts_with(Hosts::any(), n)
    }

    /// As [`run_on_hosts`](Self::run_on_hosts), with another program, or another patience.
    pub fn run_on_hosts_with(&self, hosts: Hosts, n: usize) -> Reply<OnHosts> {
        if n == 0 {
            return Reply::refused(Error::Zero { what: "the number of engines" });
        }
        let (run, leave) = match self.hosts() {
            Ok(hosts) => hosts,
            Err(error) => return Reply::refused(error),
        };
        let (tell, read) = oneshot::channel();
        // A program may be large, and this thread may drive a runtime.
        let reads = move || tell.send(hosts.ask(n, leave)).unwrap_or_default();
        let started = std::thread::Builder::new().name("cb-program".into()).spawn(reads);
        let client = self.clone();
        Reply::new(async move {
            started.map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })?;
            let message = read.await.map_err(|_| Error::ClusterStopped)??;
            let running = ask(&run, message).await.map_err(|_| client.gone())??;
            Ok(OnHosts { running, client })
        })
    }
}
