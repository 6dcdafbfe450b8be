//! How long an idle thread looks for work before it sleeps.
//!
//! Waking a thread on another processor costs 30 us and more, giving the processor away and getting it back
//! half a microsecond. So whoever just had work looks for more for a while, and lets others run in between.
//! Where the processors are busy with somebody else's work, looking is given up at once: a thread that
//! sleeps is woken sooner than one that waits for its turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// One thread's patience.
#[derive(Debug)]
pub(crate) struct Spin {
    patience: Duration,
    until: Option<Instant>,
    /// While the processors are contended: do not look before this.
    not_before: Option<Instant>,
}

/// Giving the processor away takes half a microsecond where nobody wants it, and a few where others look
/// for work too. More than this means that somebody computes.
const CONTENDED: Duration = Duration::from_micros(100);

/// Less than any lap of an arbiter over its actors that gives the processor away.
const LAP: Duration = Duration::from_nanos(300);

thread_local! {
    static LAST_YIELD: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long looking is given up once the processors were seen contended.
const RESPITE: Duration = Duration::from_millis(5);

impl Spin {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, until: None, not_before: None }
    }

    /// Starts the time anew: there was work.
    pub(crate) fn reset(&mut self) {
        self.until = None;
    }

    /// Lets other threads run, then returns true to look again, or false to go to sleep.
    pub(crate) fn again(&mut self) -> bool {
        let now = Instant::now();
        let until = match self.until {
            Some(until) => until,
            None if self.not_before.is_some_and(|time| now < time) => return false,
            None => *self.until.insert(now + self.patience),
        };
        if now >= until {
            self.until = None;
            return false;
        }
        // One turn a lap is enough where several look on one thread, as the lanes of one arbiter do.
        if LAST_YIELD.get().is_some_and(|last| now.duration_since(last) < LAP) {
            return true;
        }
        std::thread::yield_now();
        let after = Instant::now();
        LAST_YIELD.set(Some(after));
        if after.duration_since(now) > CONTENDED {
            self.until = None;
            self.not_before = Some(now + RESPITE);
            return false;
        }
        true
    }
}
