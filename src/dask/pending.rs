//! Which task is where: with the bridge or on its way there. Outcomes and cancels meet here, and the first one counts.

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::report::{About, Report};
use crate::admission::Place;
use crate::async_result::OnCancel;
use crate::error::{Coded, TaskError};
use crate::executors::Job;
use crate::messages::Manner;
use crate::task::{Attempt, EngineId, Moment, Outcome, TaskId};

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

struct Entry {
    job: Arc<Job>,
    is_sent: bool,
    /// It is to be given up, and why.
    cancelled: Option<(Box<str>, Manner)>,
    /// The executions that are known to have begun, and the process of the last.
    begun: (u32, u32),
    /// Given back before the outcome: whoever then submits finds room.
    place: Place,
}

impl Pending {
    pub(super) fn new(say: Sender<Say>) -> Arc<Self> {
        Arc::new_cyclic(|pending: &Weak<Self>| {
            let pending = pending.clone();
            let on_cancel: OnCancel = Arc::new(move |task: TaskId, reason, manner| {
                if let Some(pending) = pending.upgrade() {
                    pending.cancel(task.seq, reason, manner);
                }
            });
            Self { state: Mutex::default(), say, on_cancel }
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
        state.tasks.insert(seq, Entry { job: job.clone(), is_sent: false, cancelled: None, begun: (0, 0), place });
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

    /// Returns a task that is to be submitted, if it is still wanted.
    pub(super) fn to_send(&self, seq: u64) -> Option<Arc<Job>> {
        self.state.lock().tasks.get(&seq).map(|entry| entry.job.clone())
    }

    /// Notes that a task is about to be submitted; returns whether it is still wanted.
    pub(super) fn on_sent(&self, seq: u64) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.tasks.get_mut(&seq) else { return false };
        entry.is_sent = true;
        entry.job.on_sent();
        true
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

    /// A task has begun, in this process.
    pub(super) fn on_running(&self, seq: u64, pid: u32) {
        let mut state = self.state.lock();
        let Some(entry) = state.tasks.get_mut(&seq) else { return };
        entry.begun = (entry.begun.0 + 1, pid);
        let (job, attempt) = (entry.job.clone(), entry.begun.0);
        // Under the lock: of an outcome that comes next the moment is better known.
        job.started(Moment::now(), Attempt(attempt));
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

    /// The engine has ended that made a call, or could not be started.
    pub(super) fn on_engine_lost(&self, seq: u64, pid: u32, cause: &str) {
        let Some(mut entry) = self.remove(seq) else { return };
        let attempt = if pid == 0 { Attempt(entry.begun.0) } else { entry.on_end(pid, None) };
        entry.settle(Err(TaskError::EngineLost { engine: EngineId(pid), attempt, cause: cause.into() }));
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

impl Entry {
    /// Notes that an execution in this process has ended, which may not have been told to have begun; returns which it was.
    fn on_end(&mut self, pid: u32, ran: Option<Duration>) -> Attempt {
        let is_known = self.begun.0 > 0 && self.begun.1 == pid;
        if !is_known {
            self.begun = (self.begun.0 + 1, pid);
        }
        let attempt = Attempt(self.begun.0);
        if let Some(ran) = ran {
            self.job.started(Moment::now().before(ran), attempt);
        } else if !is_known {
            self.job.started(Moment::now(), attempt);
        }
        attempt
    }

    /// Settles the task; as cancelled, if it was cancelled.
    fn settle(self, outcome: Outcome) {
        let Self { job, cancelled, place, .. } = self;
        drop(place);
        match cancelled {
            Some((reason, _)) => {
                crate::catch::discard(outcome);
                job.give(Err(TaskError::Cancelled { reason }));
            }
            None => job.give(outcome),
        }
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

    #[test]
    fn what_is_cancelled_while_it_is_taken_settles_as_cancelled() {
        for _ in 0..2_000 {
            let (say, said) = mpsc::channel();
            let (pending, both) = (Pending::new(say), Arc::new(Barrier::new(2)));
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
