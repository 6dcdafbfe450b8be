//! What drives a session: bytes in, bytes out, until one of the two ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Connection;
use super::frame::{Lane, Message};
use super::incoming::Incoming;
use super::session::{Credit, Ending, Heard, REASON_BYTES_MAX, Speaker, Word};
use crate::catch::shortened;
use crate::clock::{Clock, Reading};

/// How long we go on reading after our last word, so that it is not lost with what we did not read; and how long we
/// try to say it to a peer that broke the protocol.
const LINGER: Duration = Duration::from_secs(1);

/// Drives a session to its end; `hear` gets what the peer says, and ends the session by an error.
///
/// A [lasting](Speaker::lasting) session goes on if the ending is one of the connection's alone: if it is lost, silent,
/// stalled or failed. One that is suspended, or driven already, is lost at once.
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
    let Some(connection) = Connection::of(speaker) else { return Ending::Lost };
    let ending = {
        let (mut writing, mut reading) =
            (std::pin::pin!(write_all(writer, &connection)), std::pin::pin!(read_all(reader, &connection, hear)));
        // Reading comes first: what is said in answer to what came is written without another wake-up.
        let (first, is_written) = tokio::select! {
            biased;
            ending = &mut reading => (ending, false),
            ending = &mut writing => (ending, true),
        };
        connection.on_ending(&first);
        match &first {
            // What the peer said before it died is still to be read.
            Ending::Lost | Ending::Failed(_) if is_written => match timeout(LINGER, reading).await {
                // It was perhaps that it ends the session, and then nothing is to be resumed.
                Ok(last) if connection.is_lasting && last.is_for_good() => {
                    connection.on_ending(&last);
                    last
                }
                _ => first,
            },
            Ending::Protocol(_) => {
                let _ = timeout(LINGER, writing).await;
                first
            }
            Ending::Closed(_) => {
                let _ = timeout(LINGER, reading).await;
                first
            }
            _ => first,
        }
    };
    connection.end();
    ending
}

/// Writes what is said, and beats.
async fn write_all<W: AsyncWrite + Unpin>(mut writer: W, connection: &Connection<'_>) -> Ending {
    let limits = connection.speaker.0.limits;
    let (beat, stall) = (Duration::from_millis(limits.beat_ms), Duration::from_millis(limits.write_stall_ms));
    let mut last = Instant::now();
    loop {
        let Some(mut write) = connection.next_write() else {
            // A peer that reads nothing may not keep it up.
            let _ = timeout(LINGER, writer.shutdown()).await;
            return connection.said_all();
        };
        if !write.has_remaining() {
            tokio::select! {
                biased;
                () = connection.speaker.0.wake.notified() => {}
                () = sleep_until(connection.next_due(last + beat)) => {}
            }
            if last.elapsed() >= beat {
                connection.beat();
            }
            continue;
        }
        let is_bulk = write.bulk() > 0;
        while write.has_remaining() {
            match timeout(stall, writer.write_buf(&mut write)).await {
                Err(_) => return Ending::Stalled(stall),
                Ok(Err(error)) => return error.into(),
                Ok(Ok(0)) => return Ending::Lost,
                Ok(Ok(count)) if is_bulk => {
                    connection.speaker.0.written.fetch_add(count as u64, Ordering::Relaxed);
                }
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
    connection: &Connection<'_>,
    mut hear: impl FnMut(Heard) -> Result<(), Box<str>>,
) -> Ending {
    /// How much is read at once where no large buffer is under way.
    const READ_BYTES: usize = 64 << 10;
    let limits = connection.speaker.0.limits;
    let mut incoming = Incoming::new(limits.frames);
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    let (mut messages, mut account) = (Vec::new(), Account::new(limits.window_bytes));
    let mut deadline = Deadline::after(Duration::from_millis(limits.lost_ms), Clock::SYSTEM);
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
            biased;
            read = read => match read {
                Ok((0, _)) => return Ending::Lost,
                Ok(read) => read,
                Err(error) => return error.into(),
            },
            silence = deadline.passed() => return Ending::Silent(silence),
        };
        *connection.speaker.0.heard.lock() = Some(deadline.extend());
        let collect = |lane, message| messages.push((lane, message));
        if is_direct {
            incoming.filled(count, collect);
        } else if let Err(error) = incoming.take_in(&bytes, collect) {
            return error.into();
        }
        for (lane, message) in messages.drain(..) {
            let heard = match lane {
                Lane::Bulk => account
                    .credit(connection, message.bytes() as u64)
                    .and_then(|credit| hear(Heard { lane, message, credit }).map_err(Ending::Protocol)),
                Lane::Control => on_word(connection, message, &mut hear),
            };
            if let Err(ending) = heard {
                return ending;
            }
        }
        match account.note(connection, incoming.under_way(Lane::Bulk) as u64) {
            Ok(true) => {}
            Ok(false) => return Ending::Protocol("it sent more than it had credit for".into()),
            Err(ending) => return ending,
        }
    }
}

/// Deals with what came on the control lane.
fn on_word(
    connection: &Connection<'_>,
    message: Message,
    hear: &mut impl FnMut(Heard) -> Result<(), Box<str>>,
) -> Result<(), Ending> {
    match postcard::take_from_bytes(&message.header) {
        Ok((Word::Beat, [])) => Ok(()),
        Ok((Word::Ack(received), [])) => connection.on_ack(received),
        Ok((Word::Credit(bytes), [])) => connection.on_credit(bytes),
        Ok((Word::Close(reason), [])) => Err(Ending::ClosedByPeer(shortened(reason, REASON_BYTES_MAX).into())),
        Ok((Word::Say(said), [])) => {
            let said = message.header.slice_ref(said);
            let message = Message { header: said, buffers: message.buffers };
            // Whoever is not to resume anything does not count.
            if connection.is_lasting {
                connection.on_heard(Lane::Control, message.bytes() as u64, 0)?;
            }
            hear(Heard { lane: Lane::Control, message, credit: connection.credit(0) }).map_err(Ending::Protocol)
        }
        _ => Err(Ending::Protocol(format!("a word of {} bytes cannot be read", message.header.len()).into())),
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

    /// Counts a message that is complete and heard now, and makes its credit.
    fn credit(&mut self, connection: &Connection<'_>, bytes: u64) -> Result<Credit, Ending> {
        self.complete += bytes;
        connection.on_heard(Lane::Bulk, bytes, self.more(self.complete))?;
        Ok(connection.credit(bytes - std::mem::take(&mut self.early)))
    }

    /// Notes how much has come of a message that is not complete; returns false if it should not have.
    ///
    /// What is beyond half the window the peer gets back as it comes, or a large message would wait for itself.
    fn note(&mut self, connection: &Connection<'_>, under_way: u64) -> Result<bool, Ending> {
        let is_within = connection.on_bulk(self.more(self.complete + under_way))?;
        let early = under_way.saturating_sub(self.window / 2);
        if early > self.early {
            drop(connection.credit(early - self.early));
            self.early = early;
        }
        Ok(is_within)
    }

    /// Returns how much of what came is not counted yet.
    fn more(&mut self, came: u64) -> u64 {
        let more = came.saturating_sub(self.came);
        self.came += more;
        more
    }
}

/// By when the peer has to be heard.
struct Deadline {
    wait: Duration,
    clock: Clock,
    heard: Reading,
}

/// A deadline that is noticed so late was missed by us: this process, or its machine, stood still.
const NOTICED_LATE: Duration = Duration::from_millis(500);

impl Deadline {
    fn after(wait: Duration, clock: Clock) -> Self {
        Self { wait, clock, heard: clock.now() }
    }

    /// Begins again; returns the present moment.
    fn extend(&mut self) -> Instant {
        self.heard = self.clock.now();
        self.heard.at
    }

    /// Waits until it has passed, in time; returns how long that was.
    async fn passed(&mut self) -> Duration {
        loop {
            sleep_until(self.heard.at + self.wait).await;
            if self.clock.now().since(self.heard) < self.wait + NOTICED_LATE {
                return self.wait;
            }
            self.extend();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_has_as_long_again_where_the_machine_has_slept() {
        thread_local!(static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        let wait = Duration::from_secs(5);
        let mut deadline = Deadline::after(wait, Clock::of(|| SLEPT.get()));
        for hour in 1..=3 {
            // No timer notices: they stand still meanwhile.
            sleep_until(Instant::now() + Duration::from_secs(4)).await;
            SLEPT.set(Duration::from_secs(hour * 3_600));
            let began = Instant::now();
            assert_eq!(deadline.passed().await, wait);
            assert_eq!(began.elapsed(), Duration::from_secs(1) + wait);
            deadline.extend();
        }
        let began = Instant::now();
        assert_eq!(deadline.passed().await, wait);
        assert_eq!(began.elapsed(), wait, "it has slept for long, but not meanwhile");
    }
}
