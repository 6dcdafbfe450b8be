//! Whether a peer takes what is said to it.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may wait for a peer that takes nothing. One that does take them may have as much as its tasks returned.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// For how long a peer may take nothing while more than that waits.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How far a peer has come with what is said to it.
#[derive(Debug, Default)]
pub(super) struct Slowness {
    said: usize,
    /// What it had taken when it was last seen to take something, and when that was.
    taken: usize,
    seen: Option<Instant>,
}

impl Slowness {
    /// Notes that so many bytes are to be said, while others wait; returns whether it is too slow for that.
    pub(super) fn is_too_slow(&mut self, bytes: usize, waiting: usize) -> bool {
        let taken = self.said.saturating_sub(waiting);
        self.said += bytes;
        if waiting + bytes <= WAITING_BYTES_MAX {
            (self.taken, self.seen) = (taken, None);
            return false;
        }
        let now = Instant::now();
        if taken > self.taken || self.seen.is_none() {
            (self.taken, self.seen) = (taken, Some(now));
        }
        self.seen.is_some_and(|seen| now - seen > STANDSTILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_takes_nothing_of_much_for_a_while_is_too_slow() {
        const MIB: usize = 1 << 20;
        let (mut taking, mut standing) = (Slowness::default(), Slowness::default());
        for round in 0..100 {
            assert!(!taking.is_too_slow(10 * MIB, round * 9 * MIB), "it takes a little");
            let waiting = round * MIB;
            assert_eq!(standing.is_too_slow(MIB, waiting), round > 64 + 10, "{round}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
