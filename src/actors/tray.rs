//! What an engine has been sent and has not started: shared by its control lane, which always answers, and
//! its worker, which may be busy for hours.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::spin::Spin;
use crate::ledger::Assignment;
use crate::task::{Attempt, CancelFlag, ChunkRest, Payload, Span, TaskId};

/// One worker's tray.
#[derive(Debug, Default)]
pub(super) struct Tray {
    /// Whether there is something to look at; read without the lock by a worker that looks for work.
    is_ready: AtomicBool,
    inner: Mutex<Inner>,
    wake: Condvar,
    cancel: Arc<CancelFlag>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: VecDeque<Assignment>,
    running: Option<Running>,
    is_asleep: bool,
    is_stopped: bool,
}

/// What the worker is at: one task, or several items of a map.
struct Running {
    tasks: Span,
    attempt: Attempt,
    /// Where the items are that have not begun.
    rest: Option<Arc<dyn ChunkRest>>,
}

/// Where a revoked task was.
pub(super) enum Revoked {
    NotStarted(Assignment),
    /// The worker is at it. What had not begun of it is given back.
    Running(Option<Assignment>),
    NotHere,
}

impl Tray {
    pub(super) fn put(&self, batch: Vec<Assignment>) {
        let mut inner = self.inner.lock();
        inner.tasks.extend(batch);
        self.notify(&mut inner);
    }

    /// Takes the next task and notes that it runs; `None` when the engine stops.
    pub(super) fn next(&self, spin: &mut Spin) -> Option<Assignment> {
        loop {
            while !self.is_ready.load(Ordering::Acquire) {
                if !spin.again() {
                    break;
                }
            }
            let mut inner = self.inner.lock();
            inner.running = None;
            if let Some(task) = inner.tasks.pop_front() {
                spin.reset();
                if inner.tasks.is_empty() && !inner.is_stopped {
                    self.is_ready.store(false, Ordering::Release);
                }
                let tasks = Span { first: task.id, count: task.payload.count() };
                inner.running = Some(Running { tasks, attempt: task.attempt, rest: None });
                // Under the lock: a revocation meant for the task before does not hit this one.
                self.cancel.reset();
                return Some(task);
            }
            if inner.is_stopped {
                return None;
            }
            if inner.tasks.capacity() > 4 * crate::limits::BATCH_TASKS_MAX {
                inner.tasks.shrink_to(0);
            }
            inner.is_asleep = true;
            self.wake.wait(&mut inner);
            inner.is_asleep = false;
        }
    }

    /// Takes a task back, or asks it to stop if it runs.
    pub(super) fn revoke(&self, task: TaskId) -> Revoked {
        let mut inner = self.inner.lock();
        if let Some(running) = inner.running.as_mut().filter(|running| running.has(task)) {
            self.cancel.request();
            return Revoked::Running(running.take_rest());
        }
        let position = inner.tasks.iter().position(|assignment| assignment.id == task);
        match position.and_then(|at| inner.tasks.remove(at)) {
            Some(assignment) => Revoked::NotStarted(assignment),
            None => Revoked::NotHere,
        }
    }

    /// Notes where the items of the running chunk are that have not begun.
    pub(super) fn on_chunk(&self, rest: Arc<dyn ChunkRest>) {
        if let Some(running) = &mut self.inner.lock().running {
            running.rest = Some(rest);
        }
    }

    /// Returns the task whose code the worker is at, and which attempt that is.
    pub(super) fn is_at(&self) -> Option<(TaskId, Attempt)> {
        self.inner.lock().running.as_ref()?.is_at()
    }

    /// Takes everything back and ends the worker after what it runs.
    pub(super) fn stop(&self) -> Vec<Assignment> {
        let mut inner = self.inner.lock();
        inner.is_stopped = true;
        self.notify(&mut inner);
        inner.take_all()
    }

    /// Takes back everything that has not begun; the worker goes on.
    pub(super) fn take_all(&self) -> Vec<Assignment> {
        self.inner.lock().take_all()
    }

    /// As `stop`, and asks the task that runs to stop: nobody is left to want its outcome.
    pub(super) fn abandon(&self) -> Vec<Assignment> {
        let left = self.stop();
        let inner = self.inner.lock();
        if inner.running.is_some() {
            self.cancel.request();
        }
        drop(inner);
        left
    }

    pub(super) fn cancel_flag(&self) -> Arc<CancelFlag> {
        self.cancel.clone()
    }

    fn notify(&self, inner: &mut Inner) {
        self.is_ready.store(true, Ordering::Release);
        if inner.is_asleep {
            self.wake.notify_one();
        }
    }
}

impl Inner {
    fn take_all(&mut self) -> Vec<Assignment> {
        let begun = self.running.as_mut().and_then(Running::take_rest);
        begun.into_iter().chain(self.tasks.drain(..)).collect()
    }
}

impl Running {
    fn has(&self, task: TaskId) -> bool {
        self.tasks.count > 0 && self.tasks.contains(task)
    }

    /// Returns the one that has begun last.
    fn is_at(&self) -> Option<(TaskId, Attempt)> {
        let begun = match &self.rest {
            Some(rest) => self.tasks.count.saturating_sub(rest.left()),
            None if self.tasks.count == 1 => 1,
            // They are being read.
            None => 0,
        };
        Some((self.tasks.first.plus(begun.checked_sub(1)?), self.attempt))
    }

    /// Takes back what has not begun: the last items.
    fn take_rest(&mut self) -> Option<Assignment> {
        let (count, task) = self.rest.as_ref()?.take()?;
        // They may come again, to wait behind what is left here: these are not the ones that run.
        self.tasks.count -= count;
        Some(Assignment {
            id: self.tasks.first.plus(self.tasks.count),
            attempt: self.attempt,
            may_retry: false,
            payload: Payload::Typed(task),
            extras: None,
        })
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.tasks)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::task::{Attempt, Chunk, Closure, ErasedTask, Payload, TaskContext};

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    fn assignments(seqs: impl IntoIterator<Item = u64>) -> Vec<Assignment> {
        let assignment = |seq| Assignment {
            id: id(seq),
            attempt: Attempt(1),
            may_retry: false,
            payload: Payload::Typed(Box::new(Closure(|| ()))),
            extras: None,
        };
        seqs.into_iter().map(assignment).collect()
    }

    fn seqs(assignments: Vec<Assignment>) -> Vec<u64> {
        assignments.into_iter().map(|assignment| assignment.id.seq).collect()
    }

    fn next(tray: &Tray) -> Option<u64> {
        tray.next(&mut Spin::new(Duration::ZERO)).map(|assignment| assignment.id.seq)
    }

    fn is_cancelled(tray: &Tray) -> bool {
        TaskContext { cancel: tray.cancel_flag(), ..TaskContext::here() }.is_cancelled()
    }

    /// Waits until a worker sleeps over the empty tray.
    fn wait_until_asleep(tray: &Tray) {
        let deadline = Instant::now() + PATIENCE;
        while !tray.inner.lock().is_asleep {
            assert!(Instant::now() < deadline, "the worker does not go to sleep");
            thread::yield_now();
        }
    }

    #[test]
    fn tasks_start_in_the_order_in_which_they_were_put() {
        let tray = Tray::default();
        tray.put(assignments(0..3));
        tray.put(assignments(3..5));
        assert_eq!((0..5).map(|_| next(&tray)).collect::<Option<Vec<_>>>(), Some(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_task_that_has_not_started_is_taken_back() {
        let tray = Tray::default();
        tray.put(assignments(0..3));
        let Revoked::NotStarted(assignment) = tray.revoke(id(1)) else { panic!("it has not started") };
        assert_eq!((assignment.id, assignment.attempt), (id(1), Attempt(1)));
        assert!(matches!(tray.revoke(id(1)), Revoked::NotHere));
        assert_eq!((next(&tray), next(&tray)), (Some(0), Some(2)));
        assert!(!is_cancelled(&tray));
    }

    #[test]
    fn a_task_that_runs_is_asked_to_stop_and_the_next_one_is_not() {
        let tray = Tray::default();
        tray.put(assignments(0..2));
        assert_eq!(next(&tray), Some(0));
        assert!(!is_cancelled(&tray));
        assert!(matches!(tray.revoke(id(0)), Revoked::Running(None)));
        assert!(is_cancelled(&tray));

        assert_eq!(next(&tray), Some(1));
        assert!(!is_cancelled(&tray));
        // The one before has returned: the revocation comes too late, and does not hit the one that runs now.
        assert!(matches!(tray.revoke(id(0)), Revoked::NotHere));
        assert!(!is_cancelled(&tray));
    }

    #[crate::task]
    fn nothing() {}

    /// Items of which so many have not begun.
    struct Left(Mutex<u32>);

    impl ChunkRest for Left {
        fn take(&self) -> Option<(u32, Box<dyn ErasedTask>)> {
            let left = std::mem::take(&mut *self.0.lock());
            (left > 0).then(|| (left, Box::new(Closure(|| ())) as Box<dyn ErasedTask>))
        }

        fn left(&self) -> u32 {
            *self.0.lock()
        }
    }

    #[test]
    fn the_worker_is_at_what_began_last() {
        let tray = Tray::default();
        assert_eq!(tray.is_at(), None);
        tray.put(assignments([7]));
        assert_eq!(tray.is_at(), None, "it has not begun");
        assert_eq!((next(&tray), tray.is_at()), (Some(7), Some((id(7), Attempt(1)))));

        let payload = Payload::Typed(Box::new(Chunk::new([nothing(), nothing(), nothing(), nothing()])));
        tray.put(vec![Assignment { id: id(10), attempt: Attempt(2), may_retry: false, payload, extras: None }]);
        assert_eq!((next(&tray), tray.is_at()), (Some(10), None), "they are being read");
        let left = Arc::new(Left(Mutex::new(4)));
        tray.on_chunk(left.clone());
        assert_eq!(tray.is_at(), None);
        for (begun, left_of) in [(10, 3), (11, 2)] {
            *left.0.lock() = left_of;
            assert_eq!(tray.is_at(), Some((id(begun), Attempt(2))));
        }
        assert_eq!(tray.take_all()[0].id, id(12), "two are taken back");
        assert_eq!(tray.is_at(), Some((id(11), Attempt(2))), "and it is where it was");
    }

    #[test]
    fn a_task_that_was_never_put_is_not_here() {
        let tray = Tray::default();
        assert!(matches!(tray.revoke(id(0)), Revoked::NotHere));
        tray.put(assignments([1]));
        assert!(matches!(tray.revoke(id(0)), Revoked::NotHere));
    }

    #[test]
    fn stopping_takes_back_what_has_not_started_and_ends_the_worker_after_what_runs() {
        let tray = Tray::default();
        tray.put(assignments(0..4));
        assert_eq!(next(&tray), Some(0));
        assert_eq!(seqs(tray.stop()), [1, 2, 3]);
        assert!(!is_cancelled(&tray), "what runs may finish");
        assert_eq!((next(&tray), next(&tray)), (None, None));
        assert!(seqs(tray.stop()).is_empty());
    }

    #[test]
    fn a_sleeping_worker_is_woken_by_a_task_and_by_the_end() {
        let tray = Arc::new(Tray::default());
        let (tell, told) = sync_channel(0);
        let worker = thread::spawn({
            let tray = tray.clone();
            move || {
                // Each task runs until the test has heard of it.
                while let Some(seq) = next(&tray) {
                    tell.send(seq).expect("the test listens");
                }
            }
        });
        wait_until_asleep(&tray);
        tray.put(assignments([5]));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(5));

        wait_until_asleep(&tray);
        assert!(matches!(tray.revoke(id(5)), Revoked::NotHere), "it has returned");
        tray.put(assignments([6, 7]));
        assert!(matches!(tray.revoke(id(7)), Revoked::NotStarted(_)), "the worker is busy");
        assert_eq!(told.recv_timeout(PATIENCE), Ok(6));

        // The tray was emptied by a revocation: it is one to sleep over as well.
        wait_until_asleep(&tray);
        assert!(seqs(tray.stop()).is_empty());
        worker.join().expect("the worker does not panic");
    }

    #[test]
    fn between_a_busy_hand_and_a_busy_worker_each_task_is_run_or_taken_back_once() {
        const TASKS: u64 = 100_000;
        for patience in [Duration::ZERO, Duration::from_micros(50)] {
            let tray = Arc::new(Tray::default());
            let worker = thread::spawn({
                let tray = tray.clone();
                move || {
                    let (mut spin, mut ran) = (Spin::new(patience), Vec::new());
                    while let Some(assignment) = tray.next(&mut spin) {
                        ran.push(assignment.id.seq);
                    }
                    ran
                }
            });
            let mut back = Vec::new();
            let mut seq = 0;
            for size in (1..8).cycle() {
                tray.put(assignments(seq..(seq + size).min(TASKS)));
                seq += size;
                if let Revoked::NotStarted(assignment) = tray.revoke(id(seq - 1)) {
                    back.push(assignment.id.seq);
                }
                if seq >= TASKS {
                    break;
                }
                if size == 7 {
                    thread::yield_now();
                }
            }
            back.extend(seqs(tray.stop()));
            let ran = worker.join().expect("the worker does not panic");
            assert!(ran.is_sorted(), "tasks start in order");
            let mut all = [ran, back].concat();
            all.sort_unstable();
            assert_eq!(all, (0..TASKS).collect::<Vec<_>>());
        }
    }
}
