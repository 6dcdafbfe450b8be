//! A session: one peer, two lanes each way, signs of life, credits, and an end with a reason.
//!
//! Over any `AsyncRead + AsyncWrite`. [`run`] drives it, in one task; what is said goes through a [`Speaker`], from any
//! thread. Time is tokio's, so that a simulation can have its own.
//!
//! **Credits.** A peer may have sent `window_bytes` of bulk that we have not dealt with. Whoever hears a message holds
//! a [`Credit`] for its bytes, and drops it once they are dealt with; then the peer may send as many more. So the bulk
//! lane may stand still for as long as a task runs, while beats and cancels pass on the control lane.
//!
//! **Life.** Each side says something at least every `beat_ms`. Nothing heard for `lost_ms` ends the session, unless we
//! notice that late: then it was us who stood still, and the peer gets as long again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{FRAME_BYTES_MAX, FrameError, FrameLimits, Incoming, Lane, Message, Outgoing, Write};
use crate::catch::shortened;

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
    /// Bytes that wait to be sent. A message that is longer goes alone.
    pub outbound_bytes_max: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            frames: FrameLimits::PEER,
            beat_ms: 1_000,
            lost_ms: 5_000,
            write_stall_ms: 10_000,
            window_bytes: 8 << 20,
            outbound_bytes_max: 64 << 20,
        }
    }
}

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

impl From<FrameError> for Ending {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string().into())
    }
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // A peer that died with bytes of ours unread.
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Self::Lost,
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
        /// What waits, in bytes.
        waiting: usize,
        /// The limit.
        max: usize,
    },
    /// No peer would take it.
    #[error(transparent)]
    TooLarge(#[from] FrameError),
}

/// What a session says on the control lane.
#[derive(Serialize, Deserialize)]
enum Word<'a> {
    /// We are alive.
    Beat,
    /// So many more bytes of bulk may be sent.
    Credit(u64),
    /// This is the last word, and why.
    Close(&'a str),
    /// What whoever uses the session says.
    Say(&'a [u8]),
}

/// The saying side of a session. Cheap to clone.
#[derive(Clone)]
pub struct Speaker(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or the end.
    wake: Notify,
    limits: SessionLimits,
}

#[derive(Debug)]
struct State {
    outgoing: Outgoing,
    /// Bytes of bulk that the peer has room for.
    window: u64,
    /// Bytes of bulk that came, and for which the peer has got no credit.
    unsettled: u64,
    /// Of these, what was dealt with: the credit that is due.
    owed: u64,
    closing: Option<Closing>,
    is_closed: bool,
}

#[derive(Clone, Debug)]
struct Closing {
    reason: Box<str>,
    /// What has not been said by then is not said any more.
    by: Instant,
}

/// How long we go on reading after our last word, so that it is not lost with what we did not read; and how long we
/// try to say it to a peer that broke the protocol.
const LINGER: Duration = Duration::from_secs(1);

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
    session: Speaker,
    bytes: u64,
}

impl Speaker {
    /// Makes the saying side of a session that [`run`] is to drive.
    pub fn new(limits: SessionLimits) -> Self {
        let state = State {
            outgoing: Outgoing::default(),
            window: limits.window_bytes,
            unsettled: 0,
            owed: 0,
            closing: None,
            is_closed: false,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), limits }))
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
        let (waiting, max) = (state.outgoing.waiting(lane), self.0.limits.outbound_bytes_max);
        if waiting > 0 && waiting + message.bytes() > max {
            return Err(SayError::Full { waiting, max });
        }
        state.outgoing.say(lane, message, self.0.limits.frames)?;
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Ends the session once what was said is sent, or cannot be sent for `write_stall_ms`; the peer is told why. The
    /// first reason counts.
    pub fn close(&self, reason: impl Into<Box<str>>) {
        self.close_within(Duration::from_millis(self.0.limits.write_stall_ms), reason.into());
    }

    fn close_within(&self, wait: Duration, reason: Box<str>) {
        self.0.state.lock().closing.get_or_insert(Closing { reason, by: Instant::now() + wait });
        self.0.wake.notify_one();
    }

    /// Returns whether nothing can be said any more.
    pub fn is_closed(&self) -> bool {
        let state = self.0.state.lock();
        state.is_closed || state.closing.is_some()
    }

    fn give_credit(&self, bytes: u64) {
        let mut state = self.0.state.lock();
        state.owed += bytes;
        // Not for each byte: half a window at a time keeps a peer going that sends all the time.
        let is_due = state.owed >= self.0.limits.window_bytes / 2;
        drop(state);
        if is_due {
            self.0.wake.notify_one();
        }
    }

    /// Takes what is to be written next; `None` once everything is said.
    fn next_write(&self) -> Option<Write> {
        let mut state = self.0.state.lock();
        if state.owed >= self.0.limits.window_bytes / 2 {
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

    /// Returns when something is to be done though nothing is said: a beat, or the end.
    fn next_due(&self, last: Instant) -> Instant {
        let beat = last + Duration::from_millis(self.0.limits.beat_ms);
        let by = self.0.state.lock().closing.as_ref().map(|closing| closing.by);
        by.map_or(beat, |by| by.min(beat))
    }
}

impl State {
    /// Says something of the session's own.
    fn say(&mut self, word: &Word<'_>) {
        let message = Message { header: encoded(word), buffers: Vec::new() };
        let said = self.outgoing.say(Lane::Control, message, FrameLimits::STRANGER);
        debug_assert_eq!(said, Ok(()), "it is a few bytes");
    }
}

/// Drives a session to its end; `hear` gets what the peer says, and ends the session by an error.
///
/// `hear` runs in this task, which does nothing else meanwhile: it is to hand on.
pub async fn run<R, W>(
    reader: R,
    writer: W,
    speaker: &Speaker,
    hear: impl FnMut(Heard) -> Result<(), Box<str>>,
) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ending = {
        let (mut writing, mut reading) =
            (std::pin::pin!(write_all(writer, speaker)), std::pin::pin!(read_all(reader, speaker, hear)));
        let (first, is_written) = tokio::select! {
            ending = &mut writing => (ending, true),
            ending = &mut reading => (ending, false),
        };
        match &first {
            // What the peer said before it died is still to be read.
            Ending::Lost | Ending::Failed(_) if is_written => drop(timeout(LINGER, reading).await),
            Ending::Protocol(reason) => {
                // So that somebody there can read it, too.
                speaker.close_within(Duration::ZERO, format!("protocol: {reason}").into());
                let _ = timeout(LINGER, writing).await;
            }
            Ending::Closed(_) => drop(timeout(LINGER, reading).await),
            _ => {}
        }
        first
    };
    let mut state = speaker.0.state.lock();
    state.is_closed = true;
    // What was not sent is dropped here, not with the last speaker.
    state.outgoing = Outgoing::default();
    ending
}

/// Writes what is said, and beats.
async fn write_all<W: AsyncWrite + Unpin>(mut writer: W, speaker: &Speaker) -> Ending {
    let limits = speaker.0.limits;
    let (beat, stall) = (Duration::from_millis(limits.beat_ms), Duration::from_millis(limits.write_stall_ms));
    let mut last = Instant::now();
    loop {
        let Some(mut write) = speaker.next_write() else {
            let _ = writer.shutdown().await;
            let closing = speaker.0.state.lock().closing.clone();
            return Ending::Closed(closing.map(|closing| closing.reason).unwrap_or_default());
        };
        if !write.has_remaining() {
            tokio::select! {
                () = speaker.0.wake.notified() => {}
                () = sleep_until(speaker.next_due(last)) => {}
            }
            if last.elapsed() >= beat {
                speaker.0.state.lock().say(&Word::Beat);
            }
            continue;
        }
        while write.has_remaining() {
            match timeout(stall, writer.write_buf(&mut write)).await {
                Err(_) => return Ending::Stalled(stall),
                Ok(Err(error)) => return error.into(),
                Ok(Ok(0)) => return Ending::Lost,
                Ok(Ok(_)) => {}
            }
        }
        match timeout(stall, writer.flush()).await {
            Err(_) => return Ending::Stalled(stall),
            Ok(Err(error)) => return error.into(),
            Ok(Ok(())) => last = Instant::now(),
        }
    }
}

/// Reads what the peer says.
async fn read_all<R: AsyncRead + Unpin>(
    mut reader: R,
    speaker: &Speaker,
    mut hear: impl FnMut(Heard) -> Result<(), Box<str>>,
) -> Ending {
    /// How much is read at once where no large buffer is under way.
    const READ_BYTES: usize = 64 << 10;
    let limits = speaker.0.limits;
    let mut incoming = Incoming::new(limits.frames);
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    let (mut messages, mut account) = (Vec::new(), Account::new(limits.window_bytes));
    let mut deadline = Deadline::after(Duration::from_millis(limits.lost_ms));
    loop {
        let read = async {
            match incoming.room() {
                Some(mut room) => Ok((reader.read_buf(&mut room).await?, true)),
                None => {
                    bytes.clear();
                    bytes.reserve(READ_BYTES);
                    Ok::<_, std::io::Error>((reader.read_buf(&mut bytes).await?, false))
                }
            }
        };
        let (count, is_direct) = tokio::select! {
            read = read => match read {
                Ok((0, _)) => return Ending::Lost,
                Ok(read) => read,
                Err(error) => return error.into(),
            },
            silence = deadline.passed() => return Ending::Silent(silence),
        };
        deadline.extend();
        let collect = |lane, message| messages.push((lane, message));
        if is_direct {
            incoming.filled(count, collect);
        } else if let Err(error) = incoming.take_in(&bytes, collect) {
            return error.into();
        }
        for (lane, message) in messages.drain(..) {
            let ended = match lane {
                Lane::Bulk => {
                    let credit = account.credit(speaker, message.bytes() as u64);
                    hear(Heard { lane, message, credit }).err().map(Ending::Protocol)
                }
                Lane::Control => on_word(speaker, message, &mut hear),
            };
            if let Some(ending) = ended {
                return ending;
            }
        }
        if !account.note(speaker, incoming.under_way(Lane::Bulk) as u64) {
            return Ending::Protocol("it sent more than it had credit for".into());
        }
    }
}

/// Deals with what came on the control lane; returns the ending, if it is that.
fn on_word(
    speaker: &Speaker,
    message: Message,
    hear: &mut impl FnMut(Heard) -> Result<(), Box<str>>,
) -> Option<Ending> {
    match postcard::take_from_bytes(&message.header) {
        Ok((Word::Beat, [])) => None,
        Ok((Word::Credit(bytes), [])) => {
            let mut state = speaker.0.state.lock();
            state.window = state.window.saturating_add(bytes);
            if state.window > speaker.0.limits.window_bytes {
                return Some(Ending::Protocol(
                    format!("it gives credit for {bytes} bytes that it was not sent").into(),
                ));
            }
            drop(state);
            speaker.0.wake.notify_one();
            None
        }
        Ok((Word::Close(reason), [])) => Some(Ending::ClosedByPeer(shortened(reason, REASON_BYTES_MAX).into())),
        Ok((Word::Say(said), [])) => {
            let said = message.header.slice_ref(said);
            let message = Message { header: said, buffers: message.buffers };
            let credit = Credit { session: speaker.clone(), bytes: 0 };
            hear(Heard { lane: Lane::Control, message, credit }).err().map(Ending::Protocol)
        }
        _ => Some(Ending::Protocol(format!("a word of {} bytes cannot be read", message.header.len()).into())),
    }
}

/// What has come of bulk, and what of it the peer has got back before anybody heard it.
struct Account {
    window: u64,
    /// All of it, and of that what was in messages that are complete.
    came: u64,
    complete: u64,
    /// Of the message under way: what the peer has got back already.
    early: u64,
}

impl Account {
    fn new(window: u64) -> Self {
        Self { window, came: 0, complete: 0, early: 0 }
    }

    /// Makes the credit of a message that is complete.
    fn credit(&mut self, speaker: &Speaker, bytes: u64) -> Credit {
        self.complete += bytes;
        self.count(speaker, self.complete);
        Credit { session: speaker.clone(), bytes: bytes - std::mem::take(&mut self.early) }
    }

    /// Notes how much has come of a message that is not complete; returns false if it should not have.
    ///
    /// What is beyond half the window the peer gets back as it comes, or a large message would wait for itself.
    fn note(&mut self, speaker: &Speaker, under_way: u64) -> bool {
        self.count(speaker, self.complete + under_way);
        let early = under_way.saturating_sub(self.window / 2);
        if early > self.early {
            speaker.give_credit(early - self.early);
            self.early = early;
        }
        speaker.0.state.lock().unsettled <= self.window
    }

    fn count(&mut self, speaker: &Speaker, came: u64) {
        if came > self.came {
            speaker.0.state.lock().unsettled += came - self.came;
            self.came = came;
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.session.give_credit(self.bytes);
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

/// By when the peer has to be heard.
struct Deadline {
    wait: Duration,
    at: Instant,
}

/// A deadline that is noticed so late was missed by us: this process, or its machine, stood still.
const NOTICED_LATE: Duration = Duration::from_millis(500);

impl Deadline {
    fn after(wait: Duration) -> Self {
        Self { wait, at: Instant::now() + wait }
    }

    fn extend(&mut self) {
        self.at = Instant::now() + self.wait;
    }

    /// Waits until it has passed, in time; returns how long that was.
    async fn passed(&mut self) -> Duration {
        loop {
            sleep_until(self.at).await;
            if self.at.elapsed() < NOTICED_LATE {
                return self.wait;
            }
            self.extend();
        }
    }
}

/// Longest reason that is sent or taken, in bytes.
const REASON_BYTES_MAX: usize = 1 << 10;

fn encoded(word: &Word<'_>) -> Bytes {
    postcard::to_stdvec(word).expect("a vector grows, and a word can be encoded").into()
}
