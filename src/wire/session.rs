//! A session: one peer, two lanes each way, signs of life, credits, and an end with a reason.
//!
//! Over any `AsyncRead + AsyncWrite`. [`run`](super::pump::run) drives it, in one task; what is said goes through a [`Speaker`], from any
//! thread. Time is tokio's, so that a simulation can have its own.
//!
//! **Credits.** A peer may have sent `window_bytes` of bulk that we have not dealt with. Whoever hears a message holds
//! a [`Credit`] for its bytes, and drops it once they are dealt with; then the peer may send as many more. So the bulk
//! lane may stand still for as long as a task runs, while beats and cancels pass on the control lane.
//!
//! **Life.** Each side says something at least every `beat_ms`. Nothing heard for `lost_ms` ends the session, unless we
//! notice that late: then it was us who stood still, or our machine slept, and the peer gets as long again.

mod ending;
mod limits;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame::{FrameError, FrameLimits, Lane, Message};
use super::lasting::{Lasting, Link};
use super::outgoing::Outgoing;
use super::retained::Received;

pub use ending::{Ending, SayError};
pub use limits::SessionLimits;

/// What a session says on the control lane.
#[derive(Serialize, Deserialize)]
pub(super) enum Word<'a> {
    /// We are alive.
    Beat,
    /// So many more bytes of bulk may be sent.
    Credit(u64),
    /// This is the last word, and why.
    Close(&'a str),
    /// What whoever uses the session says.
    Say(&'a [u8]),
    /// We are alive, and have received so many messages: a beat of a session that outlives its connection.
    Ack(Received),
}

/// The saying side of a session. Cheap to clone.
#[derive(Clone)]
pub struct Speaker(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something to write, or the end.
    pub(super) wake: Notify,
    /// Bytes that connections took, of what went with bulk.
    pub(super) written: AtomicU64,
    /// When the peer was heard last, of whatever connection.
    pub(super) heard: Mutex<Option<Instant>>,
    pub(super) limits: SessionLimits,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) outgoing: Outgoing,
    /// Bytes of bulk that the peer has room for.
    pub(super) window: u64,
    /// Bytes of bulk that came, and for which the peer has got no credit.
    pub(super) unsettled: u64,
    /// Of these, what was dealt with: the credit that is due.
    pub(super) owed: u64,
    pub(super) closing: Option<Closing>,
    /// It has ended, for good.
    pub(super) is_closed: bool,
    /// Which connection of the session this is.
    pub(super) epoch: u64,
    /// If it outlives its connections.
    pub(super) lasting: Option<Lasting>,
}

#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub(super) reason: Box<str>,
    /// What has not been said by then is not said any more.
    pub(super) by: Instant,
    /// The peer is told, as far as this connection goes.
    pub(super) is_said: bool,
}

/// What was heard.
#[derive(Debug)]
pub struct Heard {
    /// The lane that it came on.
    pub lane: Lane,
    /// What was said.
    pub message: Message,
    /// To be dropped when the message has been dealt with.
    pub credit: Credit,
}

/// Room that the peer gets back when this is dropped.
pub struct Credit {
    pub(super) session: Speaker,
    pub(super) bytes: u64,
    /// The connection that they came over: only there the peer waits for them.
    pub(super) epoch: u64,
}

impl Speaker {
    /// Makes the saying side of a session that [`run`](super::pump::run) is to drive.
    pub fn new(limits: SessionLimits) -> Self {
        Self::of(limits, None)
    }

    pub(super) fn of(limits: SessionLimits, lasting: Option<Lasting>) -> Self {
        let state = State {
            outgoing: Outgoing::default(),
            window: limits.window_bytes,
            unsettled: 0,
            owed: 0,
            closing: None,
            is_closed: false,
            epoch: 0,
            lasting,
        };
        let (written, heard) = (AtomicU64::new(0), Mutex::new(None));
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), written, heard, limits }))
    }

    /// Says something. It is sent in the order of its lane.
    ///
    /// # Errors
    /// If the session has ended, if too much waits, or if no peer would take it; then nothing is sent.
    pub fn say(&self, lane: Lane, message: Message) -> Result<(), SayError> {
        let message = match lane {
            Lane::Bulk => message,
            Lane::Control => Message { header: encoded(&Word::Say(&message.header)), ..message },
        };
        let mut state = self.0.state.lock();
        if state.is_closed || state.closing.is_some() {
            return Err(SayError::Closed);
        }
        let (waiting, max) = (state.waiting(lane), self.0.limits.outbound_bytes_max);
        if waiting > 0 && waiting + message.bytes() > max {
            return Err(SayError::Full { waiting, max });
        }
        state.put(lane, message, self.0.limits.frames)?;
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    /// As [`say`](Self::say), where the peer waits for it: what cannot be said ends the session, loudly.
    pub fn say_or_end(&self, lane: Lane, message: Message) {
        match self.say(lane, message) {
            // Nobody waits there any more, or will be told.
            Ok(()) | Err(SayError::Closed) => {}
            Err(error) => {
                tracing::error!(%error, "something cannot be said to a peer");
                self.close(format!("something cannot be said: {error}"));
            }
        }
    }

    /// Ends the session once what was said is sent, or cannot be sent for `write_stall_ms`; the peer is told why. The
    /// first reason counts.
    pub fn close(&self, reason: impl Into<Box<str>>) {
        let by = Instant::now() + self.0.limits.write_stall();
        self.0.state.lock().closing.get_or_insert(Closing::new(reason.into(), by));
        self.0.wake.notify_one();
    }

    /// Returns how many bytes wait on a lane to be sent or, in a lasting session, to be acknowledged.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.0.state.lock().waiting(lane)
    }

    /// Returns how many bytes connections took since the session began, beside beats and the like: it stands where a peer takes
    /// nothing, or gives no credit.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Returns for how long nothing was heard of the peer; zero before it was.
    pub(crate) fn silence(&self) -> Duration {
        self.0.heard.lock().map_or(Duration::ZERO, |heard| heard.elapsed())
    }

    /// Returns whether nothing can be said any more.
    pub fn is_closed(&self) -> bool {
        let state = self.0.state.lock();
        state.is_closed || state.closing.is_some()
    }
}

impl State {
    /// Puts a message of the user's where it waits.
    fn put(&mut self, lane: Lane, message: Message, limits: FrameLimits) -> Result<(), FrameError> {
        let Some(lasting) = &mut self.lasting else { return self.outgoing.say(lane, message, limits) };
        if lasting.link == Link::Cut {
            limits.check_message(lane, &message)?;
        } else {
            self.outgoing.say(lane, message.clone(), limits)?;
        }
        if lane == Lane::Bulk {
            lasting.largest = lasting.largest.max(message.bytes() as u64);
        }
        lasting.retained.keep(lane, message);
        Ok(())
    }

    fn waiting(&self, lane: Lane) -> usize {
        self.lasting.as_ref().map_or_else(|| self.outgoing.waiting(lane), |lasting| lasting.retained.bytes(lane))
    }

    /// Says something of the session's own.
    pub(super) fn say(&mut self, word: &Word<'_>) {
        let message = Message { header: encoded(word), buffers: Vec::new() };
        let said = self.outgoing.say(Lane::Control, message, FrameLimits::STRANGER);
        debug_assert_eq!(said, Ok(()), "it is a few bytes");
    }
}

impl Closing {
    pub(super) fn new(reason: Box<str>, by: Instant) -> Self {
        Self { reason, by, is_said: false }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let Shared { state, wake, limits, .. } = &*self.session.0;
        let mut state = state.lock();
        if state.epoch != self.epoch {
            return;
        }
        state.owed += self.bytes;
        // Not for each byte: half a window at a time keeps a peer going that sends all the time.
        let is_due = state.owed >= limits.window_bytes / 2;
        drop(state);
        if is_due {
            wake.notify_one();
        }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credit({})", self.bytes)
    }
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_closed() { "Speaker(closed)" } else { "Speaker" })
    }
}

/// Longest reason that is sent or taken, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 1 << 10;

fn encoded(word: &Word<'_>) -> Bytes {
    postcard::to_stdvec(word).expect("a vector grows, and a word can be encoded").into()
}
