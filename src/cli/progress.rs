//! What is said while something takes longer than a second.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Client;

/// When it is said first, and how often from then on.
const FIRST: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(5);

/// Waits for something, and has it said what is waited for while that takes long.
pub(crate) async fn slowly<T>(work: impl Future<Output = T>, mut say: impl AsyncFnMut(Duration)) -> T {
    let began = Instant::now();
    let mut ticks = interval_at(began + FIRST, AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {}
        }
        // What is to be said may have to be asked for.
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = say(began.elapsed()) => {}
        }
    }
}

/// Says what the end of a cluster waits for, that finishes what is pending.
pub(crate) async fn unfinished(client: &Client) -> String {
    let Ok(status) = client.queue_status().await else { return "the cluster ends".into() };
    let (tasks, them) = match status.pending {
        1 => ("1 task is pending".into(), "it"),
        n => (format!("{n} tasks are pending"), "them"),
    };
    match status.engines.len() {
        0 => format!("{tasks}, and there is no engine to run {them}; one is waited for"),
        1 => format!("{tasks}, and there is 1 engine"),
        n => format!("{tasks}, and there are {n} engines"),
    }
}
