//! The shared inside of an [`AsyncResult`](super::AsyncResult): where the result store puts the outcome.

use std::any::Any;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::brief::Brief;
use super::handover::{Given, Handover};
use super::held::{Content, Held};
use super::many::Joined;
use crate::catch;
use crate::error::{Coded, TaskError};
use crate::messages::{Aftermath, Callback, Settle, TaskDone};
use crate::task::{Extras, Moment, Outcome, Record, Run, TaskId, TaskKind, Typed, Value, WireValue, beside_from};
use crate::views::Identified;

/// The shared inside of an [`AsyncResult`].
pub(crate) struct One<T> {
    pub(super) handover: Handover<Ended<T>, Callback>,
    pub(super) id: TaskId,
    pub(super) kind: &'static TaskKind,
    extras: Option<Arc<Extras>>,
    created: Moment,
    decode: Decode<T>,
}

/// How a value that came as bytes is read.
pub(super) type Decode<T> = fn(&TaskKind, &WireValue) -> Result<T, TaskError>;

/// A settled task, as its result remembers it.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub(super) held: Held<T>,
    pub(super) run: Brief,
}

impl<T: Send + 'static> One<T> {
    pub(crate) fn new(
        id: TaskId,
        kind: &'static TaskKind,
        extras: Option<Arc<Extras>>,
        decode: Decode<T>,
    ) -> Arc<Self> {
        Arc::new(Self { handover: Handover::new(), id, kind, extras, created: Moment::now(), decode })
    }

    /// Settles a task that was never submitted.
    pub(crate) fn refuse(&self, error: TaskError) {
        let run = Run::none(&error);
        // Nobody else has it yet, so there is nothing left to do.
        drop(self.settle(0, 1, run, Err(error)));
    }

    /// Reads a value that came as bytes. One that cannot be read is known only then: the record says so from there on.
    pub(super) fn read(&self, content: Content<T>) -> Result<T, TaskError> {
        let was_read = matches!(content, Content::Read(_));
        let outcome = content.read(|value| read_wire(self.kind, self.decode, value));
        if let (false, Err(error)) = (was_read, &outcome) {
            self.handover.change(|ended| ended.run.set_status(error.status()));
        }
        outcome
    }

    pub(super) fn record(&self) -> Record {
        self.record_of(self.run())
    }

    pub(super) fn run(&self) -> Option<Run> {
        self.handover.read(|ended| ended.map(|ended| ended.run.to_run()))
    }

    pub(super) fn joined(&self) -> Joined {
        Joined { id: self.id, kind: self.kind, extras: self.extras.clone(), created: self.created }
    }

    fn record_of(&self, run: Option<Run>) -> Record {
        Record::new(self.id, self.kind, self.extras.as_deref(), self.created, run)
    }
}

/// Gives a value its type back that never left this process.
pub(super) fn read_typed<T: 'static>(kind: &TaskKind, value: Box<dyn Any + Send>) -> Result<T, TaskError> {
    match value.downcast::<Typed<T>>() {
        Ok(value) => Ok(value.0),
        Err(other) => {
            catch::discard(other);
            Err(undecodable(kind, "it has another type than the caller expects".into()))
        }
    }
}

/// Reads a value that came as bytes, where a panicking `Deserialize` does no harm.
pub(super) fn read_wire<T>(kind: &TaskKind, decode: Decode<T>, value: &WireValue) -> Result<T, TaskError> {
    catch::user_code(|| decode(kind, value)).unwrap_or_else(|message| Err(undecodable(kind, message)))
}

/// Reads a value that came as bytes.
pub(crate) fn decode_value<T: DeserializeOwned>(kind: &TaskKind, value: &WireValue) -> Result<T, TaskError> {
    match beside_from(&value.blobs, || postcard::take_from_bytes::<T>(&value.inline)) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(undecodable(kind, format!("{} bytes too many", rest.len()).into())),
        Err(error) => Err(TaskError::unreadable(Coded::Result, kind.name, &error)),
    }
}

/// Refuses to read bytes where only a closure's value can come.
pub(crate) fn not_decodable<T>(_: &TaskKind, _: &WireValue) -> Result<T, TaskError> {
    Err(TaskError::NotPortable)
}

fn undecodable(kind: &TaskKind, reason: Box<str>) -> TaskError {
    TaskError::undecodable(Coded::Result, kind.name, &reason)
}

impl<T> Identified for One<T> {
    fn id_at(&self, _: u32) -> TaskId {
        self.id
    }
}

impl<T: Send + 'static> Settle for One<T> {
    fn next_callbacks(&self, _: u32) -> Vec<Callback> {
        self.handover.next_callbacks()
    }

    fn settle(&self, _: u32, _: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        let content = match outcome {
            Ok(Value::Wire(value)) => Content::Bytes(value),
            Ok(Value::Typed(value)) => Content::Read(read_typed(self.kind, value.into_any())),
            Err(error) => Content::Read(Err(error)),
        };
        let status = match &content {
            // A value of another type is known only here.
            Content::Read(Err(error)) => error.status(),
            Content::Read(Ok(_)) | Content::Bytes(_) => run.status,
        };
        self.give(Run { status, ..run }, content)
    }
}

impl<T: Send + 'static> One<T> {
    /// Gives the outcome to who waits. Returns what is left to do, if anything.
    pub(super) fn give(&self, run: Run, content: Content<T>) -> Option<Box<Aftermath>> {
        let ended = Ended { held: Held::Here(content), run: Brief::of(run.clone()) };
        let Given { callbacks, unwanted } = self.handover.give(ended);
        if callbacks.is_empty() && (unwanted.is_none() || !std::mem::needs_drop::<T>()) {
            return None;
        }
        // Not as it was given: of a value that nobody wants nothing is here.
        let done = (!callbacks.is_empty()).then(|| TaskDone { record: self.record_of(Some(run)) });
        let leftover = unwanted.map(|ended| Box::new(ended) as Box<dyn Send>);
        Some(Box::new(Aftermath { done, callbacks: callbacks.into(), more: None, leftover, others: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_small() {
        // With the counts of its `Arc` it is a piece of 160 bytes to the allocator, and would be the next size with a word more.
        assert!(size_of::<One<u64>>() <= 136, "{}", size_of::<One<u64>>());
    }
}
