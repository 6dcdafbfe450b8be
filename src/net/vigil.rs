//! Whether this process, or its machine, stood still: then it blames nobody for not having been there.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::clock::{Clock, Reading};

/// How often it is looked whether we are awake.
const TICK: Duration = Duration::from_millis(250);

/// A tick that is so late was not one.
const LATE: Duration = Duration::from_secs(1);

/// For how long after that we are said to have slept: a peer that dialled in vain meanwhile comes within this time.
const LATELY: Duration = Duration::from_secs(10);

/// Looks whether we are awake.
pub(super) struct Vigil {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    ticked: Reading,
    woke: Option<Reading>,
}

impl Vigil {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State { ticked: clock.now(), woke: None }) }
    }

    /// Looks, for as long as this is polled.
    pub(super) async fn keep(&self) {
        self.state.lock().ticked = self.clock.now();
        loop {
            sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(&self) {
        let (mut state, now) = (self.state.lock(), self.clock.now());
        if now.since(state.ticked) > LATE {
            state.woke = Some(now);
        }
        state.ticked = now;
    }

    /// Returns whether we stood still lately.
    pub(super) fn slept_lately(&self) -> bool {
        // The next tick may be due, and was not made.
        self.tick();
        self.state.lock().woke.is_some_and(|woke| self.clock.now().since(woke) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_knows_it_for_a_while() {
        let vigil = Vigil::new(Clock::SYSTEM);
        let keeping = async {
            tokio::time::timeout(Duration::from_secs(5), vigil.keep()).await.unwrap_err();
        };
        keeping.await;
        assert!(!vigil.slept_lately());
        // Nobody looks meanwhile.
        sleep(Duration::from_secs(2)).await;
        assert!(vigil.slept_lately());
        for _ in 0..39 {
            sleep(TICK).await;
            assert!(vigil.slept_lately());
        }
        sleep(TICK).await;
        sleep(TICK).await;
        assert!(!vigil.slept_lately());
    }

    #[tokio::test(start_paused = true)]
    async fn who_slept_with_its_machine_knows_it_for_a_while() {
        thread_local!(static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        let vigil = Vigil::new(Clock::of(|| SLEPT.get()));
        sleep(TICK).await;
        assert!(!vigil.slept_lately());
        // No timer notices: they stand still meanwhile.
        SLEPT.set(Duration::from_secs(3_600));
        assert!(vigil.slept_lately());
        let keeping = async {
            tokio::time::timeout(LATELY - TICK, vigil.keep()).await.unwrap_err();
        };
        keeping.await;
        assert!(vigil.slept_lately());
        sleep(TICK).await;
        assert!(!vigil.slept_lately());
    }
}
