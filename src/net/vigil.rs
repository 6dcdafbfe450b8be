//! Whether this process, or its machine, stood still: then it blames nobody for not having been there.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How often it is looked whether we are awake.
const TICK: Duration = Duration::from_millis(250);

/// A tick that is so late was not one.
const LATE: Duration = Duration::from_secs(1);

/// For how long after that we are said to have slept: a peer that dialled in vain meanwhile comes within this time.
const LATELY: Duration = Duration::from_secs(10);

/// Looks whether we are awake.
pub(super) struct Vigil(Mutex<State>);

struct State {
    ticked: Instant,
    woke: Option<Instant>,
}

impl Vigil {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { ticked: Instant::now(), woke: None }))
    }

    /// Looks, for as long as this is polled.
    pub(super) async fn keep(&self) {
        self.0.lock().ticked = Instant::now();
        loop {
            sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(&self) {
        let (mut state, now) = (self.0.lock(), Instant::now());
        if now - state.ticked > LATE {
            state.woke = Some(now);
        }
        state.ticked = now;
    }

    /// Returns whether we stood still lately.
    pub(super) fn slept_lately(&self) -> bool {
        // The next tick may be due, and was not made.
        self.tick();
        self.0.lock().woke.is_some_and(|woke| woke.elapsed() < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_knows_it_for_a_while() {
        let vigil = Vigil::new();
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
}
