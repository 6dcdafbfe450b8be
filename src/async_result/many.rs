//! The shared inside of an [`AsyncMapResult`](super::AsyncMapResult): where the result store puts the
//! outcomes of many tasks, a part at a time.
//!
//! The result store only hangs a part in; the values are looked at by whoever wants them, on their own thread. Meanwhile the parts are
//! lent out, because no code of the user's runs under the lock.

mod loan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::thread::ThreadId;

use parking_lot::Mutex;

use super::held::Content;
use super::intervals::Intervals;
use super::one::{Decode, One};
use super::part::{Items, Part, Parts};
use crate::catch;
use crate::error::TaskError;
use crate::messages::{Aftermath, Callback, MoreCallbacks, Settle};
use crate::task::{Extras, Moment, Outcome, Record, Run, TaskId, TaskKind};
use crate::views::Identified;

/// The shared inside of an [`AsyncMapResult`](super::AsyncMapResult).
pub(crate) struct Many<T> {
    pub(super) kind: &'static TaskKind,
    extras: Option<Arc<Extras>>,
    ids: Ids,
    len: u32,
    pub(super) created: Moment,
    decode: Decode<T>,
    is_done: AtomicBool,
    /// How many hold the receiving side. At 0 nobody wants the values any more.
    handles: AtomicU32,
    state: Mutex<State<T>>,
}

enum Ids {
    /// Counted up from here.
    From(TaskId),
    /// Of results that were joined.
    Each(Vec<Joined>),
}

/// What is known of a result that was joined with others.
pub(super) struct Joined {
    pub(super) id: TaskId,
    pub(super) kind: &'static TaskKind,
    pub(super) extras: Option<Arc<Extras>>,
    pub(super) created: Moment,
}

struct State<T> {
    parts: Parts<T>,
    /// The parts by the index of their first item, in the order in which they came.
    order: Vec<u32>,
    settled: u32,
    /// Which items these are; told also while the parts are lent out.
    came: Intervals,
    failed: u32,
    expecting: Vec<(Wish, Waker)>,
    callbacks: Vec<Callback>,
    /// Those that are registered meanwhile wait: callbacks of one result never run side by side.
    are_callbacks_called: bool,
    /// Who gets the values instead of the parts, one an item, after a split.
    heirs: Vec<Arc<One<T>>>,
    /// Who has the parts at the moment.
    lent_to: Option<ThreadId>,
    /// The task that waits until they are put back.
    waiting: Option<Waker>,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Every item.
    All,
    /// This item.
    Item(u32),
    /// A part beyond the first so many that came.
    Another(usize),
}

impl<T: Send + 'static> Many<T> {
    pub(crate) fn new(
        first: TaskId,
        len: u32,
        kind: &'static TaskKind,
        extras: Option<Arc<Extras>>,
        decode: Decode<T>,
    ) -> Arc<Self> {
        Arc::new(Self::with(Ids::From(first), len, kind, extras, decode))
    }

    /// Makes a place for results that are there already, in some other place.
    pub(super) fn of_joined(joined: Vec<Joined>, kind: &'static TaskKind, decode: Decode<T>) -> Arc<Self> {
        let (len, first) = (joined.len() as u32, joined.iter().map(|joined| joined.created).min());
        let many = Self::with(Ids::Each(joined), len, kind, None, decode);
        Arc::new(Self { created: first.unwrap_or_else(Moment::now), ..many })
    }

    fn with(ids: Ids, len: u32, kind: &'static TaskKind, extras: Option<Arc<Extras>>, decode: Decode<T>) -> Self {
        let state = State {
            parts: Parts::new(),
            order: Vec::new(),
            settled: 0,
            came: Intervals::default(),
            failed: 0,
            expecting: Vec::new(),
            callbacks: Vec::new(),
            are_callbacks_called: false,
            heirs: Vec::new(),
            lent_to: None,
            waiting: None,
        };
        Self {
            kind,
            extras,
            ids,
            len,
            created: Moment::now(),
            decode,
            is_done: AtomicBool::new(len == 0),
            handles: AtomicU32::new(1),
            state: Mutex::new(state),
        }
    }

    /// Settles tasks that were never submitted.
    pub(crate) fn refuse(&self, index: u32, count: u32, error: TaskError) {
        let run = Run::none(&error);
        drop(self.settle(index, count, run, Err(error)));
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Returns how many are settled, and how many of these have no value.
    pub(super) fn progress(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.settled, state.failed)
    }

    /// Returns whether a wish is fulfilled; else has `waker` woken when it is.
    pub(super) fn poll(&self, wish: Wish, waker: &Waker) -> Poll<()> {
        if self.is_done() {
            return Poll::Ready(());
        }
        let mut state = self.state.lock();
        if self.is_fulfilled(&state, wish) {
            return Poll::Ready(());
        }
        match state.expecting.iter_mut().find(|(other, known)| *other == wish && known.will_wake(waker)) {
            Some(_) => {}
            None => state.expecting.push((wish, waker.clone())),
        }
        Poll::Pending
    }

    /// Returns whether a wish is fulfilled.
    pub(super) fn is(&self, wish: Wish) -> bool {
        self.is_done() || (wish != Wish::All && self.is_fulfilled(&self.state.lock(), wish))
    }

    /// Has a callback called when all are settled, or gives it back to be called now: then ask for the next, too.
    pub(super) fn on_done(&self, callback: Callback) -> Option<Callback> {
        let mut state = self.state.lock();
        if self.is_done() && !state.are_callbacks_called {
            state.are_callbacks_called = true;
            return Some(callback);
        }
        state.callbacks.push(callback);
        None
    }

    /// Returns the index of the first item of the `nth` part that came.
    pub(super) fn nth_part(&self, nth: usize) -> Option<u32> {
        self.state.lock().order.get(nth).copied()
    }

    /// Returns the tasks that are not settled, by index and number.
    pub(super) fn pending(&self) -> Vec<(u32, u32)> {
        self.state.lock().came.gaps(self.len)
    }

    pub(super) fn record(&self, index: u32, run: Option<Run>) -> Record {
        match &self.ids {
            Ids::From(first) => Record::new(first.plus(index), self.kind, self.extras.as_deref(), self.created, run),
            Ids::Each(joined) => {
                let Joined { id, kind, extras, created } = &joined[index as usize];
                Record::new(*id, kind, extras.as_deref(), *created, run)
            }
        }
    }

    /// Returns the results that this one was split into, if it was.
    pub(super) fn heirs(&self) -> Vec<Arc<One<T>>> {
        self.state.lock().heirs.clone()
    }

    pub(super) fn hold(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a holder out. The last one gets the values, to drop them where it is.
    pub(super) fn let_go(&self) -> Option<Parts<T>> {
        if self.handles.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        Some(std::mem::take(&mut self.state.lock().parts))
    }

    /// Makes a result for each item, which gets its outcome when it comes, or has it.
    pub(super) fn split(&self) -> Vec<Arc<One<T>>> {
        let heir = |index| One::new(self.id_at(index), self.kind, self.extras.clone(), self.decode);
        let heirs: Vec<_> = (0..self.len).map(heir).collect();
        let parts = {
            let mut state = self.state.lock();
            state.heirs = heirs.clone();
            std::mem::take(&mut state.parts)
        };
        for (index, part) in parts {
            // Nobody has these results yet, so there is nothing left to do.
            drop(inherit(&heirs[index as usize..], part));
        }
        heirs
    }

    fn is_fulfilled(&self, state: &State<T>, wish: Wish) -> bool {
        match wish {
            Wish::All => state.settled == self.len,
            Wish::Another(seen) => state.order.len() > seen,
            Wish::Item(index) => state.came.contains(index),
        }
    }
}

impl<T> Identified for Many<T> {
    fn id_at(&self, index: u32) -> TaskId {
        match &self.ids {
            Ids::From(first) => first.plus(index),
            Ids::Each(joined) => joined[index as usize].id,
        }
    }
}

impl<T: Send + 'static> Settle for Many<T> {
    fn settle(&self, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        self.hang_in(index, Part::of(self.kind, self.decode, count, run, outcome))
    }

    fn next_callbacks(&self, _: u32) -> Vec<Callback> {
        let mut state = self.state.lock();
        let next = std::mem::take(&mut state.callbacks);
        state.are_callbacks_called = !next.is_empty();
        next
    }
}

impl<T: Send + 'static> Many<T> {
    /// Puts one outcome in that has its type already.
    pub(super) fn put(&self, index: u32, run: Run, result: Result<T, TaskError>) -> Option<Box<Aftermath>> {
        self.hang_in(index, Part { run, items: Items::Each(vec![Some(result)]) })
    }

    fn hang_in(&self, index: u32, part: Part<T>) -> Option<Box<Aftermath>> {
        let count = part.len();
        let mut state = self.state.lock();
        state.settled += count;
        state.came.add(index, count);
        state.failed += part.failed();
        state.order.push(index);
        let mut leftover = None;
        let inheriting = !state.heirs.is_empty();
        let heirs = if inheriting { state.heirs[index as usize..][..count as usize].to_vec() } else { Vec::new() };
        let part = if inheriting {
            Some(part)
        } else if self.handles.load(Ordering::Acquire) == 0 {
            leftover = std::mem::needs_drop::<T>().then(|| Box::new(part) as Box<dyn Send>);
            None
        } else {
            state.parts.insert(index, part);
            None
        };
        let is_done = state.settled == self.len;
        if is_done {
            self.is_done.store(true, Ordering::Release);
        }
        let mut wakers = Vec::new();
        if !state.expecting.is_empty() {
            let expecting = std::mem::take(&mut state.expecting);
            let (told, others) = expecting.into_iter().partition(|&(wish, _)| self.is_fulfilled(&state, wish));
            wakers = told;
            state.expecting = others;
        }
        let callbacks = if is_done { std::mem::take(&mut state.callbacks) } else { Vec::new() };
        state.are_callbacks_called = !callbacks.is_empty();
        drop(state);
        // Outside the lock: whoever wakes may come back at once.
        wakers.into_iter().for_each(|(_, waker): (Wish, Waker)| catch::wake(waker));
        let others = part.map_or_else(Vec::new, |part| inherit(&heirs, part));
        if callbacks.is_empty() && leftover.is_none() && others.is_empty() {
            return None;
        }
        Some(Box::new(Aftermath { callbacks: callbacks.into(), leftover, others, ..Aftermath::default() }))
    }
}

/// Gives each item of a part to its own result. Returns what is left to do.
fn inherit<T: Send + 'static>(heirs: &[Arc<One<T>>], part: Part<T>) -> Vec<Aftermath> {
    let run_of = |at| Run { status: part.status(at), ..part.run.clone() };
    let runs: Vec<Run> = (0..part.len()).map(run_of).collect();
    let give = |((run, content), heir): ((Run, Content<T>), &Arc<One<T>>)| {
        let mut aftermath = heir.give(run, content)?;
        if !aftermath.callbacks.is_empty() {
            aftermath.more = Some(MoreCallbacks::of(heir.clone(), 0));
        }
        Some(*aftermath)
    };
    runs.into_iter().zip(part.into_contents()).zip(heirs).filter_map(give).collect()
}
