//! What has died of a launch is started again: by a thread that looks, until the launch ends.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::launcher::{JobState, LaunchedJob};
use super::launches::Launch;
use crate::error::Error;
use crate::limits::Limits;
use crate::process::{Died, Restarts};

/// How often one looks for what has died.
const LOOK: Duration = Duration::from_millis(50);

/// What ran for less has died at once: it may be the program, or its first task.
const OF_USE: Duration = Duration::from_secs(1);

/// How long until what could not be started is tried again: there may be no room now.
const RETRY: Duration = Duration::from_secs(1);

/// Begins to look after a launch.
pub(super) fn begin(launch: &Arc<Launch>, limits: &Limits) -> Result<(), Error> {
    let mut places: Vec<_> = launch.jobs().iter().map(|_| Place::new(limits)).collect();
    let (launch, began) = (Arc::downgrade(launch), Instant::now());
    let look = move || {
        // Not held while nothing is done: it ends with whoever has it.
        while launch.upgrade().is_some_and(|launch| launch.start_again(&mut places, began.elapsed())) {
            thread::sleep(LOOK);
        }
    };
    let started = thread::Builder::new().name("cb-launch-again".into()).spawn(look);
    started.map(drop).map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })
}

/// What is known of the starts of one process or job.
pub(super) struct Place {
    restarts: Restarts,
    /// When the one that is there was started.
    started: Duration,
    next: Next,
    /// Why it could not be started last.
    refused: Option<String>,
}

/// When it is started again, once it has died.
enum Next {
    /// That is to be found out when it has.
    Open,
    At(Duration),
    Never,
}

impl Place {
    fn new(limits: &Limits) -> Self {
        Self { restarts: limits.engine_restarts(), started: Duration::ZERO, next: Next::Open, refused: None }
    }

    /// Starts again what has died, if it is time to.
    pub(super) fn start_again(&mut self, died: &dyn LaunchedJob, now: Duration) -> Option<Arc<dyn LaunchedJob>> {
        let at = match self.next {
            Next::Open => self.when(died, now)?,
            Next::At(at) => at,
            Next::Never => return None,
        };
        self.next = Next::At(at);
        if now < at {
            return None;
        }
        match died.again() {
            Ok(again) => {
                tracing::warn!(job = died.name(), cause = cause(died), "it has died, and is started again");
                (self.started, self.next, self.refused) = (now, Next::Open, None);
                Some(again.into())
            }
            Err(error) => {
                let error = error.to_string();
                if self.refused.as_ref() != Some(&error) {
                    tracing::warn!(
                        job = died.name(),
                        error,
                        "it has died, and is started again as soon as that can be"
                    );
                }
                (self.next, self.refused) = (Next::At(now + RETRY), Some(error));
                None
            }
        }
    }

    /// Finds out when what has died is started again; `None` if never.
    fn when(&mut self, died: &dyn LaunchedJob, now: Duration) -> Option<Duration> {
        let how = if now.saturating_sub(self.started) < OF_USE { Died::AtOnce } else { Died::AfterWork };
        let wait = self.restarts.next(now, how);
        if wait.is_none() {
            tracing::error!(job = died.name(), cause = cause(died), "it has died too often, and is not started again");
            self.next = Next::Never;
        }
        wait.map(|wait| now + wait)
    }
}

fn cause(died: &dyn LaunchedJob) -> Box<str> {
    match died.state() {
        JobState::Ended { cause } => cause,
        JobState::Running | JobState::Waiting { .. } => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::launchers::JobOutput;

    /// Has always died; its place is taken the so many times that are allowed.
    struct Dies(Arc<AtomicUsize>);

    impl LaunchedJob for Dies {
        fn name(&self) -> String {
            "one that dies".into()
        }
        fn engines(&self) -> usize {
            1
        }
        fn state(&self) -> JobState {
            JobState::Ended { cause: "as ever".into() }
        }
        fn output(&self) -> JobOutput {
            JobOutput::default()
        }
        fn leave(&self) {}
        fn kill(&self) {}
        fn has_died(&self) -> Option<bool> {
            Some(true)
        }
        fn again(&self) -> Result<Box<dyn LaunchedJob>, Error> {
            let left = self.0.load(Ordering::Relaxed);
            if left == 0 {
                return Err(Error::Launch { by: "a test".into(), problem: "no room".into() });
            }
            self.0.store(left - 1, Ordering::Relaxed);
            Ok(Box::new(Dies(self.0.clone())))
        }
    }

    /// When one that always dies at once is started again within ten minutes, in milliseconds.
    fn starts(allowed: usize) -> Vec<u64> {
        let (mut place, job) = (Place::new(&Limits::default()), Dies(Arc::new(AtomicUsize::new(allowed))));
        let looks = (0..600_000).step_by(50);
        looks.filter(|&ms| place.start_again(&job, Duration::from_millis(ms)).is_some()).collect()
    }

    #[test]
    fn what_dies_at_once_is_started_after_longer_and_longer_and_not_for_ever() {
        // Each look finds it dead: the pauses are 0, 50, 100, 200 and 400 ms, counted from a look to the next.
        assert_eq!(starts(100), [0, 100, 250, 500, 950]);
    }

    #[test]
    fn what_finds_no_room_is_tried_again_each_second_and_that_is_no_start() {
        let (mut place, room) = (Place::new(&Limits::default()), Arc::new(AtomicUsize::new(0)));
        let job = Dies(room.clone());
        for s in 0..60 {
            assert!(place.start_again(&job, Duration::from_secs(s)).is_none());
        }
        room.store(1, Ordering::Relaxed);
        assert!(place.start_again(&job, Duration::from_secs(60)).is_some());
    }
}
