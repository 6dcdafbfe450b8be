//! The hand-over: one value, given once by one thread, awaited by any number of others.
//!
//! Nothing here knows of tasks. The same file is compiled into `tests/handover.rs` with the locks of a model
//! checker, which tries every interleaving.

use std::task::{Poll, Waker};

use super::sync::{AtomicBool, AtomicU32, Guarded, Ordering, wake};

/// A place for a value `V` to come, and for callbacks `C` to be called when it does.
#[derive(Debug)]
pub(super) struct Handover<V, C> {
    /// Set after the value is there; read without the lock by a thread that looks for it.
    is_done: AtomicBool,
    /// How many hold the receiving side. At 0 nobody wants the value any more.
    handles: AtomicU32,
    state: Guarded<State<V, C>>,
}

#[derive(Debug)]
enum State<V, C> {
    Pending(Expecting<C>),
    /// `queue` is there while callbacks are called: those that are registered meanwhile wait in it.
    Done {
        value: V,
        queue: Option<Box<Queue<C>>>,
    },
}

/// Boxed, so that its place costs a word while nobody calls.
#[derive(Debug)]
struct Queue<C>(Vec<C>);

/// Who is to be told. One waker is the rule; the others' place costs nothing while there are none.
#[derive(Debug)]
struct Expecting<C> {
    waker: Option<Waker>,
    others: Option<Box<Others<C>>>,
}

#[derive(Debug)]
struct Others<C> {
    wakers: Vec<Waker>,
    callbacks: Vec<C>,
}

/// What the giver has to do after it gave.
#[derive(Debug)]
pub(super) struct Given<V, C> {
    /// In the order of registration. Once they were called, [`Handover::next_callbacks`] has those that came since.
    pub(super) callbacks: Vec<C>,
    /// The value, if nobody wants it.
    pub(super) unwanted: Option<V>,
}

impl<V, C> Handover<V, C> {
    /// Makes an empty place with one holder.
    pub(super) fn new() -> Self {
        Self {
            is_done: AtomicBool::new(false),
            handles: AtomicU32::new(1),
            state: Guarded::new(State::Pending(Expecting::nobody())),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Gives the value and wakes who waits. A second value is unwanted.
    pub(super) fn give(&self, value: V) -> Given<V, C> {
        let (told, unwanted) = self.state.write(|state| {
            let State::Pending(expecting) = state else { return (Expecting::nobody(), Some(value)) };
            let told = std::mem::replace(expecting, Expecting::nobody());
            if self.handles.load(Ordering::Acquire) == 0 {
                return (told, Some(value));
            }
            let are_called = told.others.as_ref().is_some_and(|others| !others.callbacks.is_empty());
            *state = State::Done { value, queue: are_called.then(Queue::empty) };
            self.is_done.store(true, Ordering::Release);
            (told, None)
        });
        // Outside the lock: whoever wakes may come back at once.
        told.waker.into_iter().for_each(wake);
        let Some(others) = told.others else { return Given { callbacks: Vec::new(), unwanted } };
        others.wakers.into_iter().for_each(wake);
        Given { callbacks: others.callbacks, unwanted }
    }

    /// Returns whether the value is there; else has `waker` woken when it comes.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.is_done() {
            return Poll::Ready(());
        }
        self.state.write(|state| match state {
            State::Pending(expecting) => {
                expecting.add(waker);
                Poll::Pending
            }
            State::Done { .. } => Poll::Ready(()),
        })
    }

    /// Registers a callback, or gives it back to be called now: then ask for the [next](Self::next_callbacks), too.
    pub(super) fn on_done(&self, callback: C) -> Option<C> {
        self.state.write(|state| match state {
            State::Pending(expecting) => {
                expecting.others().callbacks.push(callback);
                None
            }
            State::Done { queue: Some(queue), .. } => {
                queue.0.push(callback);
                None
            }
            State::Done { queue, .. } => {
                *queue = Some(Queue::empty());
                Some(callback)
            }
        })
    }

    /// Takes the callbacks that were registered while others were called. None ends the calling.
    pub(super) fn next_callbacks(&self) -> Vec<C> {
        self.state.write(|state| {
            let State::Done { queue, .. } = state else { return Vec::new() };
            let next = queue.as_mut().map(|queue| std::mem::take(&mut queue.0)).unwrap_or_default();
            if next.is_empty() {
                *queue = None;
            }
            next
        })
    }

    /// Counts one more holder.
    pub(super) fn hold(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a holder out. The last one takes out of the value what is not to stay behind.
    pub(super) fn let_go<R>(&self, take: impl FnOnce(&mut V) -> Option<R>) -> Option<R> {
        if self.handles.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        self.change(take).flatten()
    }

    /// Changes the value, if it is there.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.state.write(|state| match state {
            State::Pending(_) => None,
            State::Done { value, .. } => Some(change(value)),
        })
    }

    /// Looks at the value, if it is there.
    pub(super) fn read<R>(&self, look: impl FnOnce(Option<&V>) -> R) -> R {
        self.state.read(|state| match state {
            State::Pending(_) => look(None),
            State::Done { value, .. } => look(Some(value)),
        })
    }
}

impl<C> Queue<C> {
    fn empty() -> Box<Self> {
        Box::new(Self(Vec::new()))
    }
}

impl<C> Expecting<C> {
    fn nobody() -> Self {
        Self { waker: None, others: None }
    }

    fn others(&mut self) -> &mut Others<C> {
        self.others.get_or_insert_with(|| Box::new(Others { wakers: Vec::new(), callbacks: Vec::new() }))
    }

    fn add(&mut self, waker: &Waker) {
        match &self.waker {
            None => self.waker = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) => {
                let wakers = &mut self.others().wakers;
                if !wakers.iter().any(|other| other.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
            }
        }
    }
}
