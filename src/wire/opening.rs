//! The opening: which session goes over a connection, once the handshake has said who speaks.
//!
//! Whoever dials says which session it begins or goes on with, the controller what it has received of it. Each then
//! [resumes](super::session::Speaker::resume) with what the other has.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::frame::FrameLimits;
use super::handshake::{HandshakeError, TEXT_BYTES_MAX, hear, say};
use super::retained::Received;
use crate::catch::shortened;

/// What whoever dials says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which session it is; drawn at random when it begins.
    pub session: u64,
    /// Which connection of the session this is. Each has a higher number than those before, so that an old one that comes
    /// late takes nobody's place.
    pub epoch: u32,
    /// What whoever dials knows of the session; `None` if it was not told that it has begun.
    pub known: Option<Known>,
}

impl Opening {
    /// Returns the session as it is told in logs.
    pub(crate) fn id(&self) -> SessionId {
        SessionId(self.session)
    }
}

/// A session in logs: half of its number, which tells one from another and is not enough to go on with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

/// What is known of a session that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// With which connection it began. One that was given up, and begun anew by an answer that was lost, began with another.
    pub began: u32,
    /// What was received of it.
    pub received: Received,
}

/// What the controller answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// The session begins, whatever was asked for.
    Begun,
    /// It goes on; so much was received of it.
    Resumed(Received),
    /// There is none, and why.
    Refused(Box<str>),
}

/// Says which session is to go over a connection, and hears how it goes on: what the controller has received of it, if it
/// goes on.
///
/// # Errors
/// Why there is no session over this connection. One that was to be resumed may be over another.
pub async fn open<S>(stream: &mut S, opening: &Opening, wait: Duration) -> Result<Option<Received>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opened = async {
        say(stream, opening).await?;
        match hear(stream, FrameLimits::STRANGER).await? {
            Opened::Begun => Ok(None),
            Opened::Resumed(received) => Ok(Some(received)),
            Opened::Refused(reason) => Err(HandshakeError::Refused(shortened(&reason, TEXT_BYTES_MAX).into())),
        }
    };
    timeout(wait, opened).await.unwrap_or(Err(HandshakeError::TimedOut(wait)))
}

/// Hears which session is to go over a connection. The answer is due.
///
/// # Errors
/// Why there is no session over this connection.
pub async fn hear_opening<S: AsyncRead + Unpin>(stream: &mut S, wait: Duration) -> Result<Opening, HandshakeError> {
    timeout(wait, hear(stream, FrameLimits::STRANGER)).await.unwrap_or(Err(HandshakeError::TimedOut(wait)))
}

/// Says how a session goes on that a peer has opened.
///
/// # Errors
/// Why there is no session over this connection.
pub async fn answer_opening<S>(stream: &mut S, opened: &Opened, wait: Duration) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
{
    timeout(wait, say(stream, opened)).await.unwrap_or(Err(HandshakeError::TimedOut(wait)))
}
