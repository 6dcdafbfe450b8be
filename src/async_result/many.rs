//! The shared inside of an [`AsyncMapResult`](super::AsyncMapResult): where the result store puts the
//! outcomes of many tasks, a part at a time.
//!
//! A part is what came together: the items that an engine ran in one go, or one task. The result store only
//! hangs it in; the values are looked at by whoever wants them, on their own thread. Meanwhile the parts are
//! lent out, because no code of the user's runs under the lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use super::one::{Decode, One, read_typed, read_wire};
use crate::catch;
use crate::error::TaskError;
use crate::messages::{Aftermath, Callback, MoreCallbacks, Settle};
use crate::task::{ChunkValue, Extras, Moment, Outcome, Record, Run, Status, TaskId, TaskKind, Value};
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
    Each(Vec<TaskId>),
}

struct State<T> {
    parts: Parts<T>,
    /// The parts by the index of their first item, in the order in which they came.
    order: Vec<u32>,
    settled: u32,
    failed: u32,
    expecting: Vec<(Wish, Waker)>,
    callbacks: Vec<Callback>,
    /// Those that are registered meanwhile wait: callbacks of one result never run side by side.
    are_callbacks_called: bool,
    /// Who gets the values instead of the parts, one an item, after a split.
    heirs: Vec<Arc<One<T>>>,
    /// Who has the parts at the moment.
    lent_to: Option<ThreadId>,
}

/// The parts by the index of their first item.
pub(super) type Parts<T> = BTreeMap<u32, Part<T>>;

/// What came together.
pub(super) struct Part<T> {
    pub(super) run: Run,
    pub(super) items: Items<T>,
}

pub(super) enum Items<T> {
    /// An outcome each; `None` once its value was taken.
    Each(Vec<Option<Result<T, TaskError>>>),
    /// None of so many has a value, for one reason.
    None(TaskError, u32),
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        let Self::Each(items) = self else { return };
        if std::mem::needs_drop::<T>() {
            // One by one: the second panic of a list that is dropped as a whole would end the process.
            std::mem::take(items).into_iter().for_each(catch::discard);
        }
    }
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

    /// Makes a place for results that have ids already.
    pub(super) fn of_ids(ids: Vec<TaskId>, kind: &'static TaskKind, decode: Decode<T>) -> Arc<Self> {
        let len = ids.len() as u32;
        Arc::new(Self::with(Ids::Each(ids), len, kind, None, decode))
    }

    fn with(ids: Ids, len: u32, kind: &'static TaskKind, extras: Option<Arc<Extras>>, decode: Decode<T>) -> Self {
        let state = State {
            parts: Parts::new(),
            order: Vec::new(),
            settled: 0,
            failed: 0,
            expecting: Vec::new(),
            callbacks: Vec::new(),
            are_callbacks_called: false,
            heirs: Vec::new(),
            lent_to: None,
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

    /// Lends the settled parts to `look`, outside of the lock. `None` if the caller is within a look already.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut Parts<T>) -> R) -> Option<R> {
        let mut loan = self.lend()?;
        Some(look(&mut loan.parts))
    }

    /// Returns the index of the first item of the `nth` part that came.
    pub(super) fn nth_part(&self, nth: usize) -> Option<u32> {
        self.state.lock().order.get(nth).copied()
    }

    /// Returns the tasks that are not settled, by index and number.
    pub(super) fn pending(&self) -> Vec<(u32, u32)> {
        let mut settled = self.look(|parts| spans(parts).collect::<Vec<_>>()).unwrap_or_default();
        settled.push((self.len, 0));
        let (mut pending, mut next) = (Vec::new(), 0);
        for (index, count) in settled {
            if index > next {
                pending.push((next, index - next));
            }
            next = index + count;
        }
        pending
    }

    pub(super) fn record(&self, index: u32, run: Option<Run>) -> Record {
        Record::new(self.id_at(index), self.kind, self.extras.as_deref(), self.created, run)
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
            // While the parts are lent out only those that came since are here: whoever asks looks again.
            Wish::Item(index) => state.lent_to.is_some() || part_with(&state.parts, index).is_some(),
        }
    }

    fn lend(&self) -> Option<Loan<'_, T>> {
        loop {
            let mut state = self.state.lock();
            match state.lent_to {
                None => {
                    state.lent_to = Some(thread::current().id());
                    let parts = std::mem::take(&mut state.parts);
                    return Some(Loan { many: self, parts });
                }
                Some(borrower) if borrower == thread::current().id() => return None,
                Some(_) => drop(state),
            }
            // Only callbacks share a result with its owner, and a look is short.
            thread::sleep(LENT_POLL);
        }
    }

    /// Gives the values of a part their type.
    fn read(&self, count: u32, run: Run, outcome: Outcome) -> Part<T> {
        let items = match outcome {
            Ok(value) => read_values(self.kind, self.decode, value, count),
            Err(error) => Items::None(error, count),
        };
        let status = match &items {
            // A value that cannot be read is known only here.
            Items::None(error, _) => error.status(),
            Items::Each(_) => run.status,
        };
        Part { run: Run { status, ..run }, items }
    }
}

/// How long a thread sleeps before it asks again for parts that another thread looks at.
const LENT_POLL: Duration = Duration::from_micros(20);

/// The parts while somebody looks at them; put back when this is dropped, also by a panic.
struct Loan<'a, T: Send + 'static> {
    many: &'a Many<T>,
    parts: Parts<T>,
}

impl<T: Send + 'static> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        let mut state = self.many.state.lock();
        let came = std::mem::replace(&mut state.parts, std::mem::take(&mut self.parts));
        state.parts.extend(came);
        state.lent_to = None;
    }
}

impl<T> Identified for Many<T> {
    fn id_at(&self, index: u32) -> TaskId {
        match &self.ids {
            Ids::From(first) => first.plus(index),
            Ids::Each(ids) => ids[index as usize],
        }
    }
}

impl<T: Send + 'static> Settle for Many<T> {
    fn settle(&self, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        self.hang_in(index, self.read(count, run, outcome))
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

impl<T> Part<T> {
    pub(super) fn len(&self) -> u32 {
        match &self.items {
            Items::Each(items) => items.len() as u32,
            Items::None(_, count) => *count,
        }
    }

    /// Returns how the item at this place of the part ended.
    pub(super) fn status(&self, at: u32) -> Status {
        match &self.items {
            Items::None(error, _) => error.status(),
            Items::Each(items) => match &items[at as usize] {
                Some(Err(error)) => error.status(),
                Some(Ok(_)) => Status::Done,
                None => self.run.status,
            },
        }
    }

    /// Copies an outcome.
    pub(super) fn copy(&self, at: u32) -> Result<T, TaskError>
    where
        T: Clone,
    {
        match &self.items {
            Items::None(error, _) => Err(error.clone()),
            Items::Each(items) => items[at as usize].clone().unwrap_or(Err(TaskError::AlreadyTaken)),
        }
    }

    /// Moves an outcome out.
    pub(super) fn take(&mut self, at: u32) -> Result<T, TaskError> {
        match &mut self.items {
            Items::None(error, _) => Err(error.clone()),
            Items::Each(items) => items[at as usize].take().unwrap_or(Err(TaskError::AlreadyTaken)),
        }
    }

    fn failed(&self) -> u32 {
        match &self.items {
            Items::None(_, count) => *count,
            Items::Each(_) if self.run.status == Status::Done => 0,
            Items::Each(items) => items.iter().filter(|item| matches!(item, Some(Err(_)))).count() as u32,
        }
    }
}

/// Finds the part that an item is in, and its place there.
pub(super) fn part_with<T>(parts: &Parts<T>, index: u32) -> Option<(u32, u32)> {
    let (&first, part) = parts.range(..=index).next_back()?;
    (index - first < part.len()).then_some((first, index - first))
}

fn spans<T>(parts: &Parts<T>) -> impl Iterator<Item = (u32, u32)> {
    parts.iter().map(|(&index, part)| (index, part.len()))
}

/// Gives each item of a part to its own result. Returns what is left to do.
fn inherit<T: Send + 'static>(heirs: &[Arc<One<T>>], mut part: Part<T>) -> Vec<Aftermath> {
    let count = part.len();
    let give = |(at, heir): (u32, &Arc<One<T>>)| {
        let run = Run { status: part.status(at), ..part.run };
        let mut aftermath = heir.give(run, part.take(at))?;
        if !aftermath.callbacks.is_empty() {
            aftermath.more = Some(MoreCallbacks::of(heir.clone(), 0));
        }
        Some(*aftermath)
    };
    (0..count).zip(heirs).filter_map(give).collect()
}

/// Gives the values of a part their type back: those of a chunk, or that of a single task.
fn read_values<T: Send + 'static>(kind: &TaskKind, decode: Decode<T>, value: Value, count: u32) -> Items<T> {
    let read = match value {
        Value::Typed(value) => match value.into_any().downcast::<ChunkValue<T>>() {
            Ok(mut chunk) if chunk.results.len() == count as usize => {
                return Items::Each(std::mem::take(&mut chunk.results).into_iter().map(Some).collect());
            }
            Ok(chunk) => read_typed(kind, chunk),
            Err(value) => read_typed(kind, value),
        },
        Value::Wire(value) => read_wire(kind, decode, &value),
    };
    match read {
        Ok(value) => Items::Each(vec![Some(Ok(value))]),
        Err(error) => Items::None(error, count),
    }
}
