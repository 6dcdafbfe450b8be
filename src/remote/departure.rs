//! An engine whose time is over: whoever runs it is told, says so to the controller, and has so long to finish what it runs.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::limits::WAIT_MAX;

/// Whether an engine is to leave, and by when. The default is one that never is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departure(Option<watch::Receiver<Option<Instant>>>);

/// Where it is told to leave. The first word counts.
#[derive(Debug)]
pub(crate) struct TellDeparture {
    by: watch::Sender<Option<Instant>>,
    /// How long what it runs then may take.
    within: Duration,
}

/// How long it has beyond that to say that it is gone.
const GOODBYE: Duration = Duration::from_secs(1);

impl TellDeparture {
    pub(crate) fn new(within: Duration) -> Self {
        Self { by: watch::Sender::new(None), within }
    }

    /// What engines of this program follow.
    pub(crate) fn departure(&self) -> Departure {
        Departure(Some(self.by.subscribe()))
    }

    /// Has them leave.
    pub(crate) fn tell(&self, why: &'static str) {
        let is_first = self.by.send_if_modified(|by| {
            let is_first = by.is_none();
            by.get_or_insert(Instant::now() + self.within.min(WAIT_MAX));
            is_first
        });
        if is_first {
            tracing::info!(why, within = ?self.within, "it is told to leave, and finishes what it runs");
        }
    }
}

impl Departure {
    pub(crate) fn is_told(&self) -> bool {
        self.0.as_ref().is_some_and(|told| told.borrow().is_some())
    }

    /// Waits until it is told; returns when what it runs has to be finished.
    pub(crate) async fn told(&self) -> Instant {
        let Some(told) = &self.0 else { return pending().await };
        match told.clone().wait_for(Option::is_some).await.map(|by| *by) {
            Ok(Some(by)) => by,
            // Nobody is left to tell it.
            Ok(None) | Err(_) => pending().await,
        }
    }

    /// Waits until it has to be gone.
    pub(crate) async fn is_over(&self) {
        sleep_until(self.told().await + GOODBYE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_take_for_ever_is_told_all_the_same() {
        let told = TellDeparture::new(Duration::MAX);
        let departure = told.departure();
        told.tell("it is to leave");
        assert!(departure.is_told());
    }
}
