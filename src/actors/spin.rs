//! How long an idle thread looks for work before it sleeps.
//!
//! Waking a thread on another processor costs 30 us and more, giving the processor away and getting it back
//! half a microsecond. So whoever just had work looks for more for a while, and lets others run in between.
//! Where the processors are busy with somebody else's work, looking is given up at once: a thread that
//! sleeps is woken sooner than one that waits for its turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long one who waits looks, and until when he does this time.
#[derive(Debug)]
pub(crate) struct Spin {
    patience: Duration,
    until: Option<Instant>,
}

/// Giving the processor away takes half a microsecond where nobody wants it, and a few where others look
/// for work too. More than this means that somebody computes.
const CONTENDED: Duration = Duration::from_micros(100);

/// Less than any lap of an arbiter over its actors that gives the processor away.
const LAP: Duration = Duration::from_nanos(300);

/// How long a thread does not look once it saw the processors contended.
const RESPITE: Duration = Duration::from_millis(5);

thread_local! {
    /// When this thread last gave its processor away.
    static LAST_YIELD: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Before when this thread does not look.
    static RESPITE_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Spin {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, until: None }
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
            None if RESPITE_ENDS.get().is_some_and(|end| now < end) => return false,
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
            RESPITE_ENDS.set(Some(after + RESPITE));
            return false;
        }
        true
    }
}
