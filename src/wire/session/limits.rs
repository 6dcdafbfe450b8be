//! The bounds of one session.

use std::time::Duration;

use crate::wire::frame::FrameLimits;

/// The bounds of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// What is taken as a message.
    pub frames: FrameLimits,
    /// Longest silence of our own, in milliseconds; then we beat.
    pub beat_ms: u64,
    /// Longest silence of the peer's, in milliseconds; then it is lost. Several beats, or one that is late ends it.
    pub lost_ms: u64,
    /// How long a peer may take none of what we write, in milliseconds.
    pub write_stall_ms: u64,
    /// Bytes of bulk that are sent and not dealt with. Both sides have to agree.
    pub window_bytes: u64,
    /// Bytes that wait to be sent or, in a lasting session, to be acknowledged. A message that is longer goes alone.
    pub outbound_bytes_max: usize,
}

impl SessionLimits {
    /// Those of a session with a process of this machine.
    const ONE: Self = Self {
        frames: FrameLimits::PEER,
        beat_ms: 1_000,
        lost_ms: 5_000,
        write_stall_ms: 10_000,
        window_bytes: 8 << 20,
        outbound_bytes_max: 64 << 20,
    };

    /// Those of a session that outlives its connections, where what waits is bounded by who says it: outcomes of tasks that
    /// were sent, and tasks that were admitted.
    pub(crate) const LASTING: Self = Self { outbound_bytes_max: usize::MAX, ..Self::ONE };

    pub(in crate::wire) fn write_stall(&self) -> Duration {
        Duration::from_millis(self.write_stall_ms)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self::ONE
    }
}
