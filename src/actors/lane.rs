//! A lane: how many threads hand items to one actor.
//!
//! What is pushed while the actor is busy rides in its next batch, so batches grow with the load and an
//! idle lane adds no delay. The actor takes its batches from a [`LaneStream`]; it is woken only when it
//! sleeps.
//!
//! Bound: an item is a task that admission counted, or the outcome of a task that was sent to an engine.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use parking_lot::Mutex;

use super::spin::Spin;
use crate::apart;
use crate::limits::BATCH_TASKS_MAX;
use crate::messages::{Completion, Submission};

/// The sending side. Shared by as many threads as like.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    /// Whether there is something to take; read without the lock by an actor that looks for work.
    has_items: AtomicBool,
    inner: Mutex<Inner<T>>,
}

/// What a lane carries: each may stand for several tasks.
pub(crate) trait Counted {
    /// Returns how many tasks it is.
    fn tasks(&self) -> usize {
        1
    }
}

impl Counted for Completion {}

impl Counted for Submission {
    fn tasks(&self) -> usize {
        self.request.payload.count() as usize
    }
}

#[derive(Debug)]
struct Inner<T> {
    /// Each of at most [`BATCH_TASKS_MAX`] items, and taken as it is: nothing is copied under the lock, and what a
    /// burst took is given back batch by batch.
    batches: VecDeque<Vec<T>>,
    /// How many items these have.
    len: usize,
    /// How many tasks they are.
    tasks: usize,
    /// There while the actor sleeps.
    sleeper: Option<Waker>,
    is_closed: bool,
}

impl<T: Counted + Send + 'static> Lane<T> {
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner { batches: VecDeque::new(), len: 0, tasks: 0, sleeper: None, is_closed: false };
        Arc::new(Self { has_items: AtomicBool::new(false), inner: Mutex::new(inner) })
    }

    /// Hands over items.
    ///
    /// # Errors
    /// Gives them back if the actor is gone.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = T>) -> Result<(), Vec<T>> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(items.into_iter().collect());
        }
        items.into_iter().for_each(|item| inner.add(item));
        self.has_items.store(true, Ordering::Release);
        let sleeper = inner.sleeper.take();
        drop(inner);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        Ok(())
    }

    /// Returns how many items wait to be taken.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().len
    }

    /// Returns how many tasks these are.
    pub(super) fn tasks(&self) -> usize {
        self.inner.lock().tasks
    }

    /// Takes the next batch, if there is one.
    pub(crate) fn take(&self) -> Option<Vec<T>> {
        if !self.has_items.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.inner.lock();
        let batch = inner.batches.pop_front()?;
        inner.len -= batch.len();
        inner.tasks -= batch.iter().map(Counted::tasks).sum::<usize>();
        self.has_items.store(!inner.batches.is_empty(), Ordering::Release);
        Some(batch)
    }

    /// Goes to sleep, unless something came meanwhile.
    fn sleep(&self, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if inner.batches.is_empty() {
            inner.sleeper = Some(waker.clone());
            return true;
        }
        false
    }

    /// Lets nothing more in; returns what is left.
    fn close(&self) -> Vec<T> {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        inner.sleeper = None;
        (inner.len, inner.tasks) = (0, 0);
        std::mem::take(&mut inner.batches).into_iter().flatten().collect()
    }
}

impl<T: Counted> Inner<T> {
    fn add(&mut self, item: T) {
        self.len += 1;
        self.tasks += item.tasks();
        match self.batches.back_mut() {
            Some(batch) if batch.len() < BATCH_TASKS_MAX => batch.push(item),
            // After a full one likely another.
            Some(_) => {
                let mut batch = Vec::with_capacity(BATCH_TASKS_MAX);
                batch.push(item);
                self.batches.push_back(batch);
            }
            None => self.batches.push_back(vec![item]),
        }
    }
}

/// The receiving side: batches of at most [`BATCH_TASKS_MAX`] items. Never ends; closes the lane when dropped.
pub(crate) struct LaneStream<T: Counted + Send + 'static> {
    lane: Arc<Lane<T>>,
    spin: Spin,
    is_asleep: bool,
    /// What becomes of items that nobody takes any more.
    abandon: fn(Vec<T>),
}

impl<T: Counted + Send + 'static> LaneStream<T> {
    pub(crate) fn new(lane: Arc<Lane<T>>, patience: Duration) -> Self {
        Self { lane, spin: Spin::new(patience), is_asleep: false, abandon: apart::discard }
    }

    /// Has `abandon` do what is to be done with items that are left when the actor ends. It runs on the arbiter.
    pub(super) fn abandoning(mut self, abandon: fn(Vec<T>)) -> Self {
        self.abandon = abandon;
        self
    }
}

impl<T: Counted + Send + 'static> Stream for LaneStream<T> {
    type Item = Vec<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        let this = self.get_mut();
        loop {
            if std::mem::take(&mut this.is_asleep) {
                this.lane.inner.lock().sleeper = None;
            }
            if let Some(batch) = this.lane.take() {
                this.spin.reset();
                return Poll::Ready(Some(batch));
            }
            if this.spin.again() {
                // Back to the arbiter, which polls its other actors before it comes here again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if this.lane.sleep(cx.waker()) {
                this.is_asleep = true;
                return Poll::Pending;
            }
        }
    }
}

impl<T: Counted + Send + 'static> Drop for LaneStream<T> {
    fn drop(&mut self) {
        (self.abandon)(self.lane.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread::{self, Thread};
    use std::time::Instant;

    use super::*;

    impl<A, B> Counted for (A, B) {}
    impl Counted for i32 {}
    impl<T> Counted for Arc<T> {}

    /// Counts how often it is woken, and wakes the thread that made it.
    struct Sleeper {
        woken: AtomicUsize,
        thread: Thread,
    }

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            self.thread.unpark();
        }
    }

    impl Sleeper {
        fn new() -> Arc<Self> {
            Arc::new(Self { woken: AtomicUsize::new(0), thread: thread::current() })
        }

        fn woken(&self) -> usize {
            self.woken.load(Ordering::Relaxed)
        }
    }

    fn poll<T: Counted + Send + 'static>(stream: &mut LaneStream<T>, sleeper: &Arc<Sleeper>) -> Option<Vec<T>> {
        match Pin::new(stream).poll_next(&mut Context::from_waker(&Waker::from(sleeper.clone()))) {
            Poll::Ready(batch) => Some(batch.expect("a lane never ends")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn items_come_out_in_the_order_in_which_they_were_pushed_in_batches_of_bounded_size() {
        let lane = Lane::new();
        let mut stream = LaneStream::new(lane.clone(), Duration::ZERO);
        lane.push(0..300).expect("the lane is open");
        lane.push(300..600).expect("the lane is open");
        let mut batches = Vec::new();
        while let Some(batch) = poll(&mut stream, &Sleeper::new()) {
            batches.push(batch);
        }
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 88]);
        assert_eq!(batches.concat(), (0..600).collect::<Vec<_>>());
    }

    #[test]
    fn a_sleeping_actor_is_woken_by_the_first_push_and_not_by_the_next() {
        let lane = Lane::new();
        let mut stream = LaneStream::new(lane.clone(), Duration::ZERO);
        let sleeper = Sleeper::new();
        assert_eq!(poll(&mut stream, &sleeper), None);
        assert_eq!(sleeper.woken(), 0);
        lane.push([1]).expect("the lane is open");
        lane.push([2]).expect("the lane is open");
        assert_eq!(sleeper.woken(), 1);
        assert_eq!(poll(&mut stream, &sleeper), Some(vec![1, 2]));

        // Awake, it is not woken at all.
        lane.push([3]).expect("the lane is open");
        assert_eq!(poll(&mut stream, &sleeper), Some(vec![3]));
        assert_eq!(sleeper.woken(), 1);
    }

    #[test]
    fn an_actor_that_is_woken_for_something_else_goes_back_to_sleep_and_wakes_again() {
        let lane = Lane::new();
        let mut stream = LaneStream::new(lane.clone(), Duration::ZERO);
        let (first, second) = (Sleeper::new(), Sleeper::new());
        assert_eq!(poll(&mut stream, &first), None);
        assert_eq!(poll(&mut stream, &second), None);
        lane.push([1]).expect("the lane is open");
        assert_eq!((first.woken(), second.woken()), (0, 1), "the last waker counts");
        assert_eq!(poll(&mut stream, &second), Some(vec![1]));
    }

    /// Items are dropped apart: on a thread for it, soon.
    fn wait_until_dropped<T>(held: &Arc<T>) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(held) > 1 {
            assert!(Instant::now() < deadline, "the items are not dropped");
            thread::yield_now();
        }
    }

    #[test]
    fn a_lane_whose_actor_is_gone_gives_items_back_and_drops_those_it_has() {
        let lane = Lane::new();
        let stream = LaneStream::new(lane.clone(), Duration::ZERO);
        let item = Arc::new(1);
        lane.push([item.clone(), item.clone()]).expect("the lane is open");
        assert_eq!(Arc::strong_count(&item), 3);
        drop(stream);
        wait_until_dropped(&item);
        let back = lane.push([item.clone(), item.clone()]).expect_err("the lane is closed");
        assert_eq!(back.len(), 2);
    }

    #[test]
    fn an_item_whose_drop_panics_does_not_keep_the_others_in_a_closed_lane() {
        struct Bad(#[expect(dead_code, reason = "held to be dropped")] Arc<()>);
        impl Counted for Bad {}
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let held = Arc::new(());
        let lane = Lane::new();
        lane.push((0..3).map(|_| Bad(held.clone()))).unwrap_or_else(|_| unreachable!("the lane is open"));
        drop(LaneStream::new(lane, Duration::ZERO));
        wait_until_dropped(&held);
    }

    #[test]
    fn nothing_is_lost_between_threads_and_each_keeps_its_order() {
        const ITEMS: usize = 100_000;
        const THREADS: usize = 2;
        for patience in [Duration::ZERO, Duration::from_micros(50)] {
            let lane = Lane::new();
            let mut stream = LaneStream::new(lane.clone(), patience);
            let push = |thread: usize| {
                let lane = lane.clone();
                move || {
                    // Pauses of all lengths, so that the actor is found asleep, awake, and on its way to sleep.
                    for (item, pause) in (0..ITEMS / THREADS).zip((0..37).cycle()) {
                        lane.push([(thread, item)]).expect("the lane is open");
                        if pause == 0 {
                            thread::yield_now();
                        }
                    }
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|thread| thread::spawn(push(thread))).collect();

            let (sleeper, mut next) = (Sleeper::new(), [0; THREADS]);
            while next.iter().sum::<usize>() < ITEMS {
                let before = sleeper.woken();
                let Some(batch) = poll(&mut stream, &sleeper) else {
                    while sleeper.woken() == before {
                        let parked = std::time::Instant::now();
                        thread::park_timeout(Duration::from_secs(20));
                        assert!(parked.elapsed() < Duration::from_secs(20), "nobody wakes the actor: {next:?}");
                    }
                    continue;
                };
                for (thread, item) in batch {
                    assert_eq!(item, next[thread]);
                    next[thread] += 1;
                }
            }
            threads.into_iter().for_each(|thread| thread.join().expect("pushing does not panic"));
            assert_eq!(lane.take(), None);
        }
    }
}
