//! What a client asks of hosts: to run its program, and to let it go.

use std::fmt;
use std::time::Duration;

use actix::Message;
use bytes::Bytes;

use super::program::Program;
use crate::async_result::Reply;
use crate::client::Client;
use crate::error::Error;
use crate::launchers::Hosts;
use crate::task::EngineId;

/// Run a program on hosts, as so many engines.
#[derive(Message)]
#[rtype(result = "Result<(u64, Vec<EngineId>), Error>")]
pub(crate) struct RunOnHosts {
    pub(crate) program: Program,
    /// What is in it, should a host want it.
    pub(crate) bytes: Bytes,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) engines: usize,
    /// How long hosts with room are waited for.
    pub(crate) wait: Duration,
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
    client: Client,
    launch: Option<u64>,
    engines: Vec<EngineId>,
}

impl OnHosts {
    pub(crate) fn new(client: Client, launch: u64, mut engines: Vec<EngineId>) -> Self {
        engines.sort_unstable();
        Self { client, launch: Some(launch), engines }
    }

    /// Returns the engines that have joined.
    pub fn engines(&self) -> &[EngineId] {
        &self.engines
    }

    /// Ends them; answered when they have.
    pub fn end(mut self) -> Reply<()> {
        match self.launch.take() {
            Some(launch) => self.client.leave_hosts(launch),
            None => Reply::new(async { Ok(()) }),
        }
    }
}

impl Drop for OnHosts {
    fn drop(&mut self) {
        if let Some(launch) = self.launch.take() {
            // Asked is enough.
            drop(self.client.leave_hosts(launch));
        }
    }
}

impl fmt::Debug for OnHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnHosts").field(&self.engines).finish()
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
    ///     let client = Client::connect("callboard-client.json")?;
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
            return Reply::new(async { Err(Error::Zero { what: "the number of engines" }) });
        }
        let asked = hosts.ask(n).and_then(|message| self.ask_hosts(message));
        let client = self.clone();
        Reply::new(async move {
            let (launch, engines) = asked?.await?;
            Ok(OnHosts::new(client, launch, engines))
        })
    }
}
