//! What a program says of whom it dials, and an engine or a host that does.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use actix_rt::System;

use super::connection_file::ConnectionFile;
use super::dialler::Dialler;
use super::stay::{Serve, stay};
use super::tls;
use super::told::Told;
use super::way::Tcp;
use crate::error::Error;
use crate::limits::{Limits, check_workers};
use crate::registry::Registry;
use crate::remote::{Departure, Desk, Serving};
use crate::wire::handshake::{Hello, Role};
use crate::wire::session::Speaker;

/// How long a controller that cannot be reached is looked for, by default: it may be starting, or starting again.
const SEARCH: Duration = Duration::from_secs(60);

/// How long the task that an engine runs may take from when no controller was found, by default. It may write a file, and
/// nobody is left who could cancel it.
const FINISH: Duration = Duration::from_secs(600);

/// How long the task that an engine runs may take from when the engine is told to leave, by default: batch systems give 30 s
/// from `SIGTERM` to `SIGKILL`.
const LEAVE: Duration = Duration::from_secs(20);

/// Makes this program an engine of the cluster whose connection file this is, with the tasks that are linked into it.
///
/// The file `-` is the standard input. Returns when the cluster has ended, or lets it go. Where the connection is lost it dials again, and runs on meanwhile: it goes
/// on as the same engine if it is back soon, and joins as another if not.
///
/// **`SIGTERM`** has it leave, as batch systems mean it: it says so to its controller, gets no further task, hands back what it
/// has not started, which moves on without having used an attempt, and finishes what it runs, within 20 s
/// ([`Dial::leave_within`]). While no engine of this program runs, `SIGTERM` ends it as ever.
///
/// ```no_run
/// use my_tasks as _; // the library whose tasks it is to run
/// # mod my_tasks {}
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::run_engine("callboard-engine.json")
/// }
/// ```
///
/// # Errors
/// [`Error::ConnectionFile`] if the file is not as it should be; [`Error::Unreachable`] if no controller is found for a minute
/// ([`Dial::search_for`]); [`Error::Refused`] if it does not let us in, at once; [`Error::DuplicateTask`].
///
/// An engine that has lost its controller, and runs a task when one of these comes, first goes on with that: so the error is
/// returned up to ten minutes later ([`Dial::finish_within`]).
pub fn run_engine(file: impl Into<PathBuf>) -> Result<(), Error> {
    Dial::with(file).run_engine()
}

/// Whom to dial, and with what patience.
///
/// ```no_run
/// use std::time::Duration;
///
/// callboard::Dial::with("callboard-engine.json").search_for(Duration::from_secs(5)).run_engine()?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is dialled before .run_engine()"]
pub struct Dial {
    file: PathBuf,
    engines: usize,
    search: Duration,
    finish: Duration,
    leave: Duration,
    pub(super) limits: Limits,
}

impl Dial {
    /// Dials the controller whose connection file this is; `-` is what comes on the standard input.
    pub fn with(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), engines: 1, search: SEARCH, finish: FINISH, leave: LEAVE, limits: Limits::default() }
    }

    /// Sets how many engines this program is, each on a thread of its own and with a connection of its own; by default one.
    ///
    /// What crashes one, crashes all: where that matters, start as many programs.
    pub fn engines(mut self, n: usize) -> Self {
        self.engines = n;
        self
    }

    /// Sets how long a controller that cannot be reached is looked for, by default a minute.
    pub fn search_for(mut self, search: Duration) -> Self {
        self.search = search;
        self
    }

    /// Sets how long an engine whose controller was not found again may go on with the task that it runs, by default ten
    /// minutes. It starts no other, and ends then, or when that has returned.
    pub fn finish_within(mut self, finish: Duration) -> Self {
        self.finish = finish;
        self
    }

    /// Sets how long an engine that is told to leave may go on with the task that it runs, by default 20 s. A task that is not
    /// finished by then is lost with it.
    pub fn leave_within(mut self, leave: Duration) -> Self {
        self.leave = leave;
        self
    }

    /// Sets the bounds of a client: they count in its process, and the controller's count there.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Is an engine, or several, as by [`run_engine`]. Returns when all have ended.
    ///
    /// # Errors
    /// As [`run_engine`], for the first that has one; [`Error::Zero`] for no engines, [`Error::TooMany`] for more than 4096.
    pub fn run_engine(self) -> Result<(), Error> {
        check_workers("the number of engines", self.engines)?;
        let registry = Arc::new(Registry::auto()?);
        let Self { engines, finish, leave, .. } = self;
        let told = Told::watch(leave);
        let dialler = self.dialler(Role::Engine, std::process::id().into(), &registry)?;
        if dialler.is_leashed {
            told.when_stdin_ends()?;
        }
        let patience = Limits::default().spin();
        let new = |speaker| {
            let departure = told.departure();
            Desk::with(Serving { registry: registry.clone(), speaker, witness: None, patience, departure })
        };
        let be_one = || {
            System::new().block_on(async {
                let _listening = told.when_terminated();
                stay(&dialler, finish, &told.departure(), new).await
            })
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..engines).map(|_| scope.spawn(be_one)).collect();
            let first = be_one();
            // A panic here is a bug of ours, and goes on.
            let join = |other: ScopedJoinHandle<'_, _>| other.join().unwrap_or_else(|panic| resume_unwind(panic));
            others.into_iter().map(join).fold(first, Result::and)
        })
    }
}

impl Dial {
    /// Is a host, until the cluster ends or it is told to leave. `new` makes what serves in a session, of the connection file of
    /// which those of its engines are made.
    pub(crate) fn run_host<S: Serve>(
        self,
        new: impl Fn(Speaker, Departure, &ConnectionFile) -> S,
    ) -> Result<(), Error> {
        let told = Told::watch(self.leave);
        let (finish, file) = (self.finish, ConnectionFile::read(&self.file, Role::Host)?);
        let dialler = self.dialler(Role::Host, std::process::id().into(), &Registry::new())?;
        System::new().block_on(async {
            let _listening = told.when_terminated();
            stay(&dialler, finish, &told.departure(), |speaker| new(speaker, told.departure(), &file)).await
        })
    }

    /// Reads the file, and says who dials.
    pub(super) fn dialler(self, role: Role, incarnation: u64, registry: &Registry) -> Result<Dialler, Error> {
        let Self { file: path, search, .. } = self;
        let file = ConnectionFile::read(&path, role)?;
        let (incarnation, is_leashed) = match (role, &file.launch) {
            (Role::Engine, Some(launch)) => (launch.number, launch.is_leashed),
            _ => (incarnation, false),
        };
        let secured = file.tls.as_ref().map(|credentials| tls::client(credentials, file.cluster())).transpose();
        let secured = secured.map_err(|problem| Error::ConnectionFile { path, problem: problem.into() })?;
        let hello = Hello { role, cluster: file.cluster(), incarnation, build: registry.build() };
        let (address, tasks) = (file.address.clone(), registry.table());
        Ok(Dialler { address, search, way: Tcp { secured }, hello, tasks, is_leashed })
    }
}
