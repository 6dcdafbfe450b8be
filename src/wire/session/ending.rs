//! Why a session ended, and why something was not said.

use std::time::Duration;

use crate::wire::frame::FrameError;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ending {
    /// We closed it.
    #[error("closed here: {0}")]
    Closed(Box<str>),
    /// The peer closed it, and said why.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(Box<str>),
    /// The connection ended without a word.
    #[error("the connection ended")]
    Lost,
    /// Nothing was heard for so long.
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    /// The peer took nothing of what we wrote for so long.
    #[error("the peer has taken nothing for {0:?}")]
    Stalled(Duration),
    /// What the peer sent is not what peers send.
    #[error("the peer broke the protocol: {0}")]
    Protocol(Box<str>),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(std::io::ErrorKind),
}

impl Ending {
    /// Returns whether a session that could go on over another connection does not.
    pub(in crate::wire) fn is_for_good(&self) -> bool {
        matches!(self, Self::Closed(_) | Self::ClosedByPeer(_) | Self::Protocol(_))
    }
}

impl From<FrameError> for Ending {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string().into())
    }
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            // A peer that died with bytes of ours unread, or without the last word that TLS has for it.
            ConnectionReset | BrokenPipe | UnexpectedEof => Self::Lost,
            kind => Self::Failed(kind),
        }
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SayError {
    /// The session has ended, or is about to.
    #[error("the session has ended")]
    Closed,
    /// Too much waits already. What waits goes on being sent.
    #[error("{waiting} bytes wait to be sent, of at most {max}")]
    Full {
        /// What waits, in bytes; of a lasting session also what was sent and is not acknowledged.
        waiting: usize,
        /// The limit.
        max: usize,
    },
    /// No peer would take it.
    #[error(transparent)]
    TooLarge(#[from] FrameError),
}
