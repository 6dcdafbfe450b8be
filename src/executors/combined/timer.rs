//! What is to happen later: one thread of the whole process, started when there is something and ended when there is nothing.
//!
//! Bound: an entry for each task that has a time limit or waits for another attempt, which its executor counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::catch;

type Job = Box<dyn FnOnce() + Send>;

/// When, and the how-manieth.
type Key = (Instant, u64);

struct State {
    jobs: BTreeMap<Key, Job>,
    next: u64,
    has_thread: bool,
}

static STATE: Mutex<State> = Mutex::new(State { jobs: BTreeMap::new(), next: 0, has_thread: false });
static CHANGED: Condvar = Condvar::new();

/// How long the thread waits for something to come before it ends.
const LINGER: Duration = Duration::from_millis(500);

/// How often it looks whether what it waits for was called off.
const LOOK: Duration = Duration::from_secs(1);

/// Something that happens later, unless this is dropped before.
#[must_use = "dropping it is calling it off"]
pub(super) struct Alarm(Option<Key>);

impl Alarm {
    /// Lets it happen although nobody keeps this.
    pub(super) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            let job = STATE.lock().jobs.remove(&key);
            // Outside the lock: what it holds may come back here.
            drop(job);
        }
    }
}

/// Does something after so long. It must not block, nor run code of the user's.
pub(super) fn after(wait: Duration, job: impl FnOnce() + Send + 'static) -> Alarm {
    // Beyond the end of time is never.
    let Some(at) = Instant::now().checked_add(wait) else { return Alarm(None) };
    let mut state = STATE.lock();
    let key = (at, state.next);
    state.next += 1;
    state.jobs.insert(key, Box::new(job));
    let is_first = state.jobs.first_key_value().is_some_and(|(first, _)| *first == key);
    if !state.has_thread {
        state.has_thread = true;
        if let Err(error) = std::thread::Builder::new().name("cb-timer".into()).spawn(work) {
            // Whoever comes next tries again.
            state.has_thread = false;
            tracing::error!(%error, "no thread for what is to happen later");
        }
    } else if is_first {
        CHANGED.notify_one();
    }
    Alarm(Some(key))
}

fn work() {
    let mut state = STATE.lock();
    loop {
        let now = Instant::now();
        match state.jobs.first_key_value().map(|((at, _), _)| *at) {
            Some(at) if at <= now => {
                let job = state.jobs.pop_first();
                drop(state);
                if let Some((_, job)) = job
                    && let Err(message) = catch::user_code(job)
                {
                    tracing::warn!(%message, "an executor panicked");
                }
                state = STATE.lock();
            }
            // What is called off wakes nobody, so it looks whether there is anything left.
            Some(at) => drop(CHANGED.wait_until(&mut state, at.min(now + LOOK))),
            None if CHANGED.wait_for(&mut state, LINGER).timed_out() && state.jobs.is_empty() => {
                state.has_thread = false;
                return;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_due_first_happens_first_and_what_was_called_off_does_not() {
        let (tell, told) = mpsc::channel();
        let at = |ms: u64| {
            let tell = tell.clone();
            after(Duration::from_millis(ms), move || tell.send(ms).expect("the test listens"))
        };
        let alarms = [at(60), at(20), at(0), at(40)];
        drop(at(30));
        at(50).leave();
        let never = after(Duration::MAX, || panic!("never"));
        let order: Vec<u64> = (0..5).map(|_| told.recv_timeout(Duration::from_secs(20)).expect("it comes")).collect();
        assert_eq!(order, [0, 20, 40, 50, 60]);
        drop((alarms, never));
        after(Duration::ZERO, || panic!("one that panics holds up nobody")).leave();
        let _alarm = at(1);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(1));
    }
}
