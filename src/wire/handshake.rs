//! The handshake: who speaks, and whether the two understand each other.
//!
//! Each side sends 8 bytes in clear, `call` and the versions it speaks, then one frame with its [`Hello`], of at most
//! 4 KiB; the controller answers with a verdict. Nothing is done for a peer before that. An engine of another build then
//! says which tasks it has.

use std::time::Duration;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::frame::{FrameError, FrameLimits, Lane, Message};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::catch::shortened;
use crate::task::TaskTable;

/// What a stream of ours begins with.
const MAGIC: [u8; 4] = *b"call";

/// The versions of the protocol that this crate speaks, lowest and highest.
///
/// In version 1 an engine could not say that it leaves.
pub const VERSIONS: (u16, u16) = (2, 2);

/// For a table of tasks, from a peer that belongs here: some 50 000 of them.
const TASKS: FrameLimits = FrameLimits::of_headers(1 << 20);

/// Longest text that a peer may give as a reason, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// What a peer is. One is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Hands out tasks.
    Controller,
    /// Runs them.
    Engine,
    /// Has tasks run.
    Client,
    /// Runs programs that are engines. Comes with the certificate of one.
    Host,
}

impl Role {
    /// Returns it with its article, for a sentence.
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Controller => "a controller",
            Self::Engine => "an engine",
            Self::Client => "a client",
            Self::Host => "a host",
        }
    }

    /// Returns the role for which it has a certificate and a connection file.
    pub(crate) fn certified(self) -> Self {
        match self {
            Self::Host => Self::Engine,
            other => other,
        }
    }
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it is.
    pub role: Role,
    /// The cluster that it belongs to.
    pub cluster: u64,
    /// Which life of the peer this is; drawn at random when it starts. Of an engine that was launched, the number of its launch.
    pub incarnation: u64,
    /// Which build of the program it is.
    pub build: u64,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer speaks something else.
    #[error("the peer is no callboard: it began with other bytes")]
    NoCallboard,
    /// There is no version that both speak. Build both with the same version of callboard.
    #[error("we speak versions {ours:?} of the protocol, the peer {theirs:?}; build both with one callboard")]
    VersionMismatch {
        /// Lowest and highest.
        ours: (u16, u16),
        /// Lowest and highest.
        theirs: (u16, u16),
    },
    /// The peer is of another cluster.
    #[error("the peer is of another cluster; take the file that its controller writes now")]
    WrongCluster,
    /// The peer is not what was expected here.
    #[error("the peer says that it is {}, and nobody is let in as that here; take the file of its role", .0.with_article())]
    WrongRole(Role),
    /// The peer refused us.
    #[error("the peer refused: {0}")]
    Refused(Box<str>),
    /// The peer took too long.
    #[error("no handshake within {0:?}")]
    TimedOut(Duration),
    /// What came is no hello.
    #[error("the peer broke the protocol: {0}")]
    Protocol(Box<str>),
    /// The connection ended.
    #[error("the connection ended during the handshake")]
    Lost,
    /// The connection failed.
    #[error("the connection failed during the handshake: {0}")]
    Failed(std::io::ErrorKind),
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string().into())
    }
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | ConnectionReset | BrokenPipe => Self::Lost,
            kind => Self::Failed(kind),
        }
    }
}

/// Greets an engine or a client, whichever are `welcome`: returns what it said, if it is one of this cluster, or refuses it
/// with the reason; and the tasks that an engine has, if it is of another build.
///
/// # Errors
/// Why there is no session; the peer has been told, if it can be spoken to.
pub async fn welcome<S>(
    stream: &mut S,
    ours: &Hello,
    welcome: &[Role],
    wait: Duration,
) -> Result<(Hello, Option<TaskTable>), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeted = async {
        let theirs = exchange(stream, ours).await.and_then(|theirs| judge(theirs, ours, welcome));
        let refusal = theirs.as_ref().err().map(|error| shortened(&error.to_string(), TEXT_BYTES_MAX).to_owned());
        say(stream, &refusal).await?;
        let theirs = theirs?;
        let tasks = if tells_tasks(&theirs, ours) { Some(hear_tasks(stream).await?) } else { None };
        Ok((theirs, tasks))
    };
    timeout(wait, greeted).await.unwrap_or(Err(HandshakeError::TimedOut(wait)))
}

/// Greets a controller: returns what it said. An engine tells it which tasks there are here, if it is of another build.
///
/// # Errors
/// Why there is no session, also if the controller refused.
pub async fn join<S>(stream: &mut S, ours: &Hello, tasks: &TaskTable, wait: Duration) -> Result<Hello, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeted = async {
        let theirs = exchange(stream, ours).await?;
        if let Some(refusal) = hear::<_, Option<Box<str>>>(stream, FrameLimits::STRANGER).await? {
            return Err(HandshakeError::Refused(shortened(&refusal, TEXT_BYTES_MAX).into()));
        }
        let theirs = judge(theirs, ours, &[Role::Controller])?;
        if tells_tasks(ours, &theirs) {
            say_within(stream, tasks, TASKS).await?;
        }
        Ok(theirs)
    };
    timeout(wait, greeted).await.unwrap_or(Err(HandshakeError::TimedOut(wait)))
}

/// Returns whether who dialled tells which tasks it has.
fn tells_tasks(dialled: &Hello, controller: &Hello) -> bool {
    dialled.role == Role::Engine && dialled.build != controller.build
}

/// Says who we are and hears who they are.
async fn exchange<S>(stream: &mut S, ours: &Hello) -> Result<Hello, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut preface = [0; 8];
    preface[..4].copy_from_slice(&MAGIC);
    preface[4..6].copy_from_slice(&VERSIONS.0.to_le_bytes());
    preface[6..].copy_from_slice(&VERSIONS.1.to_le_bytes());
    stream.write_all(&preface).await?;
    stream.flush().await?;
    stream.read_exact(&mut preface).await?;
    let mut rest = preface.strip_prefix(&MAGIC).ok_or(HandshakeError::NoCallboard)?;
    let theirs = (rest.get_u16_le(), rest.get_u16_le());
    if VERSIONS.1.min(theirs.1) < VERSIONS.0.max(theirs.0) {
        return Err(HandshakeError::VersionMismatch { ours: VERSIONS, theirs });
    }
    say(stream, ours).await?;
    hear(stream, FrameLimits::STRANGER).await
}

/// Hears which tasks a peer has.
async fn hear_tasks<S: AsyncRead + Unpin>(stream: &mut S) -> Result<TaskTable, HandshakeError> {
    let tasks: TaskTable = hear(stream, TASKS).await?;
    if !tasks.is_sound() {
        return Err(HandshakeError::Protocol("its table of tasks is not in order".into()));
    }
    Ok(tasks)
}

fn judge(theirs: Hello, ours: &Hello, expected: &[Role]) -> Result<Hello, HandshakeError> {
    if theirs.cluster != ours.cluster {
        return Err(HandshakeError::WrongCluster);
    }
    if !expected.contains(&theirs.role) {
        return Err(HandshakeError::WrongRole(theirs.role));
    }
    Ok(theirs)
}

/// Writes one message, as a stranger.
pub(super) async fn say<S: AsyncWrite + Unpin>(stream: &mut S, what: &impl Serialize) -> Result<(), HandshakeError> {
    say_within(stream, what, FrameLimits::STRANGER).await
}

/// Writes one message.
async fn say_within<S: AsyncWrite + Unpin>(
    stream: &mut S,
    what: &impl Serialize,
    limits: FrameLimits,
) -> Result<(), HandshakeError> {
    let header = postcard::to_stdvec(what).map_err(|error| HandshakeError::Protocol(error.to_string().into()))?;
    let mut outgoing = Outgoing::default();
    let message = Message { header: Bytes::from(header), buffers: Vec::new() };
    outgoing.say(Lane::Control, message, limits)?;
    stream.write_all_buf(&mut outgoing.next_write(0)).await?;
    Ok(stream.flush().await?)
}

/// Reads one message: byte for byte, because what comes after it is not ours to read.
pub(super) async fn hear<S: AsyncRead + Unpin, T: DeserializeOwned>(
    stream: &mut S,
    limits: FrameLimits,
) -> Result<T, HandshakeError> {
    let (mut incoming, mut heard) = (Incoming::new(limits), None);
    while heard.is_none() {
        let byte = stream.read_u8().await?;
        incoming.take_in(&[byte], |_, message| heard = Some(message))?;
    }
    let header = heard.map(|message| message.header).unwrap_or_default();
    match postcard::take_from_bytes(&header) {
        Ok((what, [])) => Ok(what),
        _ => Err(HandshakeError::Protocol(format!("{} bytes cannot be read as what is due", header.len()).into())),
    }
}
