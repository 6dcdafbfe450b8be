//! A clock that goes on while the machine sleeps.
//!
//! Time is tokio's, so that a simulation can have its own. On Linux that stands still in a suspend, so how long the machine has
//! slept is read beside it. Where that cannot be read, it has never slept.

use std::time::Duration;

use tokio::time::Instant;

/// Shorter sleeps are not told from the moment between two looks at the system's clocks.
const SLEEP_MIN: Duration = Duration::from_millis(100);

/// What one looks at. A test has one of its own, and need not put the machine to sleep.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// Returns how long the machine has slept since it was started.
    slept: fn() -> Duration,
}

/// A moment by it.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// The same by the clock that timers go by.
    pub(crate) at: Instant,
    slept: Duration,
}

impl Clock {
    /// This machine's.
    pub(crate) const SYSTEM: Self = Self { slept: system_slept };

    /// Makes one of a machine that has slept for as long as `slept` says.
    #[cfg(test)]
    pub(crate) fn of(slept: fn() -> Duration) -> Self {
        Self { slept }
    }

    pub(crate) fn now(self) -> Reading {
        Reading { at: Instant::now(), slept: (self.slept)() }
    }
}

impl Reading {
    /// Returns how long it is since an earlier moment, with what was slept through.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let slept = self.slept.saturating_sub(earlier.slept);
        let awake = self.at.saturating_duration_since(earlier.at);
        if slept < SLEEP_MIN { awake } else { awake + slept }
    }
}

/// By how much more time has passed than the machine was awake for.
#[cfg(target_os = "linux")]
fn system_slept() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let [awake, passed] = [ClockId::Monotonic, ClockId::Boottime]
        .map(|clock| Duration::try_from(clock_gettime(clock)).expect("they count from when the machine was started"));
    passed.saturating_sub(awake)
}

#[cfg(not(target_os = "linux"))]
fn system_slept() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_slept_through_counts_and_a_moment_between_two_looks_does_not() {
        thread_local!(static SLEPT: Cell<Duration> = const { Cell::new(Duration::from_secs(7)) });
        let clock = Clock::of(|| SLEPT.get());
        let began = clock.now();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now().since(began), Duration::from_secs(2));
        SLEPT.set(Duration::from_millis(7_099));
        assert_eq!(clock.now().since(began), Duration::from_secs(2));
        SLEPT.set(Duration::from_secs(3_607));
        assert_eq!(clock.now().since(began), Duration::from_secs(3_602));
        SLEPT.set(Duration::ZERO);
        assert_eq!(clock.now().since(began), Duration::from_secs(2), "it never goes back");
    }

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let (wall, began) = (std::time::Instant::now(), Clock::SYSTEM.now());
        std::thread::sleep(Duration::from_millis(20));
        let (passed, all) = (Clock::SYSTEM.now().since(began), wall.elapsed());
        assert!(passed >= Duration::from_millis(20) && passed <= all, "{passed:?} of {all:?}");
    }
}
