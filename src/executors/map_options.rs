//! What may be asked of a `map` beside its items.

use std::time::{Duration, Instant};

use super::Executor;
use super::feed::{HandOver, Plan};
use crate::error::Error;
use crate::limits::{MAP_AHEAD, MAP_BATCH_MAX};

/// Options of [`map_with`](super::ExecutorExt::map_with); those of `concurrent.futures.Executor.map`.
///
/// ```
/// use callboard::{MapOptions, ThreadPoolExecutor, prelude::*};
/// use std::time::Duration;
/// # #[task] fn square(x: u64) -> u64 { x * x }
/// let ex = ThreadPoolExecutor::new(2)?;
/// let options = MapOptions::new().timeout(Duration::from_secs(60)).chunksize(2).buffersize(8);
/// let squares: Vec<u64> = ex.map_with(options, square, 1..).unwrap().take(3).collect::<Result<_, _>>()?;
/// assert_eq!(squares, [1, 4, 9]);
/// assert!(ex.map_with(MapOptions::new().buffersize(0), square, 1..).is_err());
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct MapOptions {
    timeout: Option<Duration>,
    chunksize: Option<usize>,
    buffersize: Option<usize>,
}

impl MapOptions {
    /// Makes the options of a plain `map`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the whole `map` may take, counted from its call.
    ///
    /// The first outcome that is not there by then is `TaskError::TimedOut`, and the last: that item and all
    /// after it are cancelled. (Python leaves those that run.) Outcomes that are there are still read.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how many items are handed over together. By default they are handed over as they come.
    ///
    /// With threads, too: Python has it for processes only.
    pub fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// Sets how many items may be submitted and not yet read, at most: also while the next is waited for, where
    /// Python has one more. Items are counted, not chunks; a chunk is never larger than this.
    pub fn buffersize(mut self, items: usize) -> Self {
        self.buffersize = Some(items);
        self
    }

    /// Settles what the options leave open.
    pub(super) fn plan(self, executor: &(impl Executor + ?Sized)) -> Result<Plan, Error> {
        if self.chunksize == Some(0) {
            return Err(Error::Zero { what: "chunksize" });
        }
        if self.buffersize == Some(0) {
            return Err(Error::Zero { what: "buffersize" });
        }
        // Two for each worker at least: one that runs, one that is next.
        let ahead = self.buffersize.unwrap_or(MAP_AHEAD.max(executor.max_workers().saturating_mul(2)));
        let ahead = ahead.min(executor.pending_max()).max(1);
        let hand_over = match self.chunksize {
            // A larger chunk than the look-ahead could never be handed over.
            Some(chunk) => HandOver::Together(chunk.min(ahead)),
            None => HandOver::AsTheyCome { refill: (ahead / 8).clamp(1, MAP_BATCH_MAX) },
        };
        // A deadline beyond the end of time is none.
        let deadline = self.timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        Ok(Plan { ahead, bytes_ahead: executor.pending_bytes_max(), hand_over, deadline })
    }
}
