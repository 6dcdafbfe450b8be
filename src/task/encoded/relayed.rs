//! Calls that came as bytes and go on as bytes: from a client elsewhere to an engine elsewhere. Nobody on the way reads them.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;

use super::items::{Cursor, Item, Items};
use crate::task::{ErasedTask, TaskContext, TaskFailure, TaskKind, Value, WireCall, put_beside};

/// A call, or several of one function, as they came. A worker reads them by its registry.
pub(crate) struct Relayed {
    kind: &'static TaskKind,
    calls: Calls,
    is_foreign: bool,
}

#[derive(Clone)]
enum Calls {
    One {
        inline: Bytes,
        blobs: Vec<Bytes>,
    },
    /// With the place of the one that was encoded last, since they are encoded one after the other.
    Many(Items, Cell<Cursor>),
}

impl Calls {
    fn of(items: Items) -> Self {
        // By itself a call travels in another way, and a hole does not travel.
        if (items.count(), items.live()) == (1, 1)
            && let Some(Some(Item { bytes, blobs })) = items.clone().take()
        {
            return Self::One { inline: bytes, blobs };
        }
        Self::Many(items, Cell::default())
    }
}

impl Relayed {
    /// Takes items that have not begun.
    pub(super) fn rest(kind: &'static TaskKind, items: Items) -> Self {
        Self { kind, calls: Calls::of(items), is_foreign: false }
    }

    fn part(&self, items: Items) -> Self {
        Self { kind: self.kind, calls: Calls::of(items), is_foreign: self.is_foreign }
    }
}

#[cfg(any(feature = "remote", test))]
impl Relayed {
    /// Takes calls as they came; `None` if they are not as many as it is said.
    pub(crate) fn new(kind: &'static TaskKind, call: WireCall) -> Option<Self> {
        let WireCall { count, inline, blobs, .. } = call;
        let calls = match count {
            1 => Calls::One { inline, blobs },
            _ => Calls::of(Items::new(inline, blobs, count).filter(|items| items.count() > 0)?),
        };
        Some(Self { kind, calls, is_foreign: false })
    }

    /// Returns how long it is.
    pub(crate) fn bytes(&self) -> usize {
        match &self.calls {
            Calls::One { inline, blobs } => inline.len() + blobs.iter().map(Bytes::len).sum::<usize>(),
            Calls::Many(items, _) => items.bytes(),
        }
    }

    /// Says that this very program has no such function.
    pub(crate) fn foreign(self) -> Self {
        Self { is_foreign: true, ..self }
    }
}

impl ErasedTask for Relayed {
    fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Err(TaskFailure::new("a call that came as bytes is read before it runs"))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        Some(Box::new(Self { calls: self.calls.clone(), ..*self }))
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        let Calls::One { inline, blobs } = &self.calls else { return None };
        put_beside(blobs);
        Some(Ok(WireCall { key: self.kind.key, count: 1, inline: inline.clone(), blobs: Vec::new() }))
    }

    fn encode_item(&self, at: u32, to: &mut Vec<u8>) -> Option<Result<(), postcard::Error>> {
        let Calls::Many(items, cursor) = &self.calls else { return None };
        let mut place = cursor.get();
        let item = items.peek(at, &mut place);
        cursor.set(place);
        let (bytes, blobs) = item?;
        to.extend_from_slice(bytes);
        put_beside(blobs);
        Some(Ok(()))
    }

    fn to_wire(&mut self) -> Option<WireCall> {
        let count = self.count();
        let (inline, blobs) = match &mut self.calls {
            Calls::One { inline, blobs } => (std::mem::take(inline), std::mem::take(blobs)),
            Calls::Many(items, _) => std::mem::take(items).into_parts(),
        };
        Some(WireCall { key: self.kind.key, count, inline, blobs })
    }

    fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn count(&self) -> u32 {
        match &self.calls {
            Calls::One { .. } => 1,
            Calls::Many(items, _) => items.count(),
        }
    }

    fn split_front(&mut self, count: u32) -> Option<Box<dyn ErasedTask>> {
        let Calls::Many(items, _) = &mut self.calls else { return None };
        let front = items.split_front(count)?;
        self.calls = Calls::of(std::mem::take(items));
        Some(Box::new(self.part(front)))
    }

    fn punch(&mut self, from: u32, count: u32) -> Option<Box<dyn ErasedTask>> {
        let Calls::Many(items, _) = &mut self.calls else { return None };
        let taken = items.punch(from, count)?;
        self.calls = Calls::of(std::mem::take(items));
        Some(Box::new(self.part(taken)))
    }

    fn live(&self) -> u32 {
        match &self.calls {
            Calls::One { .. } => 1,
            Calls::Many(items, _) => items.live(),
        }
    }
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relayed({} of {})", self.count(), self.kind.name)
    }
}
