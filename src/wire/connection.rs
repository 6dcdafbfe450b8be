//! One connection of a session: what its pump asks of the session, and tells it.
//!
//! A session may go on over another connection while this one's pump is still there. Nothing that it does then counts.

use bytes::Buf;
use parking_lot::MutexGuard;
use tokio::time::Instant;

use super::frame::{FRAME_BYTES_MAX, Lane};
use super::lasting::Link;
use super::outgoing::{Outgoing, Write};
use super::retained::Received;
use super::session::{Closing, Credit, Ending, REASON_BYTES_MAX, Speaker, State, Word};
use crate::catch::shortened;

/// A session that is being driven. If it lasts, it is suspended when this is dropped.
pub(super) struct Connection<'a> {
    pub(super) speaker: &'a Speaker,
    pub(super) is_lasting: bool,
    epoch: u64,
}

impl<'a> Connection<'a> {
    /// Begins to drive a session; `None` if it is suspended, or driven already.
    pub(super) fn of(speaker: &'a Speaker) -> Option<Self> {
        let mut state = speaker.0.state.lock();
        let epoch = state.epoch;
        let Some(lasting) = &mut state.lasting else { return Some(Self { speaker, is_lasting: false, epoch }) };
        // Two pumps would hear the same over two streams.
        if lasting.link != Link::Fresh {
            return None;
        }
        lasting.link = Link::Driven;
        Some(Self { speaker, is_lasting: true, epoch })
    }

    /// Returns the session's state, as long as this is its connection.
    fn state(&self) -> Result<MutexGuard<'a, State>, Ending> {
        let state = self.speaker.0.state.lock();
        if state.epoch == self.epoch { Ok(state) } else { Err(Ending::Lost) }
    }

    /// Takes what is to be written next; `None` once everything is said.
    pub(super) fn next_write(&self) -> Option<Write> {
        let limits = &self.speaker.0.limits;
        let Ok(mut state) = self.state() else {
            // It may have been the next connection's pump that was to wake.
            self.speaker.0.wake.notify_one();
            return None;
        };
        if state.owed >= limits.window_bytes / 2 {
            let owed = std::mem::take(&mut state.owed);
            state.unsettled -= owed;
            state.say(&Word::Credit(owed));
        }
        if state.lasting.as_ref().is_some_and(|lasting| lasting.is_ack_due(limits)) {
            state.beat();
        }
        let bulk_max = usize::try_from(state.window).unwrap_or(usize::MAX);
        let write = state.outgoing.next_write(bulk_max.min(FRAME_BYTES_MAX));
        state.window -= write.bulk() as u64;
        if let Some(lasting) = &mut state.lasting {
            lasting.sent += write.bulk() as u64;
        }
        if write.has_remaining() {
            return Some(write);
        }
        let has_bulk = state.outgoing.waiting(Lane::Bulk) > 0;
        let Some(closing) = state.closing.as_mut().filter(|closing| !has_bulk || closing.by <= Instant::now()) else {
            return Some(Write::default());
        };
        if std::mem::replace(&mut closing.is_said, true) {
            return None;
        }
        let reason = closing.reason.clone();
        state.say(&Word::Close(shortened(&reason, REASON_BYTES_MAX)));
        Some(state.outgoing.next_write(0))
    }

    /// Returns how it ends, once everything is said.
    pub(super) fn said_all(&self) -> Ending {
        match self.state() {
            Ok(state) => {
                Ending::Closed(state.closing.as_ref().map(|closing| closing.reason.clone()).unwrap_or_default())
            }
            Err(ending) => ending,
        }
    }

    /// Returns when something is to be done though nothing is said: a `beat`, an acknowledgement, or the end.
    pub(super) fn next_due(&self, beat: Instant) -> Instant {
        let Ok(state) = self.state() else { return Instant::now() };
        let by = state.closing.as_ref().map(|closing| closing.by);
        let ack_by = state.lasting.as_ref().and_then(|lasting| lasting.ack_by);
        by.into_iter().chain(ack_by).fold(beat, Instant::min)
    }

    /// Says that we are alive.
    pub(super) fn beat(&self) {
        if let Ok(mut state) = self.state() {
            state.beat();
        }
    }

    /// Counts bytes of bulk that came; returns whether the peer had credit for them.
    pub(super) fn on_bulk(&self, bytes: u64) -> Result<bool, Ending> {
        let mut state = self.state()?;
        state.unsettled += bytes;
        Ok(state.unsettled <= self.speaker.0.limits.window_bytes)
    }

    /// Counts a message of so many bytes that is heard now, and how many bytes of bulk came with it.
    pub(super) fn on_heard(&self, lane: Lane, bytes: u64, bulk: u64) -> Result<(), Ending> {
        let limits = &self.speaker.0.limits;
        let mut state = self.state()?;
        state.unsettled += bulk;
        let Some(lasting) = &mut state.lasting else { return Ok(()) };
        lasting.on_heard(lane, bytes, limits);
        if lasting.is_ack_urgent(limits) {
            drop(state);
            self.speaker.0.wake.notify_one();
        }
        Ok(())
    }

    /// Makes the credit for bytes that came.
    pub(super) fn credit(&self, bytes: u64) -> Credit {
        Credit { session: self.speaker.clone(), bytes, epoch: self.epoch }
    }

    /// Takes the peer's credit for bytes that it has dealt with.
    pub(super) fn on_credit(&self, bytes: u64) -> Result<(), Ending> {
        let mut state = self.state()?;
        state.window = state.window.saturating_add(bytes);
        if state.window > self.speaker.0.limits.window_bytes {
            return Err(Ending::Protocol(format!("it gives credit for {bytes} bytes that it was not sent").into()));
        }
        if let Some(lasting) =
            state.lasting.as_ref().filter(|lasting| lasting.is_unacknowledged(&self.speaker.0.limits))
        {
            return Err(Ending::Protocol(format!("it acknowledges nothing of {} bytes", lasting.sent).into()));
        }
        drop(state);
        self.speaker.0.wake.notify_one();
        Ok(())
    }

    /// Takes what the peer says to have received.
    pub(super) fn on_ack(&self, received: Received) -> Result<(), Ending> {
        let mut state = self.state()?;
        if state.is_closed {
            // Nothing is retained any more, and nothing is to be forgotten.
            return Ok(());
        }
        let Some(lasting) = &mut state.lasting else {
            return Err(Ending::Protocol("it acknowledges what is not retained here".into()));
        };
        let before = lasting.retained.bytes(Lane::Bulk);
        lasting.retained.forget(received).map_err(|error| Ending::Protocol(error.to_string().into()))?;
        if lasting.retained.bytes(Lane::Bulk) < before {
            lasting.sent = 0;
        }
        Ok(())
    }

    /// Notes how it ends, before the last words.
    pub(super) fn on_ending(&self, ending: &Ending) {
        let Ok(mut state) = self.state() else { return };
        if let Ending::Protocol(reason) = ending {
            // So that somebody there can read it, too.
            state.closing.get_or_insert_with(|| Closing::new(format!("protocol: {reason}").into(), Instant::now()));
            self.speaker.0.wake.notify_one();
        }
        state.is_closed |= ending.is_for_good();
    }

    /// Ends the session, unless it lasts and may go on.
    pub(super) fn end(self) {
        let Ok(mut state) = self.state() else { return };
        if state.lasting.is_none() {
            state.is_closed = true;
            // What was not sent is dropped here, not with the last speaker.
            state.outgoing = Outgoing::default();
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.suspend(&self.speaker.0.limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::frame::Message;
    use crate::wire::session::SessionLimits;

    /// Says messages of so many bytes to a peer that gives credit for each, and acknowledges those that it is `acknowledged` to;
    /// returns how many bytes it took, and how that ended.
    fn says(bytes: usize, acknowledged: impl Fn(u64) -> u64) -> (u64, Option<Ending>) {
        let speaker = Speaker::lasting(SessionLimits::LASTING);
        let connection = Connection::of(&speaker).unwrap();
        let mut taken = 0;
        for n in 1..=60 {
            speaker.say(Lane::Bulk, Message { header: Bytes::new(), buffers: vec![vec![1; bytes].into()] }).unwrap();
            while let Some(write) = connection.next_write().filter(Write::has_remaining) {
                taken += write.bulk() as u64;
                if let Err(ending) = connection.on_credit(write.bulk() as u64) {
                    return (taken, Some(ending));
                }
            }
            connection.on_ack(Received { control: 0, bulk: acknowledged(n) }).unwrap();
        }
        (taken, None)
    }

    #[test]
    fn a_peer_that_takes_everything_and_acknowledges_nothing_breaks_the_protocol() {
        let window = SessionLimits::LASTING.window_bytes;
        let (taken, ending) = says(1 << 20, |_| 0);
        let Some(Ending::Protocol(reason)) = ending else { panic!("{ending:?}") };
        assert!(reason.starts_with("it acknowledges nothing of"), "{reason}");
        assert!((4 * window..6 * window).contains(&taken), "{taken}");
        // What was received last need not be acknowledged yet.
        assert_eq!(says(1 << 20, |n| n - 1).1, None);
        // Messages that are larger than the window are acknowledged when they have come.
        assert_eq!(says(3 * window as usize, |n| n).1, None);
    }
}
