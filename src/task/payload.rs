//! What travels: a call and its value, as typed values inside a process, as bytes between processes.

use std::fmt;

use bytes::Bytes;

use super::{ErasedTask, ErasedValue, Status, Task, Typed};
use crate::catch::user_code;

/// A call on its way to an engine.
///
/// Its arguments are the user's types: drop it with [`discard`](crate::catch::discard) where a panicking
/// `Drop` must not do harm.
///
/// ```
/// use callboard::prelude::*;
/// use callboard::task::Payload;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let call = Payload::of(square(7));
/// assert_eq!((call.count(), call.needs_drop()), (1, false));
/// assert!(call.try_clone().is_some(), "it can be made again");
/// ```
pub enum Payload {
    /// In one process: the value itself, nothing is serialized.
    Typed(Box<dyn ErasedTask>),
    /// Between processes: the function's key and its encoded arguments.
    Wire(Box<WireCall>),
}

/// An encoded call.
///
/// ```
/// use callboard::prelude::*;
/// use callboard::task::Payload;
/// use callboard::{Registry, Task};
/// #[task(name = "doc::negate")]
/// fn negate(x: i64) -> i64 { -x }
///
/// let Payload::Typed(call) = Payload::of(negate(7)) else { panic!("nothing is encoded within a process") };
/// let wire = call.encode().expect("it is portable")?;
/// assert_eq!((wire.key, wire.count, &wire.inline[..]), (negate::kind().key, 1, &[14][..])); // 7, zigzag
/// assert!(Registry::new().with::<negate>().unwrap().decode(&wire).is_some());
/// # Ok::<(), postcard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireCall {
    /// [`TaskKind::key`](super::TaskKind::key) of the function.
    pub key: u64,
    /// How many calls these are; more than 1 if they are items of a map.
    pub count: u32,
    /// The arguments in postcard; of several calls, as `task/encoded/items.rs` has it.
    pub inline: Bytes,
    /// Large buffers, out of band.
    pub blobs: Vec<Bytes>,
}

/// What a call returned.
///
/// ```
/// use callboard::task::Value;
///
/// let Value::Typed(value) = Value::of(49_u64) else { panic!("nothing is encoded within a process") };
/// assert_eq!(value.encode().expect("it can be encoded")?.inline[..], [49]);
/// # Ok::<(), postcard::Error>(())
/// ```
pub enum Value {
    /// In one process: the value itself.
    Typed(Box<dyn ErasedValue>),
    /// Between processes: the encoded value.
    Wire(Box<WireValue>),
}

/// An encoded value.
///
/// ```
/// use callboard::task::{Value, WireValue};
///
/// let bytes = WireValue { inline: vec![49].into(), blobs: vec![] };
/// let value = Value::Wire(Box::new(bytes));
/// assert_eq!(format!("{value:?}"), "Value::Wire(1 bytes)"); // never the bytes themselves
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireValue {
    /// The value in postcard.
    pub inline: Bytes,
    /// Large buffers, out of band.
    pub blobs: Vec<Bytes>,
}

impl Payload {
    /// Wraps a task.
    pub fn of<T: Task>(task: T) -> Self {
        Self::Typed(Box::new(Typed(task)))
    }

    /// Returns a second copy of the call, for another attempt. Runs the user's `Clone`.
    pub fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Typed(task) => task.try_clone().map(Self::Typed),
            Self::Wire(call) => Some(Self::Wire(call.clone())),
        }
    }

    /// As `try_clone`; a `Clone` that panics leaves this call the last.
    pub(crate) fn second_copy(&self) -> Option<Self> {
        user_code(|| self.try_clone()).ok().flatten()
    }

    /// Returns whether dropping the call runs code of the user's.
    pub fn needs_drop(&self) -> bool {
        match self {
            Self::Typed(task) => task.needs_drop(),
            Self::Wire(_) => false,
        }
    }

    /// Returns how many tasks it stands for.
    pub fn count(&self) -> u32 {
        match self {
            Self::Typed(task) => task.count(),
            Self::Wire(call) => call.count,
        }
    }

    /// Takes the first `count` tasks out; `None` if there are not more than that.
    pub fn split_front(&mut self, count: u32) -> Option<Self> {
        match self {
            Self::Typed(task) => task.split_front(count).map(Self::Typed),
            Self::Wire(_) => None,
        }
    }

    /// Takes tasks out of the midst and leaves holes; `None` if there were none.
    pub fn punch(&mut self, from: u32, count: u32) -> Option<Self> {
        match self {
            Self::Typed(task) => task.punch(from, count).map(Self::Typed),
            Self::Wire(_) => None,
        }
    }

    /// Returns whether there is nothing left but holes.
    pub fn is_void(&self) -> bool {
        self.live() == 0
    }

    /// Returns whether this very program lacks the function: then only engines of other programs may run it.
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Typed(task) => task.is_foreign(),
            Self::Wire(_) => false,
        }
    }

    /// Returns how many of the tasks are no holes.
    pub fn live(&self) -> u32 {
        match self {
            Self::Typed(task) => task.live(),
            Self::Wire(call) => call.count,
        }
    }
}

impl Value {
    /// Wraps a value.
    pub fn of<T: serde::Serialize + Send + 'static>(value: T) -> Self {
        Self::Typed(Box::new(Typed(value)))
    }

    /// Returns whether dropping the value runs code of the user's.
    pub fn needs_drop(&self) -> bool {
        match self {
            Self::Typed(value) => value.needs_drop(),
            Self::Wire(_) => false,
        }
    }

    /// Takes the values of the first `count` tasks out; `None` if there are not more than that.
    pub fn split_front(&mut self, count: u32) -> Option<Self> {
        match self {
            Self::Typed(value) => value.split_front(count).map(Self::Typed),
            Self::Wire(_) => None,
        }
    }

    /// Returns how one of many tasks ended that has no value.
    pub fn failed(&self) -> Option<Status> {
        match self {
            Self::Typed(value) => value.failed(),
            Self::Wire(_) => None,
        }
    }

    /// Returns how each of many tasks ended, as so many in a row that ended alike; nothing if all have a value.
    pub fn ends(&self) -> Vec<(Status, u32)> {
        match self {
            Self::Typed(value) => value.ends(),
            Self::Wire(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(task) => write!(f, "Payload::Typed({})", task.kind().name),
            // Lengths, never the bytes: they may be a secret of the user's.
            Self::Wire(call) => write!(f, "Payload::Wire({} bytes)", call.inline.len()),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(_) => f.write_str("Value::Typed"),
            Self::Wire(value) => write!(f, "Value::Wire({} bytes)", value.inline.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_two_words() {
        assert_eq!(size_of::<Payload>(), 16);
        assert_eq!(size_of::<Value>(), 16);
    }
}
