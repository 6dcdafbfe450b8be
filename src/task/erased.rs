//! Tasks and values without their types: what an engine, a queue and a wire do with any of them.

use std::any::Any;

use super::{ChunkRun, Status, Task, TaskContext, TaskFailure, TaskKind, Value, WireCall, WireValue};

/// A task without its type: what an engine does with a call.
///
/// ```
/// use callboard::prelude::*;
/// use callboard::task::{Closure, ErasedTask, Typed};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let calls: [Box<dyn ErasedTask>; 2] = [Box::new(Typed(square(7))), Box::new(Closure(|| 49))];
/// let names = calls.each_ref().map(|call| call.kind().short_name());
/// assert_eq!(names, ["square", "closure"]);
/// assert!(calls[1].encode().is_none(), "a closure stays in its process");
/// ```
pub trait ErasedTask: Send {
    /// Returns what is known of the function.
    fn kind(&self) -> &'static TaskKind;
    /// Does the work.
    ///
    /// # Errors
    /// As [`Task::run`].
    fn run(self: Box<Self>, cx: &TaskContext) -> Result<Value, TaskFailure>;
    /// Returns a second copy of the call, for another attempt; `None` if it can be made only once.
    fn try_clone(&self) -> Option<Box<dyn ErasedTask>>;
    /// Encodes the arguments; `None` if the call cannot leave this process, or they are several calls.
    fn encode(&self) -> Option<Result<WireCall, postcard::Error>>;
    /// Encodes the arguments of the call at this place of several, behind what is in `to`; `None` if it is a hole.
    fn encode_item(&self, _at: u32, _to: &mut Vec<u8>) -> Option<Result<(), postcard::Error>> {
        None
    }
    /// Takes the call out as it came, if it came as bytes: whoever runs it reads it first.
    fn to_wire(&mut self) -> Option<WireCall> {
        None
    }
    /// Returns whether dropping the call runs code.
    fn needs_drop(&self) -> bool;
    /// Returns how many tasks it stands for; more than one if it is a [`Chunk`](super::Chunk).
    fn count(&self) -> u32 {
        1
    }
    /// Takes the first `count` tasks out; `None` if there are not more than that.
    fn split_front(&mut self, _count: u32) -> Option<Box<dyn ErasedTask>> {
        None
    }
    /// Takes `count` tasks out and leaves holes, so that the others keep their places; `None` if there were none.
    fn punch(&mut self, _from: u32, _count: u32) -> Option<Box<dyn ErasedTask>> {
        None
    }
    /// Returns how many of the tasks are no holes.
    fn live(&self) -> u32 {
        self.count()
    }
    /// Returns whether this very program lacks the function: then only engines of other programs may run it.
    fn is_foreign(&self) -> bool {
        false
    }
    /// Takes all tasks out, to be run one after the other; `None` if it is a single one.
    fn as_chunk(&mut self) -> Option<Box<dyn ChunkRun>> {
        None
    }
}

/// A task's value without its type.
///
/// ```
/// use callboard::task::{ErasedValue, Typed};
///
/// let value: Box<dyn ErasedValue> = Box::new(Typed(String::from("hello")));
/// assert!(value.needs_drop());
/// let text = value.into_any().downcast::<Typed<String>>().expect("it is a text");
/// assert_eq!(text.0, "hello");
/// ```
pub trait ErasedValue: Send {
    /// Encodes the value; `None` if it cannot leave this process.
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>>;
    /// Returns whether dropping the value runs code.
    fn needs_drop(&self) -> bool;
    /// Turns the value into one that can be downcast to its type.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    /// Takes the first `count` values out; `None` if there are not more than that.
    fn split_front(&mut self, _count: u32) -> Option<Box<dyn ErasedValue>> {
        None
    }
    /// Returns how one of many tasks ended that has no value.
    fn failed(&self) -> Option<Status> {
        None
    }
    /// Returns how each of many tasks ended, as so many in a row that ended alike; nothing if all have a value.
    fn ends(&self) -> Vec<(Status, u32)> {
        Vec::new()
    }
}

/// A task or a value whose type can be encoded.
///
/// ```
/// use callboard::prelude::*;
/// use callboard::task::{ErasedTask, Typed};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// assert_eq!(Typed(square(7)).kind().short_name(), "square");
/// ```
#[derive(Debug)]
pub struct Typed<T>(pub T);

impl<T: Task> ErasedTask for Typed<T> {
    fn kind(&self) -> &'static TaskKind {
        T::kind()
    }

    fn run(self: Box<Self>, cx: &TaskContext) -> Result<Value, TaskFailure> {
        self.0.run(cx).map(Value::of)
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        Some(Box::new(Typed(self.0.clone())))
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        let encoded = postcard::to_stdvec(&self.0);
        Some(encoded.map(|inline| WireCall { key: T::kind().key, count: 1, inline: inline.into(), blobs: Vec::new() }))
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<T>()
    }
}

impl<T: serde::Serialize + Send + 'static> ErasedValue for Typed<T> {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        let encoded = postcard::to_stdvec(&self.0);
        Some(encoded.map(|inline| WireValue { inline: inline.into(), blobs: Vec::new() }))
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<T>()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        // `Typed<T>` and not `T`: the box is handed on as it is, without a second allocation.
        self
    }
}
