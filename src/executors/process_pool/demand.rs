//! How many workers a pool needs: as many as there were tasks in flight at once of late. Pure: `now` comes in.

use std::time::Duration;

/// What a pool knows of what it is asked to do.
///
/// Time is cut into windows as long as a worker may be idle. What was needed in this one and in the one before counts,
/// so a worker ends when it was not needed for one window, and before it was not for two.
#[derive(Debug)]
pub(super) struct Demand {
    max: usize,
    /// `None`: workers are never idle for too long.
    window: Option<Duration>,
    window_began: Duration,
    most_now: usize,
    most_before: usize,
}

impl Demand {
    /// At first as many are needed as there may be.
    pub(super) fn new(max: usize, idle_timeout: Option<Duration>) -> Self {
        Self { max, window: idle_timeout, window_began: Duration::ZERO, most_now: max, most_before: max }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns whether what is submitted changes anything.
    pub(super) fn is_elastic(&self) -> bool {
        self.window.is_some()
    }

    /// Allows so many. They are all started: that is what was asked for.
    pub(super) fn resize(&mut self, max: usize) {
        (self.max, self.most_now) = (max, max);
    }

    /// Returns how many are needed, with so many tasks in flight.
    pub(super) fn needed(&mut self, now: Duration, in_flight: usize) -> usize {
        let Some(window) = self.window else { return self.max };
        let since = now.saturating_sub(self.window_began);
        if since >= window {
            self.most_before = if since < window * 2 { self.most_now } else { in_flight };
            (self.most_now, self.window_began) = (in_flight, now);
        }
        self.most_now = self.most_now.max(in_flight);
        self.most_now.max(self.most_before).min(self.max)
    }

    /// Returns when fewer may be needed, without anything being submitted.
    pub(super) fn looks_again_at(&self) -> Option<Duration> {
        let window = self.window?;
        (self.most_now.max(self.most_before) > 0).then(|| self.window_began + window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_not_needed_for_a_window_ends_within_two() {
        let mut demand = Demand::new(4, Some(s(10)));
        assert_eq!(demand.needed(s(0), 0), 4);
        assert_eq!(demand.needed(s(10), 1), 4, "a window is over, and nobody knows how much of it they were idle");
        assert_eq!((demand.needed(s(20), 1), demand.needed(s(21), 0)), (1, 1));
        assert_eq!(demand.needed(s(22), 3), 3, "they come back at once");
        assert_eq!((demand.needed(s(30), 0), demand.needed(s(39), 0), demand.needed(s(40), 0)), (3, 3, 0));
        assert_eq!(demand.looks_again_at(), None, "there is nothing to be less than");
    }

    #[test]
    fn without_a_time_all_are_needed_always() {
        let mut demand = Demand::new(3, None);
        assert_eq!((demand.needed(s(0), 0), demand.needed(s(9_999), 0)), (3, 3));
        demand.resize(5);
        assert_eq!((demand.needed(s(9_999), 0), demand.looks_again_at()), (5, None));
    }

    proptest! {
        #[test]
        fn there_are_enough_and_never_too_many(looks in proptest::collection::vec((0_u64..30, 0_usize..20), 1..60)) {
            let mut demand = Demand::new(8, Some(s(10)));
            let mut now = 0;
            let mut past: Vec<(u64, usize)> = Vec::new();
            for (wait, in_flight) in looks {
                now += wait;
                past.push((now, in_flight));
                let needed = demand.needed(s(now), in_flight);
                prop_assert!(needed >= in_flight.min(8), "as many as there are tasks");
                prop_assert!(needed <= 8);
                // What was seen within one window counts.
                let lately = past.iter().filter(|(at, _)| at + 10 > now).map(|(_, n)| *n).max().unwrap_or(0);
                prop_assert!(needed >= lately.min(8), "{} needed, {} lately", needed, lately);
            }
        }
    }
}
