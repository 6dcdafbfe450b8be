//! `channel_pingpong`: a word to another thread and back over two channels, the least that any system must do
//! that runs a call on another thread.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Fallible, pin};

/// The name it has in the report.
pub(super) const NAME: &str = "channel_pingpong";

/// Where its two threads run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// Where the operating system puts them.
    Anywhere,
    /// Each on its own processor.
    Pinned([usize; 2]),
}

impl Ends {
    pub(super) fn are_pinned(self) -> bool {
        matches!(self, Self::Pinned(_))
    }

    /// Moves the calling thread to where this end belongs.
    pub(super) fn take_place(self, end: usize) -> Fallible<()> {
        match self {
            Self::Anywhere => Ok(()),
            Self::Pinned(on) => pin::pin_to(on[end]),
        }
    }
}

/// Measures round trips, one at a time. Pins the calling thread, for good.
pub(super) fn times(ends: Ends, warm_up: usize, trips: usize) -> Fallible<Vec<Duration>> {
    let (ping, pings) = channel();
    let (pong, pongs) = channel();
    ends.take_place(0)?;
    std::thread::scope(|scope| {
        let far_end = scope.spawn(move || {
            ends.take_place(1)?;
            echo(&pings, &pong)
        });
        let times = (0..warm_up + trips).map(|_| round_trip(&ping, &pongs)).skip(warm_up).collect();
        // The far end leaves when nobody can send any more.
        drop(ping);
        far_end.join().unwrap_or_else(|_| Err("the far end panicked".into()))?;
        times
    })
}

fn round_trip(ping: &Sender<()>, pongs: &Receiver<()>) -> Fallible<Duration> {
    let start = Instant::now();
    ping.send(())?;
    pongs.recv()?;
    Ok(start.elapsed())
}

fn echo(pings: &Receiver<()>, pong: &Sender<()>) -> Fallible<()> {
    while pings.recv().is_ok() {
        pong.send(())?;
    }
    Ok(())
}
