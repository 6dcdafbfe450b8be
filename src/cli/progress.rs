//! What is said while something takes longer than a second.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// When it is said first, and how often from then on.
const FIRST: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(5);

/// Waits for something, and has it said what is waited for while that takes long.
pub(crate) async fn slowly<T>(work: impl Future<Output = T>, mut say: impl FnMut(Duration)) -> T {
    let began = Instant::now();
    let mut ticks = interval_at(began + FIRST, AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => say(began.elapsed()),
        }
    }
}
