//! A session that outlives its connections: cut off, it is suspended, and another connection resumes it.
//!
//! ```text
//! connected --- lost, silent, stalled, failed, dropped, `suspend` ---> suspended: what is said is kept
//!     ^                                                                    |
//!     +------------ `resume`, with what the peer has received -------------+
//! either    --- closed here or there, protocol broken, `abandon` ----> ended; nothing is kept
//! ```
//!
//! What is said is [retained](super::retained) until the peer acknowledges it. It does so with each beat, at the latest
//! a beat after a message came, and for every half window of bytes: so what is retained is about a window, and what waits.
//!
//! Each connection has a number, its **epoch**. What comes late of an earlier one, a credit or a pump that was not
//! dropped yet, is known by it and does not count.

use std::time::Duration;

use tokio::time::Instant;

use super::frame::Lane;
use super::outgoing::Outgoing;
use super::retained::{Received, ReceivedError, Retained};
use super::session::{Closing, SessionLimits, Speaker, State, Word};

/// Why a session is not resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The session has ended. Begin another.
    #[error("the session has ended")]
    Ended,
    /// The peer is of another session, or lies. Abandon this one.
    #[error(transparent)]
    Received(#[from] ReceivedError),
}

/// What a session has beyond its connections.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    pub(super) retained: Retained,
    pub(super) received: Received,
    /// By when the peer is to hear of that, if it has not.
    pub(super) ack_by: Option<Instant>,
    /// Bytes that were received and that it has not heard of.
    unacknowledged: u64,
    /// Bytes of bulk that were sent since the peer acknowledged something, over this connection.
    pub(super) sent: u64,
    /// The largest message of bulk that was said, in bytes.
    pub(super) largest: u64,
    pub(super) link: Link,
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// It has one, which nobody drives yet.
    #[default]
    Fresh,
    /// It has one, with a pump.
    Driven,
    /// It is suspended.
    Cut,
}

impl Speaker {
    /// As [`new`](Self::new), of a session that outlives its connections. Its peer's is to be the same.
    ///
    /// When [`run`](super::pump::run) ends because of the connection, or is dropped, the session is suspended: what is
    /// said is kept until the session is [resumed](Self::resume), as is a [close](Self::close).
    pub fn lasting(limits: SessionLimits) -> Self {
        Self::of(limits, Some(Lasting::default()))
    }

    /// Returns how many messages were heard since the session began. Zero of a session that does not last.
    pub fn received(&self) -> Received {
        self.0.state.lock().lasting.as_ref().map(|lasting| lasting.received).unwrap_or_default()
    }

    /// Returns whether a session has ended for good: then there is nothing to resume.
    ///
    /// Unlike [`is_closed`](Self::is_closed), not yet while it is suspended and its peer is to be told that it is closed.
    pub fn has_ended(&self) -> bool {
        self.0.state.lock().is_closed
    }

    /// Takes a session off its connection, if it has one, and returns what it has received: no more, until it is resumed.
    ///
    /// A [`run`](super::pump::run) that is still at it hears nothing more, and ends as lost. That is for an owner that
    /// cannot wait for it; but only if it runs in the same thread is each message handed on before those of the next
    /// connection. One that was never polled is to be dropped, or it takes the next connection for its own.
    pub fn suspend(&self) -> Received {
        self.0.state.lock().suspend(&self.0.limits);
        self.0.wake.notify_one();
        self.received()
    }

    /// Goes on with a session over another connection, which [`run`](super::pump::run) is to drive next; `peer` is what the
    /// peer has received. The rest is said again, and the window is as at the beginning.
    ///
    /// # Errors
    /// If the session has ended, or if that cannot be what the peer has received; then nothing has changed.
    ///
    /// # Panics
    /// If the session was not made by [`lasting`](Self::lasting).
    pub fn resume(&self, peer: Received) -> Result<(), ResumeError> {
        let mut state = self.0.state.lock();
        let is_closed = state.is_closed;
        let lasting = state.lasting.as_mut().expect("only a lasting session can be resumed");
        if is_closed {
            return Err(ResumeError::Ended);
        }
        lasting.retained.forget(peer)?;
        state.suspend(&self.0.limits);
        state.connect(&self.0.limits);
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Ends a session for good, and drops what is retained. If it has a connection, the peer is told why; the first
    /// reason counts.
    pub fn abandon(&self, reason: impl Into<Box<str>>) {
        let mut state = self.0.state.lock();
        let now = Instant::now();
        let closing = state.closing.get_or_insert_with(|| Closing::new(reason.into(), now));
        closing.by = closing.by.min(now);
        state.is_closed = true;
        // Of the control lane a part of a message may be gone, and the reason comes after the rest.
        state.outgoing.forget_bulk();
        if let Some(lasting) = &mut state.lasting {
            lasting.retained = Retained::default();
        }
        drop(state);
        self.0.wake.notify_one();
    }
}

impl State {
    /// Ends the connection, and whatever counts on it alone.
    pub(super) fn suspend(&mut self, limits: &SessionLimits) {
        let Some(lasting) = &mut self.lasting else { return };
        lasting.link = Link::Cut;
        // Whoever resumes says what was received.
        (lasting.ack_by, lasting.unacknowledged, lasting.sent) = (None, 0, 0);
        if self.is_closed {
            lasting.retained = Retained::default();
        }
        self.epoch += 1;
        self.outgoing = Outgoing::default();
        (self.window, self.unsettled, self.owed) = (limits.window_bytes, 0, 0);
    }

    /// Begins a connection with what the peer has not received.
    fn connect(&mut self, limits: &SessionLimits) {
        let Some(lasting) = &mut self.lasting else { return };
        lasting.link = Link::Fresh;
        for (lane, message) in lasting.retained.iter() {
            let said = self.outgoing.say(lane, message.clone(), limits.frames);
            debug_assert_eq!(said, Ok(()), "it was within the limits when it was said");
        }
        if let Some(closing) = &mut self.closing {
            // It could not be said meanwhile.
            *closing = Closing::new(closing.reason.clone(), Instant::now() + limits.write_stall());
        }
    }

    /// Says that we are alive and, in a session that lasts, what was received.
    pub(super) fn beat(&mut self) {
        let Some(lasting) = &mut self.lasting else { return self.say(&Word::Beat) };
        (lasting.ack_by, lasting.unacknowledged) = (None, 0);
        let received = lasting.received;
        self.say(&Word::Ack(received));
    }
}

impl Lasting {
    /// Counts a message that is heard now.
    pub(super) fn on_heard(&mut self, lane: Lane, bytes: u64, limits: &SessionLimits) {
        self.received.count(lane);
        self.unacknowledged += bytes;
        // The clock is asked once for each acknowledgement, not for each message.
        self.ack_by.get_or_insert_with(|| Instant::now() + Duration::from_millis(limits.beat_ms));
    }

    /// Returns whether a peer has acknowledged so little of what it took that it does not acknowledge: it says what it has
    /// received with every half window, and only one message is under way.
    pub(super) fn is_unacknowledged(&self, limits: &SessionLimits) -> bool {
        self.sent > self.largest.saturating_add(4 * limits.window_bytes)
    }

    /// Returns whether the peer is to hear now what was received.
    pub(super) fn is_ack_due(&self, limits: &SessionLimits) -> bool {
        self.is_ack_urgent(limits) || self.ack_by.is_some_and(|by| by <= Instant::now())
    }

    /// Returns whether so much came that the peer is to hear of it at once.
    pub(super) fn is_ack_urgent(&self, limits: &SessionLimits) -> bool {
        self.unacknowledged >= limits.window_bytes / 2
    }
}
