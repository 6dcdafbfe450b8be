//! The hand-over of one value, in every interleaving of a few threads: the file is compiled here with the locks
//! of the model checker `loom`.
//!
//! Each test names the bugs that it was seen to catch, by planting them.

#[path = "../src/async_result/handover.rs"]
mod handover;

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use handover::{Given, Handover};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// What `src/async_result/sync.rs` is in the crate.
mod sync {
    pub(super) fn wake(waker: std::task::Waker) {
        waker.wake();
    }

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    #[derive(Debug)]
    pub(super) struct Guarded<T>(loom::sync::Mutex<T>);

    impl<T> Guarded<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
            look(&self.0.lock().expect("nobody panicked"))
        }

        pub(super) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
            change(&mut self.0.lock().expect("nobody panicked"))
        }
    }
}

/// A value that can be taken out, and callbacks that are numbers.
type Place = Handover<Option<u32>, u32>;

/// A task of some runtime: counts how often it was woken.
struct Sleeper {
    woken: AtomicUsize,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Release);
    }
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicUsize::new(0) })
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::Acquire)
    }
}

fn poll(place: &Place, sleeper: &Arc<Sleeper>) -> Poll<()> {
    place.poll(&Waker::from(sleeper.clone()))
}

fn value(place: &Place) -> Option<u32> {
    place.read(|value| value.copied().flatten())
}

/// Makes a place and a thread that gives it the value 7.
fn place_and_giver() -> (Arc<Place>, thread::JoinHandle<Given<Option<u32>, u32>>) {
    let place = Arc::new(Place::new());
    let giver = thread::spawn({
        let place = place.clone();
        move || place.give(Some(7))
    });
    (place, giver)
}

fn given(giver: thread::JoinHandle<Given<Option<u32>, u32>>) -> Given<Option<u32>, u32> {
    giver.join().expect("the giver does not panic")
}

/// Catches: the flag set before the lock is taken, and so before the value is there.
#[test]
fn whoever_sees_that_it_is_done_finds_the_value() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        if place.is_done() {
            assert_eq!(value(&place), Some(7));
        }
        assert!(given(giver).unwanted.is_none());
        assert!(place.is_done());
        assert_eq!(value(&place), Some(7));
    });
}

/// Catches: a poll that does not look again under the lock; a giver that takes the wakers before it has the lock
/// for the value; a flag set before the value.
#[test]
fn a_poll_that_returned_pending_is_woken_by_the_value() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let sleeper = Sleeper::new();
        let is_pending = poll(&place, &sleeper).is_pending();
        if !is_pending {
            assert_eq!(value(&place), Some(7));
        }
        given(giver);
        assert_eq!(sleeper.woken(), usize::from(is_pending));
        assert_eq!(poll(&place, &sleeper), Poll::Ready(()));
    });
}

/// Catches: wakers that are woken before the value is there.
#[test]
fn whoever_is_woken_finds_the_value() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let sleeper = Sleeper::new();
        if poll(&place, &sleeper).is_pending() {
            while sleeper.woken() == 0 {
                thread::yield_now();
            }
        }
        assert!(place.is_done());
        assert_eq!(value(&place), Some(7));
        given(giver);
    });
}

/// Catches: a second waker that replaces the first.
#[test]
fn two_that_poll_are_both_woken() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let other = thread::spawn({
            let place = place.clone();
            move || {
                let sleeper = Sleeper::new();
                (poll(&place, &sleeper).is_pending(), sleeper)
            }
        });
        let sleeper = Sleeper::new();
        let is_pending = poll(&place, &sleeper).is_pending();
        let (is_other_pending, other) = other.join().expect("polling does not panic");
        given(giver);
        assert_eq!(sleeper.woken(), usize::from(is_pending));
        assert_eq!(other.woken(), usize::from(is_other_pending));
    });
}

/// Catches: a waker that is added as often as it polls, among the first and among the others.
#[test]
fn one_that_polls_often_is_woken_once() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let sleepers = [Sleeper::new(), Sleeper::new()];
        let mut pending = [0, 0];
        for _ in 0..2 {
            for (sleeper, pending) in sleepers.iter().zip(&mut pending) {
                *pending += usize::from(poll(&place, sleeper).is_pending());
            }
        }
        given(giver);
        assert_eq!(sleepers.map(|sleeper| sleeper.woken()), pending.map(|pending| pending.min(1)));
    });
}

/// Catches: a registration that does not look again under the lock; callbacks that are given in another order.
#[test]
fn each_callback_is_called_once_and_in_the_order_of_registration() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let mut back: Vec<u32> = [1, 2].into_iter().filter_map(|callback| place.on_done(callback)).collect();
        let mut called = given(giver).callbacks;
        called.append(&mut back);
        called.append(&mut place.next_callbacks());
        assert_eq!(called, [1, 2]);
        assert!(place.next_callbacks().is_empty());
    });
}

/// Catches: an end of the calling that is decided before the lock, so that a callback waits in a queue that nobody
/// looks at; a callback that is called beside an earlier one.
#[test]
fn callbacks_that_come_while_others_are_called_are_called_after_them() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        given(giver);
        assert_eq!(place.on_done(1), Some(1), "to be called now");
        let registering = {
            let place = place.clone();
            thread::spawn(move || [2, 3].into_iter().filter_map(|callback| place.on_done(callback)).collect::<Vec<_>>())
        };
        let mut called = Vec::new();
        loop {
            let next = place.next_callbacks();
            if next.is_empty() {
                break;
            }
            called.extend(next);
        }
        // Whoever was given one back after the end calls on.
        let back = registering.join().expect("registering does not panic");
        called.extend(back);
        called.extend(place.next_callbacks());
        assert_eq!(called, [2, 3]);
    });
}

/// Catches: callbacks of a place that everybody let go being dropped with it.
#[test]
fn a_callback_is_called_once_also_when_nobody_holds_the_place() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let back = place.on_done(1);
        place.let_go(|value| value.take());
        let called = given(giver).callbacks;
        assert_eq!(called.into_iter().chain(back).collect::<Vec<_>>(), [1]);
    });
}

/// Catches: a giver that counts the holders before it takes the lock; a last holder that does not look for the
/// value.
#[test]
fn a_value_that_nobody_wants_comes_back_once() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let taken = place.let_go(|value| value.take());
        let unwanted = given(giver).unwanted;
        assert_eq!(taken.into_iter().chain(unwanted.flatten()).collect::<Vec<_>>(), [7]);
        assert_eq!(value(&place), None);
    });
}

/// Catches: a count that is read and then written, so that both holders believe that the other is the last.
#[test]
fn of_two_holders_that_let_go_one_takes_the_value() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        place.hold();
        let other = thread::spawn({
            let place = place.clone();
            move || place.let_go(|value| value.take())
        });
        let mine = place.let_go(|value| value.take());
        let others = other.join().expect("letting go does not panic");
        let unwanted = given(giver).unwanted;
        assert_eq!(mine.into_iter().chain(others).chain(unwanted.flatten()).collect::<Vec<_>>(), [7]);
    });
}

/// Catches: a holder that is not the last and takes the value with it.
#[test]
fn the_value_stays_for_a_holder_that_stays() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        place.hold();
        let taken = place.let_go(|value| value.take());
        assert_eq!(taken, None);
        assert!(given(giver).unwanted.is_none());
        assert_eq!(value(&place), Some(7));
    });
}

/// Catches: a second value that replaces the first; a second giver that wakes again.
#[test]
fn of_two_givers_one_wins_and_the_other_gets_its_value_back() {
    loom::model(|| {
        let (place, giver) = place_and_giver();
        let sleeper = Sleeper::new();
        let is_pending = poll(&place, &sleeper).is_pending();
        let mine = place.give(Some(8)).unwanted;
        let others = given(giver).unwanted;
        match value(&place) {
            Some(7) => assert_eq!((mine, others), (Some(Some(8)), None)),
            Some(8) => assert_eq!((mine, others), (None, Some(Some(7)))),
            other => panic!("the value is {other:?}"),
        }
        assert_eq!(sleeper.woken(), usize::from(is_pending));
    });
}
