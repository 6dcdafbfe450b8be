//! When an engine that has died is launched again: at once, then after longer and longer, and not for ever. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Wait before the second restart of a row; it doubles from there.
const BACKOFF_MS_MIN: u64 = 50;

/// Longest wait before a restart.
const BACKOFF_MS_MAX: u64 = 1_000;

/// When an engine died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Died {
    /// Before it had returned a task: it may be the program, or its first task.
    AtOnce,
    /// After it had.
    AfterWork,
}

/// The restarts of one engine.
#[derive(Debug)]
pub(crate) struct Restarts {
    max: u32,
    window: Duration,
    /// When the last ones were, since some beginning.
    recent: VecDeque<Duration>,
    /// How many of the last ones died at once.
    row: u32,
}

impl Restarts {
    /// Allows `max` restarts within `window`.
    pub(crate) fn new(max: u32, window: Duration) -> Self {
        Self { max, window, recent: VecDeque::new(), row: 0 }
    }

    /// Returns how long to wait before the engine is launched again; `None` if it has died too often.
    ///
    /// One that was of use comes back at once, for whoever waits for it. So does the first that was not; the next in a row
    /// wait.
    pub(crate) fn next(&mut self, now: Duration, died: Died) -> Option<Duration> {
        while self.recent.front().is_some_and(|&at| at.saturating_add(self.window) <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.max as usize {
            return None;
        }
        self.recent.push_back(now);
        self.row = if died == Died::AtOnce { self.row.saturating_add(1) } else { 0 };
        let Some(waits) = self.row.checked_sub(2) else { return Some(Duration::ZERO) };
        let backoff = BACKOFF_MS_MIN.saturating_mul(1 << waits.min(16)).min(BACKOFF_MS_MAX);
        Some(Duration::from_millis(backoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_next_wait_longer_and_longer() {
        let mut restarts = Restarts::new(9, s(60));
        let waits: Vec<u64> =
            (0..9).map(|n| restarts.next(s(n), Died::AtOnce).unwrap_or_default().as_millis() as u64).collect();
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(restarts.next(s(9), Died::AtOnce), None, "nine within a minute");
        assert_eq!(restarts.next(s(60), Died::AtOnce), Some(s(1)), "the first is forgotten");
        assert_eq!(restarts.next(s(60), Died::AtOnce), None);
    }

    #[test]
    fn one_that_was_of_use_comes_back_at_once() {
        let mut restarts = Restarts::new(5, s(60));
        for n in 0..4 {
            assert_eq!(restarts.next(s(n), Died::AfterWork), Some(Duration::ZERO));
        }
        assert_eq!(Restarts::new(0, s(60)).next(s(0), Died::AfterWork), None);
        let mut for_ever = Restarts::new(1, Duration::MAX);
        assert_eq!([for_ever.next(s(1), Died::AfterWork), for_ever.next(s(2), Died::AfterWork)], [Some(s(0)), None]);
    }
}
