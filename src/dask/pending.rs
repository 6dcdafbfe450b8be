//! Which task is where: with the bridge or on its way there. Outcomes and cancels meet here, and the first one counts.

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::entry::{Again, Entry, Next};
use super::report::{About, Report};
use crate::admission::Place;
use crate::async_result::OnCancel;
use crate::error::{Coded, TaskError};
use crate::executors::Job;
use crate::messages::Manner;
use crate::task::{Attempt, EngineId, Outcome, TaskId};

/// What is to be said to the bridge, in this order.
pub(super) enum Say {
    /// A task is to be submitted, if it is still wanted.
    Call(u64),
    /// A task that was submitted is to be given up.
    Cancel(u64, Manner),
    /// Whether all of that is done.
    Ask(u64),
    /// Engines that dial are to leave.
    Leave,
    /// Engines that dial are to be killed.
    KillEngines,
    /// Nothing comes any more.
    Finish,
}

/// The tasks that have no outcome. A task's number is its id's.
pub(super) struct Pending {
    state: Mutex<State>,
    say: Sender<Say>,
    on_cancel: OnCancel,
    again: Again,
}

#[derive(Default)]
struct State {
    tasks: HashMap<u64, Entry>,
    /// Who asked the bridge, by number.
    asked: HashMap<u64, oneshot::Sender<()>>,
    questions: u64,
    /// Why the bridge is gone.
    lost: Option<Box<str>>,
}

impl Pending {
    pub(super) fn new(say: Sender<Say>, again: Again) -> Arc<Self> {
        Arc::new_cyclic(|pending: &Weak<Self>| {
            let pending = pending.clone();
            let on_cancel: OnCancel = Arc::new(move |task: TaskId, reason, manner| {
                if let Some(pending) = pending.upgrade() {
                    pending.cancel(task.seq, reason, manner);
                }
            });
            Self { state: Mutex::default(), say, on_cancel, again }
        })
    }

    /// Takes a job, and has it submitted.
    pub(super) fn take(&self, job: Job, place: Place) {
        let (seq, job) = (job.id().seq, Arc::new(job));
        let mut state = self.state.lock();
        if let Some(cause) = state.lost.clone() {
            drop(state);
            drop(place);
            job.give(Err(TaskError::ExecutorLost { cause }));
            return;
        }
        state.tasks.insert(seq, Entry::new(job.clone(), place, self.again));
        drop(state);
        // Not the other way round: what is cancelled from here on is found in the table.
        if !job.on_cancel(self.on_cancel.clone()) {
            // It was cancelled before there was anybody to be asked: it settles by that, and is only to be forgotten.
            drop(self.remove(seq));
            return;
        }
        self.say(Say::Call(seq));
    }

    /// Says something to the bridge. Where that is gone, its end settles everything.
    pub(super) fn say(&self, what: Say) {
        let _ = self.say.send(what);
    }

    /// Returns a task that is to be submitted, if it is still wanted; where it was submitted before, with its call.
    pub(super) fn to_send(&self, seq: u64) -> Option<(Arc<Job>, Option<Bytes>)> {
        self.state.lock().tasks.get(&seq).map(|entry| (entry.job.clone(), entry.copy.clone()))
    }

    /// Notes that a task is about to be submitted, by this call; returns as which attempt, if it is still wanted.
    pub(super) fn on_sent(&self, seq: u64, call: &Bytes) -> Option<Attempt> {
        self.state.lock().tasks.get_mut(&seq).map(|entry| entry.on_sent(call))
    }

    /// Gives a task up: at once if it was not submitted, else when no worker begins it any more.
    fn cancel(&self, seq: u64, reason: Box<str>, manner: Manner) {
        let mut state = self.state.lock();
        let Some(entry) = state.tasks.get_mut(&seq) else {
            drop(state);
            if manner == Manner::Force {
                // It was cancelled before, and may run on.
                self.say(Say::Cancel(seq, manner));
            }
            return;
        };
        if !entry.is_sent {
            let entry = state.tasks.remove(&seq);
            drop(state);
            entry.into_iter().for_each(|entry| entry.settle(Err(TaskError::Cancelled { reason: reason.clone() })));
            return;
        }
        // Asked once, and once more if it is to be ended by force after all.
        let is_news =
            entry.cancelled.as_ref().is_none_or(|(_, before)| (*before, manner) == (Manner::Ask, Manner::Force));
        let reason = entry.cancelled.take().map_or(reason, |(reason, _)| reason);
        entry.cancelled = Some((reason, manner));
        drop(state);
        if is_news {
            self.say(Say::Cancel(seq, manner));
        }
    }

    /// No worker begins these any more.
    pub(super) fn on_cancelled(&self, seq: u64) {
        if let Some(entry) = self.remove(seq) {
            entry.settle(Err(TaskError::Disconnected));
        }
    }

    /// A task that was submitted as this attempt has begun, in this process.
    pub(super) fn on_running(&self, seq: u64, attempt: Attempt, pid: u32) {
        // Under the lock: of an outcome that comes next the moment is better known.
        if let Some(entry) = self.state.lock().tasks.get_mut(&seq) {
            entry.on_running(attempt, pid);
        }
    }

    /// A task has ended, as its engine reports.
    pub(super) fn on_report(&self, seq: u64, report: &[u8]) {
        let Some(mut entry) = self.remove(seq) else { return };
        let outcome = match postcard::from_bytes::<Report>(report) {
            Ok(report) => {
                let attempt = entry.on_end(report.pid, Some(report.ran));
                report.into_outcome(About { task: entry.job.id(), kind: entry.job.kind(), attempt })
            }
            Err(error) => Err(TaskError::undecodable(Coded::Result, entry.job.kind().name, &error.to_string())),
        };
        entry.settle(outcome);
    }

    /// The engine has ended that made a call, or could not be started: has the task submitted again if it may be, else settles it.
    pub(super) fn on_engine_lost(&self, seq: u64, pid: u32, cause: &str) {
        let mut state = self.state.lock();
        let Some(entry) = state.tasks.get_mut(&seq) else { return };
        let (attempt, next) = entry.on_engine_lost(pid);
        let settled = if next == Next::Again { None } else { state.tasks.remove(&seq) };
        drop(state);
        match settled {
            Some(entry) => {
                let error = TaskError::EngineLost { engine: EngineId(pid), attempt, cause: cause.into() };
                entry.settle(Err(error));
            }
            None => self.say(Say::Call(seq)),
        }
    }

    /// Dask has given a task up.
    pub(super) fn on_given_up(&self, seq: u64, cause: &str) {
        if let Some(entry) = self.remove(seq) {
            entry.settle(Err(TaskError::ExecutorLost { cause: cause.into() }));
        }
    }

    /// A task has an outcome that is not the cluster's.
    pub(super) fn settle(&self, seq: u64, outcome: Outcome) {
        if let Some(entry) = self.remove(seq) {
            entry.settle(outcome);
        }
    }

    /// The bridge is gone: settles what it had, and all that comes.
    pub(super) fn lose(&self, cause: &str) {
        let mut state = self.state.lock();
        state.lost = Some(cause.into());
        // Who asked hears of it: the sender is dropped.
        let (tasks, asked) = (std::mem::take(&mut state.tasks), std::mem::take(&mut state.asked));
        drop(state);
        drop(asked);
        for (_, entry) in tasks {
            entry.settle(Err(TaskError::ExecutorLost { cause: cause.into() }));
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().lost.is_some()
    }

    /// Returns why the bridge is gone, if it is.
    pub(super) fn lost(&self) -> Option<Box<str>> {
        self.state.lock().lost.clone()
    }

    /// Asks the bridge; answered when all that was said before is done, or the bridge is gone.
    pub(super) fn ask(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        if state.lost.is_some() {
            return told;
        }
        let number = state.questions;
        state.questions += 1;
        state.asked.insert(number, tell);
        drop(state);
        self.say(Say::Ask(number));
        told
    }

    /// The bridge answers.
    pub(super) fn on_answer(&self, number: u64) {
        if let Some(tell) = self.state.lock().asked.remove(&number) {
            // Who asked may have gone away.
            let _ = tell.send(());
        }
    }

    /// Returns how many tasks have no outcome.
    pub(super) fn len(&self) -> usize {
        self.state.lock().tasks.len()
    }

    fn remove(&self, seq: u64) -> Option<Entry> {
        self.state.lock().tasks.remove(&seq)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Pending {}>", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use super::*;
    use crate::admission::Admission;
    use crate::async_result::Reply;
    use crate::executors::{Call, Executor, ExecutorExt, InFlight};
    use crate::limits::Limits;
    use crate::messages;
    use crate::task::TaskState;

    #[crate::task(name = "pending::square")]
    fn square(x: u64) -> u64 {
        x * x
    }

    /// Gives what it takes to a bridge that only cancels.
    #[derive(Debug)]
    struct Takes {
        pending: Arc<Pending>,
        admission: Arc<Admission>,
        in_flight: InFlight,
        both: Arc<Barrier>,
    }

    impl Executor for Takes {
        fn name(&self) -> &'static str {
            "Takes"
        }

        fn max_workers(&self) -> usize {
            1
        }

        fn execute(&self, calls: Vec<Call<'_>>) {
            for call in calls {
                let place = self.admission.place(call.weight()).unwrap();
                let job = self.in_flight.admit(call).unwrap();
                self.both.wait();
                self.pending.take(job, place);
            }
        }

        fn shutdown(&self, pending: messages::Pending) -> Reply<()> {
            self.in_flight.shutdown(pending)
        }
    }

    #[crate::task(name = "pending::cube", idempotent)]
    fn cube(x: u64) -> u64 {
        x * x * x
    }

    /// Pending tasks of an executor on nobody but this test, and what the bridge is told.
    fn alone(again: Again) -> (Takes, Arc<Pending>, mpsc::Receiver<Say>) {
        let (say, said) = mpsc::channel();
        let pending = Pending::new(say, again);
        let (admission, in_flight) = (Arc::new(Admission::new(&Limits::default())), InFlight::new());
        let ex = Takes { pending: pending.clone(), admission, in_flight, both: Arc::new(Barrier::new(1)) };
        (ex, pending, said)
    }

    /// Submits what is said to be; returns its number and as which attempt.
    fn submit(pending: &Pending, said: &mpsc::Receiver<Say>) -> (u64, Attempt) {
        let Ok(Say::Call(seq)) = said.try_recv() else { panic!("nothing is to be submitted") };
        let (_, copy) = pending.to_send(seq).unwrap();
        let attempt = pending.on_sent(seq, &copy.unwrap_or_else(|| Bytes::from_static(b"call"))).unwrap();
        (seq, attempt)
    }

    #[test]
    fn what_may_run_twice_is_submitted_again_when_its_engine_is_lost() {
        let (ex, pending, said) = alone(Again::AfterLosses);
        let ar = ex.submit(cube(3));
        for attempt in 1..=3 {
            assert_eq!(ar.state().get(), Ok(TaskState::Queued));
            let (seq, submitted_as) = submit(&pending, &said);
            assert_eq!((submitted_as.0, ar.state().get()), (attempt, Ok(TaskState::Sent { engine: None })));
            // Of the engine before it is told late.
            pending.on_running(seq, Attempt(attempt - 1), 40 + attempt - 1);
            assert_eq!(ar.state().get(), Ok(TaskState::Sent { engine: None }));
            if attempt == 2 {
                pending.on_running(seq, submitted_as, 40 + attempt);
                assert_eq!(ar.state().get(), Ok(TaskState::Running { engine: None }));
            }
            pending.on_engine_lost(seq, 40 + attempt, "killed");
        }
        let lost = TaskError::EngineLost { engine: EngineId(43), attempt: Attempt(3), cause: "killed".into() };
        assert_eq!((ar.get(), pending.len()), (Err(lost), 0));
        assert_eq!(ar.metadata().attempt, Attempt(3));
    }

    #[test]
    fn nothing_else_is_submitted_again() {
        let lost_first =
            |ex: &Takes, pending: &Pending, said: &mpsc::Receiver<Say>, pid, ar: crate::AsyncResult<u64>| {
                let (seq, _) = submit(pending, said);
                pending.on_engine_lost(seq, pid, "killed");
                assert!(said.try_recv().is_err(), "{ex:?}");
                ar.get().unwrap_err()
            };
        let lost = |pid, attempt| TaskError::EngineLost {
            engine: EngineId(pid),
            attempt: Attempt(attempt),
            cause: "killed".into(),
        };
        let (ex, pending, said) = alone(Again::AfterLosses);
        assert_eq!(lost_first(&ex, &pending, &said, 41, ex.submit(square(3))), lost(41, 1), "it may not run twice");
        assert_eq!(lost_first(&ex, &pending, &said, 0, ex.submit(cube(3))), lost(0, 0), "no engine could be started");
        let (ex, pending, said) = alone(Again::ByDask);
        assert_eq!(lost_first(&ex, &pending, &said, 41, ex.submit(cube(3))), lost(41, 1), "Dask has counted");

        // What is cancelled: while it runs, and while it waits to be submitted again.
        let (ex, pending, said) = alone(Again::AfterLosses);
        let ar = ex.submit(cube(3));
        let (seq, _) = submit(&pending, &said);
        assert!(ar.cancel("enough"));
        assert!(matches!(said.try_recv(), Ok(Say::Cancel(..))));
        pending.on_engine_lost(seq, 41, "killed");
        assert_eq!(ar.get(), Err(TaskError::Cancelled { reason: "enough".into() }));
        let ar = ex.submit(cube(3));
        let (seq, _) = submit(&pending, &said);
        pending.on_engine_lost(seq, 41, "killed");
        assert!(matches!(said.try_recv(), Ok(Say::Call(again)) if again == seq));
        assert!(ar.cancel("enough"));
        assert_eq!(ar.get(), Err(TaskError::Cancelled { reason: "enough".into() }));
        assert!(pending.to_send(seq).is_none() && said.try_recv().is_err());
    }

    #[test]
    fn what_is_cancelled_while_it_is_taken_settles_as_cancelled() {
        for _ in 0..2_000 {
            let (say, said) = mpsc::channel();
            let (pending, both) = (Pending::new(say, Again::AfterLosses), Arc::new(Barrier::new(2)));
            let (in_flight, cancels) = (InFlight::new(), both.clone());
            let admission = Arc::new(Admission::new(&Limits::default()));
            let ex = Takes { pending: pending.clone(), admission, in_flight: in_flight.clone(), both };
            let cancelling = std::thread::spawn(move || {
                cancels.wait();
                drop(in_flight.shutdown(messages::Pending::Cancel));
            });
            let ar = ex.submit(square(3));
            cancelling.join().unwrap();
            for what in said.try_iter() {
                if let Say::Cancel(seq, _) = what {
                    pending.on_cancelled(seq);
                }
            }
            let told = ar.get();
            assert!(matches!(told, Err(TaskError::Cancelled { .. })), "{told:?}");
            assert_eq!(pending.len(), 0);
        }
    }
}
