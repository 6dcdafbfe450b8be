//! Whether a peer takes what is said to it.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may wait for a peer. Where more wait, no more of its tasks start; and it may not take nothing for long.
pub(super) const WAITING_BYTES_MAX: usize = 64 << 20;

/// For how long a peer may take nothing while more than that waits: as long as a connection is written to in vain.
const STANDSTILL: Duration = Duration::from_secs(10);

/// For how long a peer may acknowledge nothing while more than that waits: a gigabyte that is on its way as one message takes
/// as long at 150 Mbit/s.
const SILENCE: Duration = Duration::from_secs(60);

/// How far a peer has come with what is said to it.
#[derive(Debug, Default)]
pub(super) struct Slowness {
    said: usize,
    written: Pace,
    acknowledged: Pace,
}

/// A number that is to change, and since when it has not.
#[derive(Debug, Default)]
struct Pace {
    last: u64,
    since: Option<Instant>,
}

impl Pace {
    /// Returns for how long the number has been this one.
    fn stands(&mut self, number: u64, now: Instant) -> Duration {
        if number != self.last {
            (self.last, self.since) = (number, None);
        }
        now - *self.since.get_or_insert(now)
    }
}

impl Slowness {
    /// Notes that so many bytes are to be said while others wait to be acknowledged, of which the connection has taken
    /// `written` since the session began; returns whether the peer is too slow for that.
    pub(super) fn is_too_slow(&mut self, bytes: usize, waiting: usize, written: u64) -> bool {
        let acknowledged = self.said.saturating_sub(waiting) as u64;
        self.said += bytes;
        if waiting == 0 {
            (self.written.since, self.acknowledged.since) = (None, None);
            return false;
        }
        let now = Instant::now();
        let (stands, is_silent) = (self.written.stands(written, now), self.acknowledged.stands(acknowledged, now));
        waiting + bytes > WAITING_BYTES_MAX && (stands > STANDSTILL || is_silent > SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Says a mebibyte ten times a second; returns at which time it was too slow. `peer` tells what waits and what was
    /// written.
    async fn too_slow_at(peer: impl Fn(usize) -> (usize, u64)) -> Option<usize> {
        let mut slowness = Slowness::default();
        for round in 0..1_500 {
            let (waiting, written) = peer(round);
            if slowness.is_too_slow(MIB, waiting, written) {
                return Some(round);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_takes_nothing_of_much_for_a_while_is_too_slow() {
        assert_eq!(too_slow_at(|round| (round * MIB, 0)).await, Some(102), "it has stood since the first");
        assert_eq!(
            too_slow_at(|round| (round * MIB, round.min(60) as u64)).await,
            Some(161),
            "it stood ten seconds ago"
        );
        assert_eq!(too_slow_at(|round| (200 * MIB + round * MIB / 2, round as u64)).await, None, "it takes a little");
        let late = |round| (200 * MIB + round % 500 * MIB, round as u64);
        assert_eq!(too_slow_at(late).await, None, "a message of 500 MiB is on its way");
        let never = |round| (round * MIB, round as u64);
        assert_eq!(too_slow_at(never).await, Some(602), "it acknowledges nothing");
        assert_eq!(too_slow_at(|round| (round % 60 * MIB, 0)).await, None, "it is not much");
    }
}
