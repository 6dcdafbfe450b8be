//! How long one dials, and waits before the next time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::dialler::Dialler;
use super::way::{Failed, Way};
use crate::error::Error;
use crate::wire::handshake::Role;

/// Waits between two attempts: the first, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// How long one has dialled, and how long one waits before the next time.
pub(super) struct Backoff {
    since: Instant,
    wait: Duration,
    /// When it was last told that nobody is found.
    told: Option<Instant>,
}

/// How often it is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The longest wait of a host and how often it is told there: its cluster is there when a program runs, and is then to find it soon.
const HOST_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

impl Backoff {
    pub(super) fn from_now() -> Self {
        Self { since: Instant::now(), wait: BACKOFF[0], told: None }
    }

    /// Begins again, where a session was lost that had `lasted`. Where one is lost again and again at once, the next comes
    /// later and later.
    pub(super) fn begin_again(&mut self, lasted: Duration) {
        (self.since, self.told) = (Instant::now(), None);
        if lasted > BACKOFF[1] {
            self.wait = BACKOFF[0];
        }
    }

    /// Waits after a session could not be opened.
    ///
    /// # Errors
    /// As [`pause`](Self::pause); [`Error::Refused`] if it never will be.
    pub(super) async fn pause_after<W: Way>(&mut self, dialler: &Dialler<W>, failed: Failed) -> Result<(), Error> {
        let error = match failed {
            Failed::ForGood(reason) => return Err(dialler.refused(reason.into())),
            Failed::ForNow(error) | Failed::ByStranger(error) => error,
        };
        tracing::info!(%error, "the session could not be opened");
        self.pause(dialler, error).await
    }

    /// Waits before the next time.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if that were too long.
    pub(super) async fn pause<W: Way>(&mut self, dialler: &Dialler<W>, reason: String) -> Result<(), Error> {
        // Many that lost one controller do not come back all at once.
        let wait = self.wait.mul_f64(0.8 + 0.4 * (dialler.way.draw() % 1_000) as f64 / 1_000.0);
        let (longest, told_every) = match dialler.hello.role {
            Role::Host => HOST_PAUSES,
            _ => (BACKOFF[1], TOLD_EVERY),
        };
        self.wait = (self.wait * 2).min(longest);
        let waited = self.since.elapsed();
        let Some(left) = dialler.search.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(Error::Unreachable { address: dialler.address.as_str().into(), waited, reason: reason.into() });
        };
        if self.told.is_none_or(|told| told.elapsed() >= told_every) {
            self.told = Some(Instant::now());
            // A host looks for it without end.
            let search = (dialler.search < Duration::MAX).then_some(dialler.search);
            tracing::warn!(address = dialler.address, reason, ?search, "no controller is found; it is looked for");
        }
        sleep(wait.min(left)).await;
        Ok(())
    }
}
