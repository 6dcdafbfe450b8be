//! An engine's side: dials its controller, and again when the connection is lost.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use actix::System;
use tokio::time::{Instant, sleep, timeout};

use super::connection_file::ConnectionFile;
use super::tls;
use super::way::{Connection, Failed, Tcp, Way};
use crate::error::Error;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::registry::Registry;
use crate::remote::{Desk, NOT_RESUMED, STOPPED, Serving};
use crate::task::TaskTable;
use crate::wire::handshake::{self, HandshakeError, Hello, Role};
use crate::wire::opening::{Known, Opening, SessionId, open};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// How long a controller that cannot be reached is looked for, by default: it may be starting, or starting again.
const SEARCH: Duration = Duration::from_secs(60);

/// How long the task that an engine runs may take from when no controller was found, by default. It may write a file, and
/// nobody is left who could cancel it.
const FINISH: Duration = Duration::from_secs(600);

/// Waits between two attempts: the first, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Makes this program an engine of the cluster whose connection file this is, with the tasks that are linked into it.
///
/// Returns when the cluster has ended, or lets it go. Where the connection is lost it dials again, and runs on meanwhile: it goes
/// on as the same engine if it is back soon, and joins as another if not.
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
    pub(super) limits: Limits,
}

impl Dial {
    /// Dials the controller whose connection file this is.
    pub fn with(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), engines: 1, search: SEARCH, finish: FINISH, limits: Limits::default() }
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
        let Self { engines, finish, .. } = self;
        let dialler = self.dialler(Role::Engine, std::process::id().into(), &registry)?;
        let patience = Limits::default().spin();
        let new = |speaker| Desk::with(Serving { registry: registry.clone(), speaker, witness: None, patience });
        let be_one = || System::new().block_on(stay(&dialler, finish, new));
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
    /// Reads the file, and says who dials.
    pub(super) fn dialler(self, role: Role, incarnation: u64, registry: &Registry) -> Result<Dialler, Error> {
        let Self { file: path, search, .. } = self;
        let file = ConnectionFile::read(&path, role)?;
        let secured = file.tls.as_ref().map(|credentials| tls::client(credentials, file.cluster())).transpose();
        let secured = secured.map_err(|problem| Error::ConnectionFile { path, problem: problem.into() })?;
        let hello = Hello { role, cluster: file.cluster(), incarnation, build: registry.build() };
        Ok(Dialler { address: file.address.clone(), search, way: Tcp { secured }, hello, tasks: registry.table() })
    }
}

/// Whom to dial, and as what.
pub(super) struct Dialler<W = Tcp> {
    pub(super) address: String,
    pub(super) search: Duration,
    pub(super) way: W,
    pub(super) hello: Hello,
    pub(super) tasks: TaskTable,
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

    /// Waits before the next time.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if that were too long.
    async fn pause<W: Way>(&mut self, dialler: &Dialler<W>, reason: String) -> Result<(), Error> {
        // Many that lost one controller do not come back all at once.
        let wait = self.wait.mul_f64(0.8 + 0.4 * (dialler.way.draw() % 1_000) as f64 / 1_000.0);
        self.wait = (self.wait * 2).min(BACKOFF[1]);
        let waited = self.since.elapsed();
        let Some(left) = dialler.search.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(Error::Unreachable { address: dialler.address.as_str().into(), waited, reason: reason.into() });
        };
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(address = dialler.address, reason, search = ?dialler.search, "no controller is found; it is looked for");
        }
        sleep(wait.min(left)).await;
        Ok(())
    }
}

/// What runs tasks, for one session. A simulation has one without threads.
pub(super) trait Serve {
    /// Runs what the controller sends over this connection; returns why that has ended.
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending;

    /// Starts nothing any more, and waits for what runs.
    async fn finish(&mut self);
}

impl Serve for Desk {
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending {
        let (reader, writer) = tokio::io::split(stream);
        Desk::serve(self, reader, writer).await
    }

    async fn finish(&mut self) {
        Desk::finish(self).await;
    }
}

/// Is an engine until the cluster lets it go, or is not found again; then it may `finish` what it runs. `new` makes what
/// serves in a session.
pub(super) async fn stay<W: Way, S: Serve>(
    dialler: &Dialler<W>,
    finish: Duration,
    new: impl Fn(Speaker) -> S,
) -> Result<(), Error> {
    let mut desk = None;
    let stayed = stay_with(dialler, &mut desk, new).await;
    if let (Err(error), Some(desk)) = (&stayed, &mut desk) {
        tracing::warn!(%error, ?finish, "what runs is finished, and nothing else is started");
        if timeout(finish, desk.finish()).await.is_err() {
            tracing::warn!("a task that runs is left to itself");
        }
    }
    stayed
}

async fn stay_with<W: Way, S: Serve>(
    dialler: &Dialler<W>,
    desk: &mut Option<S>,
    new: impl Fn(Speaker) -> S,
) -> Result<(), Error> {
    let mut backoff = Backoff::from_now();
    let mut session = dialler.session(SessionLimits::LASTING);
    loop {
        let (stream, is_resumed) = dialler.open(&mut session, &mut backoff).await?;
        if !is_resumed {
            // What another runs is left to itself: nobody waits for it.
            *desk = None;
        }
        let id = SessionId(session.number);
        tracing::info!(address = dialler.address, session = %id, is_resumed, "there is a session with the controller");
        let began = Instant::now();
        let ending = desk.get_or_insert_with(|| new(session.speaker.clone())).serve(stream).await;
        tracing::info!(%ending, session = %id, "the connection to the controller has ended");
        match ending {
            Ending::Closed(_) => return Ok(()),
            Ending::ClosedByPeer(reason) if &*reason == STOPPED => return Ok(()),
            Ending::ClosedByPeer(reason) if &*reason != NOT_RESUMED => return Err(dialler.refused(reason)),
            _lost => backoff.begin_again(began.elapsed()),
        }
    }
}

/// A session that outlives its connections, for who dials.
pub(super) struct Session {
    number: u64,
    /// Connections that it had, or was to have.
    epoch: u32,
    /// With which of them it began. `None` until we are told: that answer may be lost, and others after it.
    began: Option<u32>,
    limits: SessionLimits,
    pub(super) speaker: Speaker,
}

impl Session {
    fn of(number: u64, limits: SessionLimits) -> Self {
        Self { number, epoch: 0, began: None, limits, speaker: Speaker::lasting(limits) }
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
            if session.speaker.has_ended() {
                *session = self.session(session.limits);
            }
            let mut stream = self.find(backoff, session.epoch > 0).await?;
            session.epoch += 1;
            let known = session.began.map(|began| Known { began, received: session.speaker.suspend() });
            let opening = Opening { session: session.number, epoch: session.epoch, known };
            let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
            let error = match open(&mut stream, &opening, wait).await {
                Ok(None) => {
                    if known.is_some() {
                        // The controller has given the session up. Its number is free.
                        session.speaker.abandon(NOT_RESUMED);
                        let Session { number, epoch, limits, .. } = *session;
                        *session = Session { epoch, ..Session::of(number, limits) };
                    }
                    session.began = Some(session.epoch);
                    return Ok((stream, false));
                }
                Ok(Some(theirs)) if known.is_some() => match session.speaker.resume(theirs) {
                    Ok(()) => return Ok((stream, true)),
                    Err(error) => {
                        // The next time another begins.
                        session.speaker.abandon(NOT_RESUMED);
                        error.to_string()
                    }
                },
                Ok(Some(_)) => "it goes on with a session that has not begun".into(),
                Err(HandshakeError::Refused(reason)) => return Err(self.refused(reason)),
                Err(error) => error.to_string(),
            };
            tracing::info!(%error, "the session could not be opened");
            backoff.pause(self, error).await?;
        }
    }

    /// Dials until the controller is found.
    async fn find(&self, backoff: &mut Backoff, has_been_there: bool) -> Result<Box<dyn Connection>, Error> {
        loop {
            let reason = match self.dial().await {
                Ok(stream) => return Ok(stream),
                Err(Failed::ByStranger(reason)) if has_been_there => reason,
                Err(Failed::ForGood(reason) | Failed::ByStranger(reason)) => return Err(self.refused(reason.into())),
                Err(Failed::ForNow(reason)) => reason,
            };
            backoff.pause(self, reason).await?;
        }
    }

    fn refused(&self, reason: Box<str>) -> Error {
        Error::Refused { address: self.address.as_str().into(), reason }
    }

    async fn dial(&self) -> Result<Box<dyn Connection>, Failed> {
        let mut stream = self.way.connect(&self.address).await?;
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        match handshake::join(&mut stream, &self.hello, &self.tasks, wait).await {
            Ok(_) => Ok(stream),
            Err(error @ (HandshakeError::Lost | HandshakeError::TimedOut(_) | HandshakeError::Failed(_))) => {
                Err(Failed::ForNow(error.to_string()))
            }
            Err(error @ HandshakeError::NoCallboard) => Err(Failed::ByStranger(error.to_string())),
            Err(error) => Err(Failed::ForGood(error.to_string())),
        }
    }
}
