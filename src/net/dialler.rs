//! Finds a controller, and has a session with it begin, or go on over another connection.

use std::time::Duration;

use super::backoff::Backoff;
use super::way::{Connection, Failed, Tcp, Way};
use crate::error::Error;
use crate::limits::HANDSHAKE_MS_MAX;
use crate::remote::NOT_RESUMED;
use crate::task::TaskTable;
use crate::wire::handshake::{self, HandshakeError, Hello};
use crate::wire::opening::{Known, Opening, SessionId, open};
use crate::wire::session::{SessionLimits, Speaker};

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
