//! Calls of one function that came as bytes, and how an engine makes them.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::item_writer::ItemWriter;
use super::items::{Item, Items};
use super::relayed::Relayed;
use super::values::EncodedValues;
use crate::catch;
use crate::error::{Coded, TaskError};
use crate::task::{
    ChunkRest, ChunkRun, ErasedTask, ItemEvents, Task, TaskContext, TaskFailure, TaskKind, Value, WireCall, beside_from,
};

/// Calls of one function that came as bytes. Each is read when its turn comes.
pub(crate) struct EncodedCalls<T> {
    rest: Arc<Rest<T>>,
    count: u32,
}

/// The calls that have not begun. The lock is held to take one out, never while it is read or runs.
struct Rest<T> {
    calls: Mutex<Items>,
    function: PhantomData<fn() -> T>,
}

impl<T: Task> EncodedCalls<T> {
    /// Takes calls as they came.
    ///
    /// # Errors
    /// Where they are not as many as they should be.
    pub(crate) fn read(call: &WireCall) -> Result<Self, postcard::Error> {
        let items = Items::new(call.inline.clone(), call.blobs.clone(), call.count);
        items.map(Self::of).ok_or(postcard::Error::DeserializeBadEncoding)
    }

    fn of(calls: Items) -> Self {
        Self { count: calls.count(), rest: Arc::new(Rest { calls: Mutex::new(calls), function: PhantomData }) }
    }
}

impl<T: Task> ErasedTask for EncodedCalls<T> {
    fn kind(&self) -> &'static TaskKind {
        T::kind()
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Err(TaskFailure::new("several calls are made one after the other"))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        Some(Box::new(Self::of(self.rest.calls.lock().clone())))
    }

    /// `None`: they are several.
    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn count(&self) -> u32 {
        self.count
    }

    fn as_chunk(&mut self) -> Option<Box<dyn ChunkRun>> {
        Some(Box::new(Working::of(self.rest.clone())))
    }
}

/// Items without a value that go together, at most: some kilobytes of text each, and a message takes 16 MiB.
const ERRORS_MAX: usize = 2_000;

/// Calls at work, whose values are encoded one by one.
struct Working<T> {
    rest: Arc<Rest<T>>,
    values: ItemWriter,
    errors: Vec<(u32, TaskError)>,
}

impl<T: Task> Working<T> {
    fn of(rest: Arc<Rest<T>>) -> Self {
        Self { rest, values: ItemWriter::default(), errors: Vec::new() }
    }

    fn make(&mut self, call: &Item, cx: &TaskContext, events: &dyn ItemEvents) -> Result<(), TaskError> {
        let task = match beside_from(&call.blobs, || postcard::take_from_bytes::<T>(&call.bytes)) {
            Ok((task, [])) => Ok(task),
            Ok(_) => Err(postcard::Error::DeserializeBadEncoding),
            Err(error) => Err(error),
        };
        let task = task.map_err(|error| TaskError::unreadable(Coded::Arguments, T::NAME, &error))?;
        let value = task.run(cx).map_err(|failure| events.failed(cx, failure))?;
        let put = self.values.put(|to| Some(postcard::to_io(&value, to).map(drop)));
        // It is written: a panic in its `Drop` does not undo that.
        catch::discard(value);
        put.map_err(|reason| TaskError::undecodable(Coded::Result, T::NAME, &reason))
    }

    fn fail(&mut self, error: TaskError) {
        self.errors.push((self.values.count(), error));
        self.values.put_nothing();
    }
}

impl<T: Task> ChunkRun for Working<T> {
    fn run(&mut self, cx: &mut TaskContext, events: &dyn ItemEvents) {
        while !self.values.is_full() && self.errors.len() < ERRORS_MAX {
            let Some(call) = self.rest.calls.lock().take() else { return };
            match call {
                Some(call) => {
                    events.begins(cx);
                    if let Err(error) = self.make(&call, cx, events) {
                        self.fail(error);
                    }
                }
                // Nobody waits for it, or whoever sent this knows why there is none.
                None => self.fail(TaskError::Disconnected),
            }
            cx.task = cx.task.plus(1);
        }
    }

    fn on_panic(&mut self, cx: &mut TaskContext, error: TaskError) {
        self.fail(error);
        cx.task = cx.task.plus(1);
    }

    fn rest(&self) -> Arc<dyn ChunkRest> {
        self.rest.clone()
    }

    fn finish(self: Box<Self>) -> (u32, Value, Option<Box<dyn ChunkRun>>) {
        let Self { rest, values, errors } = *self;
        let count = values.count();
        let values = Value::Typed(Box::new(EncodedValues::of(values, errors)));
        let is_over = rest.calls.lock().count() == 0;
        (count, values, (!is_over).then(|| Box::new(Self::of(rest)) as Box<dyn ChunkRun>))
    }
}

impl<T: Task> ChunkRest for Rest<T> {
    fn take(&self) -> Option<(u32, Box<dyn ErasedTask>)> {
        let calls = mem::take(&mut *self.calls.lock());
        let count = calls.count();
        // As it came: where it goes then, it may have to travel on.
        (count > 0).then(|| (count, Box::new(Relayed::rest(T::kind(), calls)) as Box<dyn ErasedTask>))
    }

    fn left(&self) -> u32 {
        self.calls.lock().count()
    }
}

impl<T> fmt::Debug for EncodedCalls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedCalls({})", self.count)
    }
}
