//! What an executor on a Dask cluster is to be like.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::DaskExecutor;
use super::bridge::{Bridge, Connecting};
use super::connection::Connection;
use super::entry::Again;
use super::python::interpreter;
use crate::error::Error;
use crate::limits::Limits;
use crate::task::{drawn, key_of};

/// What the workers load.
const PLUGIN: &str = concat!(
    include_str!("plugin/calls.py"),
    include_str!("plugin/machine.py"),
    include_str!("plugin/carried.py"),
    include_str!("plugin/engines.py"),
    include_str!("plugin/engine.py"),
);

/// How long a scheduler that cannot be reached is looked for, by default.
const CONNECT: Duration = Duration::from_secs(10);

/// Tasks that may be pending, by default: Dask keeps about a kilobyte of each, three times.
const PENDING_TASKS_MAX: usize = 100_000;

/// How the program comes to the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// It is sent if a worker has not the same file at the same path.
    #[default]
    Needed,
    /// It is sent in any case, also to workers that join later, and what was sent is what runs: the file here may be built anew
    /// meanwhile.
    Always,
    /// It is at the same path on all workers; one where it is not, is an error.
    Never,
}

/// What a [`DaskExecutor`] is to be like; [`connect`](Self::connect) makes it.
///
/// ```no_run
/// use std::time::Duration;
/// use callboard::DaskExecutor;
///
/// let ex = DaskExecutor::builder("tls://10.0.0.7:8786")
///     .tls("ca.pem", "client.pem", "client.key")
///     .python("/opt/analysis/bin/python")
///     .retries(2)
///     .unsatisfiable_after(Duration::from_secs(60))
///     .connect()?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is connected before .connect()"]
pub struct DaskBuilder {
    address: String,
    python: Option<String>,
    security: Option<Value>,
    retries: Option<u32>,
    workers: Vec<String>,
    resources: Map<String, Value>,
    program: Option<PathBuf>,
    args: Vec<String>,
    deliver: Deliver,
    timeout: Duration,
    unsatisfiable_after: Option<Duration>,
    limits: Limits,
}

impl DaskBuilder {
    pub(super) fn new(address: String) -> Self {
        let limits = Limits { pending_tasks_max: PENDING_TASKS_MAX, ..Limits::default() };
        Self {
            address,
            python: None,
            security: None,
            retries: None,
            workers: Vec::new(),
            resources: Map::new(),
            program: None,
            args: Vec::new(),
            deliver: Deliver::default(),
            timeout: CONNECT,
            unsatisfiable_after: None,
            limits,
        }
    }

    /// Sets the Python interpreter here, by default what the variable `CALLBOARD_PYTHON` names, else `python3`. It needs the package
    /// `distributed`, of the version that the cluster has or about that.
    pub fn python(mut self, python: impl Into<String>) -> Self {
        self.python = Some(python.into());
        self
    }

    /// Sets the files with which Dask's own TLS is spoken, to an address `tls://..`: the authority's certificate, and
    /// certificate and key of this client.
    pub fn tls(mut self, ca: impl Into<String>, cert: impl Into<String>, key: impl Into<String>) -> Self {
        self.security = Some(json!({
            "tls_ca_file": ca.into(),
            "tls_client_cert": cert.into(),
            "tls_client_key": key.into(),
            "require_encryption": true,
        }));
        self
    }

    /// Sets how often Dask makes a task again that failed, panicked, or lost its engine. If it is not set, a task marked
    /// `#[task(idempotent)]` survives two engines, as on a load-balanced view, and no other is made again. What a lost worker
    /// ran is made again in any case, as Dask does: `distributed.scheduler.allowed-failures` times.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Sets the workers that may run tasks, by address, host or name as in Dask; by default all, also those that join later.
    pub fn workers(mut self, workers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.workers = workers.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how much of one of the workers' resources each task takes, as in Dask: `resource("GPU", 1.0)`.
    pub fn resource(mut self, name: impl Into<String>, amount: f64) -> Self {
        self.resources.insert(name.into(), amount.into());
        self
    }

    /// Sets the program that the engines on the workers are, by default this one. Its `main` calls [`init`](crate::init) first, and
    /// it contains the tasks.
    pub fn engine_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Sets the arguments that it gets, behind one that tells it to be an engine; by default none.
    pub fn engine_args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how the program comes to the workers.
    pub fn deliver(mut self, deliver: Deliver) -> Self {
        self.deliver = deliver;
        self
    }

    /// Sets how long a scheduler that cannot be reached is looked for, by default 10 s.
    pub fn connect_within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has tasks settle as [`ExecutorLost`](crate::TaskError::ExecutorLost) that wait while there has been no worker for so long that may
    /// run them: none at all, or none of the [`workers`](Self::workers) or with enough of a [`resource`](Self::resource). By default they
    /// wait for one for ever, and the log says so.
    pub fn unsatisfiable_after(mut self, wait: Duration) -> Self {
        self.unsatisfiable_after = Some(wait);
        self
    }

    /// Sets how much may be pending, by default 100 000 tasks; the other limits are a cluster's.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects, and has the workers start their engines.
    ///
    /// # Errors
    /// [`Error::Dask`] says what is missing, and what to do; [`Error::Zero`] for a limit of zero; [`Error::System`].
    pub fn connect(self) -> Result<DaskExecutor, Error> {
        self.limits.check()?;
        let (address, limits) = (self.address.clone(), self.limits.clone());
        Ok(DaskExecutor::over(Connection::open(self)?, address, limits))
    }

    /// Returns the scheduler's address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Starts a bridge and waits until it is connected: for tasks, or for engines that dial, so many and with a connection file.
    pub(super) fn start(&self, engines: Option<(usize, &str)>) -> Result<Bridge, Error> {
        let (bridge, connecting) = self.begin(engines, None)?;
        connecting.wait().map(|()| bridge)
    }

    /// Starts a bridge, which connects, and clears what one of this session has left.
    pub(super) fn begin(
        &self,
        engines: Option<(usize, &str)>,
        left: Option<&str>,
    ) -> Result<(Bridge, Connecting), Error> {
        let session = format!("{:016x}", drawn());
        let mut configuration = self.configuration(engines)?;
        configuration["session"] = session.as_str().into();
        configuration["left"] = left.into();
        let interpreter = interpreter(self.python.as_deref());
        let again = if self.retries.is_some() { Again::ByDask } else { Again::AfterLosses };
        Bridge::start(&self.address, &interpreter, session, configuration.to_string().as_bytes(), again)
    }

    /// Returns what the bridge is told first.
    fn configuration(&self, engines: Option<(usize, &str)>) -> Result<Value, Error> {
        let program = match &self.program {
            Some(program) => std::path::absolute(program),
            None => std::env::current_exe(),
        };
        let program = program
            .map_err(|error| Error::System { doing: "finding out where the program is", reason: error.to_string() })?;
        // Of another program it is not known what it is built for: for this machine, most likely.
        let needs = self.program.is_none().then(this_build);
        let mut submit = Map::new();
        if let Some(retries) = self.retries.filter(|&retries| retries > 0) {
            submit.insert("retries".into(), retries.into());
        }
        if !self.workers.is_empty() {
            submit.insert("workers".into(), self.workers.clone().into());
        }
        if !self.resources.is_empty() {
            submit.insert("resources".into(), self.resources.clone().into());
        }
        let deliver = match self.deliver {
            Deliver::Needed => "needed",
            Deliver::Always => "always",
            Deliver::Never => "never",
        };
        Ok(json!({
            "address": self.address,
            "security": self.security,
            "timeout_s": self.timeout.as_secs_f64(),
            "unsatisfiable_after_s": self.unsatisfiable_after.map(|wait| wait.as_secs_f64()),
            "module": format!("callboard_dask_{:016x}", key_of(PLUGIN, 0)),
            "plugin": PLUGIN,
            "program": { "path": program, "args": self.args, "dials": engines.is_some() },
            "engines": engines.map(|(n, file)| json!({ "n": n, "file": file })),
            "needs": needs,
            "deliver": deliver,
            "submit": submit,
        }))
    }
}

/// Says for which machines this program is built, in the words of Python's `platform`.
fn this_build() -> [&'static str; 3] {
    let system = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    };
    let libc = match () {
        () if cfg!(target_feature = "crt-static") => "",
        () if cfg!(target_env = "gnu") => "glibc",
        () if cfg!(target_env = "musl") => "musl",
        () => "",
    };
    [system, std::env::consts::ARCH, libc]
}
