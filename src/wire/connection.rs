//! One connection of a session: what its pump asks of the session, and tells it.

use std::time::Duration;

use bytes::Buf;
use tokio::time::Instant;

use super::frame::{FRAME_BYTES_MAX, Lane};
use super::outgoing::{Outgoing, Write};
use super::session::{Closing, Credit, Ending, REASON_BYTES_MAX, Speaker, Word};
use crate::catch::shortened;

/// A session that is being driven.
pub(super) struct Connection<'a> {
    pub(super) speaker: &'a Speaker,
}

impl Connection<'_> {
    /// Takes what is to be written next; `None` once everything is said.
    pub(super) fn next_write(&self) -> Option<Write> {
        let limits = &self.speaker.0.limits;
        let mut state = self.speaker.0.state.lock();
        if state.owed >= limits.window_bytes / 2 {
            let owed = std::mem::take(&mut state.owed);
            state.unsettled -= owed;
            state.say(&Word::Credit(owed));
        }
        let bulk_max = usize::try_from(state.window).unwrap_or(usize::MAX);
        let write = state.outgoing.next_write(bulk_max.min(FRAME_BYTES_MAX));
        state.window -= write.bulk() as u64;
        if write.has_remaining() {
            return Some(write);
        }
        let is_said = |closing: &Closing| state.outgoing.waiting(Lane::Bulk) == 0 || closing.by <= Instant::now();
        if let Some(Closing { reason, .. }) = state.closing.clone().filter(is_said) {
            if state.is_closed {
                return None;
            }
            state.is_closed = true;
            state.say(&Word::Close(shortened(&reason, REASON_BYTES_MAX)));
            return Some(state.outgoing.next_write(0));
        }
        Some(Write::default())
    }

    /// Returns how it ends, once everything is said.
    pub(super) fn said_all(&self) -> Ending {
        let closing = self.speaker.0.state.lock().closing.clone();
        Ending::Closed(closing.map(|closing| closing.reason).unwrap_or_default())
    }

    /// Returns when something is to be done though nothing is said: a beat, or the end.
    pub(super) fn next_due(&self, last: Instant) -> Instant {
        let beat = last + Duration::from_millis(self.speaker.0.limits.beat_ms);
        let by = self.speaker.0.state.lock().closing.as_ref().map(|closing| closing.by);
        by.map_or(beat, |by| by.min(beat))
    }

    /// Says that we are alive.
    pub(super) fn beat(&self) {
        self.speaker.0.state.lock().say(&Word::Beat);
    }

    /// Counts bytes of bulk that came.
    pub(super) fn on_bulk(&self, bytes: u64) {
        self.speaker.0.state.lock().unsettled += bytes;
    }

    /// Returns how many bytes of bulk came for which the peer has got no credit.
    pub(super) fn unsettled(&self) -> u64 {
        self.speaker.0.state.lock().unsettled
    }

    /// Makes the credit for bytes that came.
    pub(super) fn credit(&self, bytes: u64) -> Credit {
        Credit { session: self.speaker.clone(), bytes }
    }

    /// Takes the peer's credit for bytes that it has dealt with.
    pub(super) fn on_credit(&self, bytes: u64) -> Result<(), Ending> {
        let mut state = self.speaker.0.state.lock();
        state.window = state.window.saturating_add(bytes);
        if state.window > self.speaker.0.limits.window_bytes {
            return Err(Ending::Protocol(format!("it gives credit for {bytes} bytes that it was not sent").into()));
        }
        drop(state);
        self.speaker.0.wake.notify_one();
        Ok(())
    }

    /// Ends the session.
    pub(super) fn end(self) {
        let mut state = self.speaker.0.state.lock();
        state.is_closed = true;
        // What was not sent is dropped here, not with the last speaker.
        state.outgoing = Outgoing::default();
    }
}
