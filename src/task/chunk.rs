//! Many calls of one function that travel together: the items of a map.
//!
//! Each item is a task with an id and an outcome of its own. Between caller and engine they are one [`Chunk`],
//! cut into smaller ones on the way, so that what a hop costs is paid once for many. The engine makes the
//! calls one after the other; those it has not begun can be taken back from it at any time, through
//! [`ChunkRest`].

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ErasedTask, ErasedValue, Status, Task, TaskContext, TaskFailure, TaskKind, Value, WireCall, WireValue};
use crate::catch;
use crate::error::TaskError;

/// Calls of one function.
///
/// An item that was cancelled on the way is a hole: the others keep their places.
///
/// ```
/// use callboard::prelude::*;
/// use callboard::task::{Chunk, ErasedTask};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let mut chunk = Chunk::new((0..10).map(square));
/// let front = chunk.split_front(4).expect("it has more than that");
/// assert_eq!((front.count(), chunk.count()), (4, 6));
/// ```
pub struct Chunk<T: Task> {
    items: VecDeque<Option<T>>,
    /// How many of them are not holes.
    live: usize,
}

/// A chunk that an engine works on.
pub trait ChunkRun: Send {
    /// Makes the calls, one after the other, until none is left.
    ///
    /// A panic in one call ends this early: note it with [`on_panic`](Self::on_panic) and come back.
    fn run(&mut self, cx: &mut TaskContext, events: &dyn ItemEvents);

    /// Notes that the call that was being made panicked.
    fn on_panic(&mut self, cx: &mut TaskContext, error: TaskError);

    /// Returns the place from which others may take what has not begun.
    fn rest(&self) -> Arc<dyn ChunkRest>;

    /// Returns how many calls were made, what they returned, and the others that are to be made: where values are
    /// encoded, as many are made in one go as go together.
    fn finish(self: Box<Self>) -> (u32, Value, Option<Box<dyn ChunkRun>>);
}

/// What a chunk at work tells whoever has it made.
pub trait ItemEvents {
    /// A call that came from another process begins; called before any code of its task.
    fn begins(&self, cx: &TaskContext);

    /// A call has failed: makes an error of that.
    fn failed(&self, cx: &TaskContext, failure: TaskFailure) -> TaskError;
}

/// What an engine has not begun of a chunk.
pub trait ChunkRest: Send + Sync {
    /// Takes the calls that have not begun: how many, and the calls. They are the last ones of the chunk.
    fn take(&self) -> Option<(u32, Box<dyn ErasedTask>)>;

    /// Returns how many calls have not begun.
    fn left(&self) -> u32;
}

/// What the calls of a chunk returned, in order.
pub(crate) struct ChunkValue<T> {
    /// Cut at the front, often: a list that would move or copy the rest each time would not do.
    pub(crate) results: VecDeque<Result<T, TaskError>>,
    /// How the first of those that failed ended.
    failed: Option<Status>,
}

impl<T: Task> Chunk<T> {
    /// Makes a chunk of calls.
    pub fn new(tasks: impl IntoIterator<Item = T>) -> Self {
        let items: VecDeque<Option<T>> = tasks.into_iter().map(Some).collect();
        Self { live: items.len(), items }
    }

    /// Takes the items out of `items`, as a chunk of their own.
    fn of_items(items: VecDeque<Option<T>>) -> Box<Self> {
        Box::new(Self { live: items.iter().flatten().count(), items })
    }
}

impl<T: Task> ErasedTask for Chunk<T> {
    fn kind(&self) -> &'static TaskKind {
        T::kind()
    }

    /// Makes the first call. A chunk of several is run as one, by [`as_chunk`](ErasedTask::as_chunk).
    fn run(mut self: Box<Self>, cx: &TaskContext) -> Result<Value, TaskFailure> {
        match self.items.pop_front().flatten() {
            Some(task) => task.run(cx).map(Value::of),
            None => Err(TaskFailure::new("the call was cancelled before")),
        }
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        Some(Box::new(Self { items: self.items.clone(), live: self.live }))
    }

    /// Encodes the item, if it is a single one and no hole.
    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        let mut inline = Vec::new();
        let encoded = if self.count() == 1 { self.encode_item(0, &mut inline) } else { None };
        encoded.map(|encoded| {
            encoded.map(|()| WireCall { key: T::kind().key, count: 1, inline: inline.into(), blobs: Vec::new() })
        })
    }

    fn encode_item(&self, at: u32, to: &mut Vec<u8>) -> Option<Result<(), postcard::Error>> {
        let item = self.items.get(at as usize)?.as_ref()?;
        Some(postcard::to_io(item, to).map(drop))
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<T>()
    }

    fn count(&self) -> u32 {
        self.items.len() as u32
    }

    fn split_front(&mut self, count: u32) -> Option<Box<dyn ErasedTask>> {
        let count = count as usize;
        if count >= self.items.len() {
            return None;
        }
        let front: VecDeque<_> = self.items.drain(..count).collect();
        let is_whole = self.live == self.items.len() + count;
        let front = if is_whole { Box::new(Self { live: count, items: front }) } else { Self::of_items(front) };
        self.live -= front.live;
        Some(front)
    }

    fn punch(&mut self, from: u32, count: u32) -> Option<Box<dyn ErasedTask>> {
        let items = self.items.iter_mut().skip(from as usize).take(count as usize);
        let taken: VecDeque<_> = items.filter_map(Option::take).map(Some).collect();
        self.live -= taken.len();
        (!taken.is_empty()).then(|| Box::new(Self { live: taken.len(), items: taken }) as Box<dyn ErasedTask>)
    }

    fn live(&self) -> u32 {
        self.live as u32
    }

    fn as_chunk(&mut self) -> Option<Box<dyn ChunkRun>> {
        if self.items.len() < 2 {
            return None;
        }
        self.live = 0;
        let items = std::mem::take(&mut self.items);
        let done = Vec::with_capacity(items.len());
        Some(Box::new(Working { rest: Arc::new(Rest(Mutex::new(items))), done, failed: None }))
    }
}

impl<T: Task> Drop for Chunk<T> {
    fn drop(&mut self) {
        // One by one: the second panic of a list that is dropped as a whole would end the process.
        std::mem::take(&mut self.items).into_iter().for_each(catch::discard);
    }
}

impl<T: Task> fmt::Debug for Chunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} of {})", self.items.len(), T::NAME)
    }
}

/// A chunk at work.
struct Working<T: Task> {
    rest: Arc<Rest<T>>,
    done: Vec<Result<T::Output, TaskError>>,
    failed: Option<Status>,
}

/// The items that have not begun. The lock is held to take one out, never while it runs.
struct Rest<T>(Mutex<VecDeque<Option<T>>>);

impl<T: Task> ChunkRun for Working<T> {
    fn run(&mut self, cx: &mut TaskContext, events: &dyn ItemEvents) {
        loop {
            let Some(item) = self.rest.0.lock().pop_front() else { return };
            match item.map(|task| task.run(cx)) {
                Some(Ok(value)) => self.done.push(Ok(value)),
                Some(Err(failure)) => self.note(events.failed(cx, failure)),
                // Its outcome is known to the result store already, which drops this one.
                None => self.done.push(Err(TaskError::Disconnected)),
            }
            cx.task = cx.task.plus(1);
        }
    }

    fn on_panic(&mut self, cx: &mut TaskContext, error: TaskError) {
        self.note(error);
        cx.task = cx.task.plus(1);
    }

    fn rest(&self) -> Arc<dyn ChunkRest> {
        self.rest.clone()
    }

    fn finish(self: Box<Self>) -> (u32, Value, Option<Box<dyn ChunkRun>>) {
        let Self { done, failed, .. } = *self;
        (done.len() as u32, Value::Typed(Box::new(ChunkValue { results: done.into(), failed })), None)
    }
}

impl<T: Task> Working<T> {
    fn note(&mut self, error: TaskError) {
        self.failed.get_or_insert(error.status());
        self.done.push(Err(error));
    }
}

impl<T: Task> ChunkRest for Rest<T> {
    fn take(&self) -> Option<(u32, Box<dyn ErasedTask>)> {
        let items = std::mem::take(&mut *self.0.lock());
        let count = items.len() as u32;
        (count > 0).then(|| (count, Chunk::of_items(items) as Box<dyn ErasedTask>))
    }

    fn left(&self) -> u32 {
        self.0.lock().len() as u32
    }
}

impl<T: Send + 'static> ErasedValue for ChunkValue<T> {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<T>()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn split_front(&mut self, count: u32) -> Option<Box<dyn ErasedValue>> {
        let count = count as usize;
        if count >= self.results.len() {
            return None;
        }
        let front = self.results.drain(..count).collect();
        // Which part the failure is in does not matter: whoever reads the results finds it.
        Some(Box::new(Self { results: front, failed: self.failed }))
    }

    fn failed(&self) -> Option<Status> {
        self.failed
    }

    fn ends(&self) -> Vec<(Status, u32)> {
        let mut ends: Vec<(Status, u32)> = Vec::new();
        if self.failed.is_none() {
            return ends;
        }
        for result in &self.results {
            let status = result.as_ref().err().map_or(Status::Done, TaskError::status);
            match ends.last_mut() {
                Some((last, count)) if *last == status => *count += 1,
                _ => ends.push((status, 1)),
            }
        }
        ends
    }
}

impl<T> Drop for ChunkValue<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            std::mem::take(&mut self.results).into_iter().for_each(catch::discard);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::task::{Payload, TaskId};

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Halve(u32);

    impl Task for Halve {
        type Output = u32;
        const NAME: &'static str = "chunk::Halve";
        fn run(self, _: &TaskContext) -> Result<u32, TaskFailure> {
            match self.0 {
                13 => panic!("thirteen"),
                odd if odd % 2 == 1 => Err(TaskFailure::new("odd")),
                even => Ok(even / 2),
            }
        }
    }

    struct Told;

    impl ItemEvents for Told {
        fn begins(&self, _: &TaskContext) {}

        fn failed(&self, cx: &TaskContext, failure: TaskFailure) -> TaskError {
            TaskError::Cancelled { reason: format!("{} at {}", failure.text(), cx.task_id().seq).into() }
        }
    }

    /// Makes the calls of a chunk as an engine does; returns what each gave, and the id that each ran under.
    fn run(chunk: &mut dyn ErasedTask) -> Vec<Result<u32, String>> {
        let mut run = chunk.as_chunk().expect("it has several items");
        let mut cx = TaskContext { task: TaskId { client: 1, seq: 100 }, ..TaskContext::here() };
        while let Err(message) = catch::user_code(|| run.run(&mut cx, &Told)) {
            run.on_panic(&mut cx, TaskError::Cancelled { reason: message });
        }
        let (count, value, _) = run.finish();
        let Value::Typed(value) = value else { unreachable!("it is made here") };
        let mut value = value.into_any().downcast::<ChunkValue<u32>>().unwrap_or_else(|_| unreachable!());
        assert_eq!(value.results.len(), count as usize);
        std::mem::take(&mut value.results).into_iter().map(|result| result.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn each_item_has_its_own_outcome_and_a_panic_ends_one_of_them() {
        let mut chunk = Chunk::new([4, 5, 13, 8].map(Halve));
        let results = run(&mut chunk);
        assert_eq!(results[0], Ok(2));
        assert_eq!(results[1], Err("cancelled: odd at 101".into()));
        assert_eq!(results[2], Err("cancelled: thirteen".into()));
        assert_eq!(results[3], Ok(4));
    }

    #[test]
    fn a_chunk_is_cut_at_the_front_and_its_holes_keep_their_places() {
        let mut chunk = Chunk::new((0..10).map(|x| Halve(2 * x)));
        let punched = chunk.punch(1, 2).expect("they are there");
        assert_eq!(punched.count(), 2);
        assert!(chunk.punch(1, 2).is_none(), "they are gone");
        assert!(chunk.split_front(10).is_none(), "that is all of it");
        let mut front = chunk.split_front(4).expect("there is more");
        assert_eq!((front.count(), chunk.count()), (4, 6));
        let lost = || Err(TaskError::Disconnected.to_string());
        assert_eq!(run(&mut *front), [Ok(0), lost(), lost(), Ok(3)]);
        assert_eq!(run(&mut chunk), (4..10).map(Ok).collect::<Vec<_>>());

        let mut chunk = Chunk::new((0..3).map(Halve));
        assert_eq!(chunk.live(), 3);
        drop(chunk.punch(0, 3));
        assert_eq!((chunk.live(), chunk.count()), (0, 3));
    }

    #[test]
    fn what_has_not_begun_can_be_taken_while_the_chunk_is_worked_on() {
        let mut chunk = Chunk::new((0..5).map(|x| Halve(2 * x)));
        let mut run = chunk.as_chunk().expect("it has several items");
        let rest = run.rest();
        let (count, mut taken) = rest.take().expect("nothing has begun");
        assert_eq!(count, 5);
        assert!(rest.take().is_none());
        run.run(&mut TaskContext::here(), &Told);
        assert_eq!(run.finish().0, 0);
        assert_eq!(super::tests::run(&mut *taken), (0..5).map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn a_chunk_of_one_is_a_call_like_any_other() {
        let mut chunk = Chunk::new([Halve(6)]);
        assert!(chunk.as_chunk().is_none());
        let Ok(Value::Typed(value)) = Box::new(chunk).run(&TaskContext::here()) else { panic!("it has a value") };
        assert_eq!(value.into_any().downcast::<crate::task::Typed<u32>>().unwrap_or_else(|_| unreachable!()).0, 3);
    }

    #[test]
    fn items_whose_drop_panics_are_dropped_one_by_one() {
        static DROPPED: AtomicU32 = AtomicU32::new(0);
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
                panic!("dropped");
            }
        }
        impl Task for Bad {
            type Output = ();
            const NAME: &'static str = "chunk::Bad";
            fn run(self, _: &TaskContext) -> Result<(), TaskFailure> {
                Ok(())
            }
        }
        drop(Payload::Typed(Box::new(Chunk::new([Bad, Bad, Bad]))));
        assert_eq!(DROPPED.load(Ordering::Relaxed), 3);
    }
}
