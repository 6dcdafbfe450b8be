//! How long to wait before another attempt. Pure.

use std::time::Duration;

/// How long to wait before another attempt: twice as long each time, up to a maximum, and then a random part less, so that those
/// that failed together do not come back together.
///
/// ```
/// use callboard::executors::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1)).jitter(0.0);
/// assert_eq!(backoff.wait(1, 0.7), Duration::from_millis(10));
/// assert_eq!(backoff.wait(4, 0.7), Duration::from_millis(80));
/// assert_eq!(backoff.wait(99, 0.7), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    /// Which part of the wait is random, from 0 to 1.
    jitter: f64,
}

impl Backoff {
    /// None: the next attempt is made at once.
    pub const NONE: Self = Self { first: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 };

    /// Waits `first` before the second attempt, twice as long before the third, and so on up to `max`. Half of it is random.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, jitter: 0.5 }
    }

    /// Sets which part of the wait is random, from 0 to 1.
    pub fn jitter(mut self, part: f64) -> Self {
        // Of what is no number, none is.
        self.jitter = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
        self
    }

    /// Returns how long to wait before the `retry`th attempt after the first, for a random number from 0 to 1.
    pub fn wait(&self, retry: u32, random: f64) -> Duration {
        let doublings = retry.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.max);
        let part = 1.0 - self.jitter * random.clamp(0.0, 1.0);
        // What is too long for a product is too long to be shortened.
        Duration::try_from_secs_f64(wait.as_secs_f64() * part).unwrap_or(wait).min(wait)
    }
}

impl Default for Backoff {
    /// From 10 ms up to 1 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_between_its_random_part_less_and_the_whole(
            first in 0_u64..10_000_000, max in 0_u64..100_000_000, part in -1.0..2.0, retry in 0_u32..200, random in 0.0..1.0,
        ) {
            let (first, max) = (Duration::from_micros(first), Duration::from_micros(max));
            let backoff = Backoff::new(first, max).jitter(part);
            let whole = Backoff::new(first, max).jitter(0.0);
            let (wait, most) = (backoff.wait(retry, random), whole.wait(retry, random));
            let slack = Duration::from_micros(1);
            prop_assert!(wait <= most + slack && most <= max);
            prop_assert!(wait + slack >= most.mul_f64(1.0 - part.clamp(0.0, 1.0)));
            prop_assert!(whole.wait(retry, random) <= whole.wait(retry + 1, random), "it never grows shorter");
            prop_assert!(retry > 1 || most == first.min(max));
        }
    }

    #[test]
    fn no_number_is_too_large() {
        let backoff = Backoff::new(Duration::MAX, Duration::MAX).jitter(f64::NAN);
        assert_eq!(backoff.wait(u32::MAX, f64::NAN.max(0.0)), Duration::MAX);
        assert_eq!(Backoff::NONE.wait(7, 0.5), Duration::ZERO);
    }
}
