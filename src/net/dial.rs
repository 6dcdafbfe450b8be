//! An engine's side: dials its controller, and again when the connection is lost.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use actix::System;
use tokio::time::{Instant, sleep};

use super::connection_file::ConnectionFile;
use super::stay::{Serve, stay};
use super::tls;
use super::told::Told;
use super::way::{Connection, Failed, Tcp, Way};
use crate::error::Error;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::registry::Registry;
use crate::remote::{Departure, Desk, NOT_RESUMED, Serving};
use crate::task::TaskTable;
use crate::wire::handshake::{self, HandshakeError, Hello, Role};
use crate::wire::opening::{Known, Opening, SessionId, open};
use crate::wire::session::{SessionLimits, Speaker};

/// How long a controller that cannot be reached is looked for, by default: it may be starting, or starting again.
const SEARCH: Duration = Duration::from_secs(60);

/// How long the task that an engine runs may take from when no controller was found, by default. It may write a file, and
/// nobody is left who could cancel it.
const FINISH: Duration = Duration::from_secs(600);

/// How long the task that an engine runs may take from when the engine is told to leave, by default: batch systems give 30 s
/// from `SIGTERM` to `SIGKILL`.
const LEAVE: Duration = Duration::from_secs(20);

/// Waits between two attempts: the first, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

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
    /// As [`run_engine`], for the first that has one; [`Error::Zero`] for no engines.
    pub fn run_engine(self) -> Result<(), Error> {
        if self.engines == 0 {
            return Err(Error::Zero { what: "the number of engines" });
        }
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

/// Whom to dial, and as what.
pub(super) struct Dialler<W = Tcp> {
    pub(super) address: String,
    pub(super) search: Duration,
    pub(super) way: W,
    pub(super) hello: Hello,
    pub(super) tasks: TaskTable,
    /// It is to leave when its standard input ends.
    pub(super) is_leashed: bool,
}

/// How long one has dialled, and how long one waits before the next time.
pub(super) struct Backoff {
    since: Instant,
    wait: Duration,
    /// When it was last told that nobody is found.
    told: Option<Instant>,
}

/// How often it is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The longest wait of a host and how often it is told there: its cluster is there when a program runs, and is then to find it soon.
const HOST_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

impl Backoff {
    pub(super) fn from_now() -> Self {
        Self { since: Instant::now(), wait: BACKOFF[0], told: None }
    }

    /// Begins again, where a session was lost that had `lasted`. Where one is lost again and again at once, the next comes
    /// later and later.
    pub(super) fn begin_again(&mut self, lasted: Duration) {
        (self.since, self.told) = (Instant::now(), None);
        if lasted > BACKOFF[1] {
            self.wait = BACKOFF[0];
        }
    }

    /// Waits after a session could not be opened.
    ///
    /// # Errors
    /// As [`pause`](Self::pause); [`Error::Refused`] if it never will be.
    pub(super) async fn pause_after<W: Way>(&mut self, dialler: &Dialler<W>, failed: Failed) -> Result<(), Error> {
        let error = match failed {
            Failed::ForGood(reason) => return Err(dialler.refused(reason.into())),
            Failed::ForNow(error) | Failed::ByStranger(error) => error,
        };
        tracing::info!(%error, "the session could not be opened");
        self.pause(dialler, error).await
    }

    /// Waits before the next time.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if that were too long.
    async fn pause<W: Way>(&mut self, dialler: &Dialler<W>, reason: String) -> Result<(), Error> {
        // Many that lost one controller do not come back all at once.
        let wait = self.wait.mul_f64(0.8 + 0.4 * (dialler.way.draw() % 1_000) as f64 / 1_000.0);
        let (longest, told_every) = match dialler.hello.role {
            Role::Host => HOST_PAUSES,
            _ => (BACKOFF[1], TOLD_EVERY),
        };
        self.wait = (self.wait * 2).min(longest);
        let waited = self.since.elapsed();
        let Some(left) = dialler.search.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(Error::Unreachable { address: dialler.address.as_str().into(), waited, reason: reason.into() });
        };
        if self.told.is_none_or(|told| told.elapsed() >= told_every) {
            self.told = Some(Instant::now());
            // A host looks for it without end.
            let search = (dialler.search < Duration::MAX).then_some(dialler.search);
            tracing::warn!(address = dialler.address, reason, ?search, "no controller is found; it is looked for");
        }
        sleep(wait.min(left)).await;
        Ok(())
    }
}

/// A session that outlives its connections, for who dials.
pub(super) struct Session {
    number: u64,
    /// Connections that it had, or was to have.
    epoch: u32,
    /// With which of them it began. `None` until we are told: that answer may be lost, and others after it.
    began: Option<u32>,
    /// Which run of the controller it was dialled to last.
    pub(super) run: u64,
    limits: SessionLimits,
    pub(super) speaker: Speaker,
}

impl Session {
    fn of(number: u64, limits: SessionLimits) -> Self {
        Self { number, epoch: 0, began: None, run: 0, limits, speaker: Speaker::lasting(limits) }
    }

    /// Returns the session as it is told in logs.
    pub(super) fn id(&self) -> SessionId {
        SessionId(self.number)
    }
}

impl<W: Way> Dialler<W> {
    /// Makes a session that is to begin.
    pub(super) fn session(&self, limits: SessionLimits) -> Session {
        Session::of(self.way.draw(), limits)
    }

    /// Dials until a session goes on, or another has begun; returns the connection, and whether it goes on.
    pub(super) async fn open(
        &self,
        session: &mut Session,
        backoff: &mut Backoff,
    ) -> Result<(Box<dyn Connection>, bool), Error> {
        loop {
            let (stream, run) = self.find(backoff, session).await?;
            match self.open_over(stream, run, session).await {
                Ok(opened) => return Ok(opened),
                Err(failed) => backoff.pause_after(self, failed).await?,
            }
        }
    }

    /// Has a session go on over a new connection, or another begin; returns as [`open`](Self::open).
    pub(super) async fn open_over(
        &self,
        mut stream: Box<dyn Connection>,
        run: u64,
        session: &mut Session,
    ) -> Result<(Box<dyn Connection>, bool), Failed> {
        if session.speaker.has_ended() {
            *session = self.session(session.limits);
        }
        session.epoch += 1;
        let known = session.began.map(|began| Known { began, received: session.speaker.suspend() });
        let opening = Opening { session: session.number, epoch: session.epoch, known };
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        match open(&mut stream, &opening, wait).await {
            Ok(None) => {
                if known.is_some() {
                    // The controller has given the session up. Its number is free.
                    session.speaker.abandon(NOT_RESUMED);
                    let Session { number, epoch, limits, .. } = *session;
                    *session = Session { epoch, ..Session::of(number, limits) };
                }
                (session.began, session.run) = (Some(session.epoch), run);
                Ok((stream, false))
            }
            Ok(Some(theirs)) if known.is_some() => match session.speaker.resume(theirs) {
                Ok(()) => Ok((stream, true)),
                Err(error) => {
                    // The next time another begins.
                    session.speaker.abandon(NOT_RESUMED);
                    Err(Failed::ForNow(error.to_string()))
                }
            },
            Ok(Some(_)) => Err(Failed::ForNow("it goes on with a session that has not begun".into())),
            Err(HandshakeError::Refused(reason)) => Err(Failed::ForGood(reason.into())),
            Err(error) => Err(Failed::ForNow(error.to_string())),
        }
    }

    /// Dials until the controller is found; returns also which run of it that is.
    pub(super) async fn find(
        &self,
        backoff: &mut Backoff,
        session: &Session,
    ) -> Result<(Box<dyn Connection>, u64), Error> {
        loop {
            let reason = match self.dial().await {
                Ok(found) => return Ok(found),
                Err(Failed::ByStranger(reason)) if session.epoch > 0 => reason,
                Err(Failed::ForGood(reason) | Failed::ByStranger(reason)) => return Err(self.refused(reason.into())),
                Err(Failed::ForNow(reason)) => reason,
            };
            backoff.pause(self, reason).await?;
        }
    }

    pub(super) fn refused(&self, reason: Box<str>) -> Error {
        Error::Refused { address: self.address.as_str().into(), reason }
    }

    /// Connects to the controller; returns also which run of it that is.
    async fn dial(&self) -> Result<(Box<dyn Connection>, u64), Failed> {
        let mut stream = self.way.connect(&self.address).await?;
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        match handshake::join(&mut stream, &self.hello, &self.tasks, wait).await {
            Ok(theirs) => Ok((stream, theirs.incarnation)),
            Err(error @ (HandshakeError::Lost | HandshakeError::TimedOut(_) | HandshakeError::Failed(_))) => {
                Err(Failed::ForNow(error.to_string()))
            }
            Err(error @ HandshakeError::NoCallboard) => Err(Failed::ByStranger(error.to_string())),
            Err(error) => Err(Failed::ForGood(error.to_string())),
        }
    }
}
