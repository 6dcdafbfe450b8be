//! Outcomes that came together: the items that an engine ran in one go, or a single task.

use std::collections::BTreeMap;

use super::held::Content;
use super::one::{Decode, read_typed, read_wire};
use crate::catch;
use crate::error::TaskError;
use crate::task::{ChunkValue, EncodedValues, Outcome, Run, Status, TaskKind, Value, WireValue};

/// The parts by the index of their first item.
pub(super) type Parts<T> = BTreeMap<u32, Part<T>>;

/// What came together.
pub(super) struct Part<T> {
    pub(super) run: Run,
    pub(super) items: Items<T>,
}

pub(super) enum Items<T> {
    /// An outcome each; `None` once its value was taken. Errors stay.
    Each(Vec<Option<Result<T, TaskError>>>),
    /// None of so many has a value, for one reason.
    None(TaskError, u32),
    /// They came as bytes, which nobody has read; `None` while they are.
    Encoded(Option<Encoded<T>>),
}

/// Values that came as bytes, and how they are read.
pub(super) struct Encoded<T> {
    bytes: EncodedBytes,
    kind: &'static TaskKind,
    decode: Decode<T>,
}

enum EncodedBytes {
    One(Box<WireValue>),
    Each(Box<EncodedValues>),
}

impl<T> Encoded<T> {
    fn len(&self) -> u32 {
        match &self.bytes {
            EncodedBytes::One(_) => 1,
            EncodedBytes::Each(values) => values.len(),
        }
    }

    fn status(&self, at: u32) -> Status {
        match &self.bytes {
            EncodedBytes::One(_) => Status::Done,
            EncodedBytes::Each(values) => values.status(at),
        }
    }

    fn failed(&self) -> u32 {
        match &self.bytes {
            EncodedBytes::One(_) => 0,
            EncodedBytes::Each(values) => values.failures(),
        }
    }

    fn into_contents(self) -> Vec<Content<T>> {
        match self.bytes {
            EncodedBytes::One(value) => vec![Content::Bytes(value)],
            EncodedBytes::Each(values) => {
                let content = |item: Result<_, _>| {
                    item.map_or_else(|error| Content::Read(Err(error)), |value| Content::Bytes(Box::new(value)))
                };
                values.into_items().map(content).collect()
            }
        }
    }

    fn read(self) -> Vec<Result<T, TaskError>> {
        let read = |value: &WireValue| read_wire(self.kind, self.decode, value);
        match self.bytes {
            EncodedBytes::One(value) => vec![read(&value)],
            EncodedBytes::Each(values) => values.read(read),
        }
    }
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

impl<T: Send + 'static> Part<T> {
    /// Gives the values of a part their type.
    pub(super) fn of(kind: &'static TaskKind, decode: Decode<T>, count: u32, run: Run, outcome: Outcome) -> Self {
        let items = match outcome {
            Ok(value) => read_values(kind, decode, value, count),
            Err(error) => Items::None(error, count),
        };
        let status = match &items {
            // A value that cannot be read is known only here.
            Items::None(error, _) => error.status(),
            Items::Each(_) | Items::Encoded(_) => run.status,
        };
        Self { run: Run { status, ..run }, items }
    }
}

impl<T> Part<T> {
    pub(super) fn len(&self) -> u32 {
        match &self.items {
            Items::Each(items) => items.len() as u32,
            Items::None(_, count) => *count,
            Items::Encoded(encoded) => encoded.as_ref().map_or(0, Encoded::len),
        }
    }

    /// Returns how the item at this place of the part ended.
    pub(super) fn status(&self, at: u32) -> Status {
        match &self.items {
            Items::None(error, _) => error.status(),
            Items::Encoded(encoded) => encoded.as_ref().map_or(Status::Done, |encoded| encoded.status(at)),
            Items::Each(items) => match &items[at as usize] {
                Some(Err(error)) => error.status(),
                Some(Ok(_)) => Status::Done,
                None => Status::Done,
            },
        }
    }

    /// Copies an outcome.
    pub(super) fn copy(&mut self, at: u32) -> Result<T, TaskError>
    where
        T: Clone,
    {
        match self.read() {
            Items::Encoded(_) => unreachable!("it was read"),
            Items::None(error, _) => Err(error.clone()),
            Items::Each(items) => items[at as usize].clone().unwrap_or(Err(TaskError::AlreadyTaken)),
        }
    }

    /// Moves an outcome out.
    pub(super) fn take(&mut self, at: u32) -> Result<T, TaskError> {
        match self.read() {
            Items::Encoded(_) => unreachable!("it was read"),
            Items::None(error, _) => Err(error.clone()),
            Items::Each(items) => take_item(&mut items[at as usize]),
        }
    }

    /// Reads the values, if that was not done. Runs the user's `Deserialize`, behind `catch`.
    fn read(&mut self) -> &mut Items<T> {
        if let Items::Encoded(encoded) = &mut self.items
            && let Some(encoded) = encoded.take()
        {
            self.items = Items::Each(encoded.read().into_iter().map(Some).collect());
        }
        &mut self.items
    }

    /// Moves all outcomes out, those that came as bytes unread.
    pub(super) fn into_contents(mut self) -> Vec<Content<T>> {
        if let Items::Encoded(encoded) = &mut self.items
            && let Some(encoded) = encoded.take()
        {
            return encoded.into_contents();
        }
        let mut all = Vec::new();
        self.take_all(&mut all);
        all.into_iter().map(Content::Read).collect()
    }

    /// Moves all outcomes out.
    pub(super) fn take_all(&mut self, to: &mut Vec<Result<T, TaskError>>) {
        match self.read() {
            Items::Encoded(_) => unreachable!("it was read"),
            Items::None(error, count) => to.extend((0..*count).map(|_| Err(error.clone()))),
            Items::Each(items) => to.extend(items.iter_mut().map(take_item)),
        }
    }

    /// Returns how many have no value.
    pub(super) fn failed(&self) -> u32 {
        match &self.items {
            Items::None(_, count) => *count,
            Items::Encoded(encoded) => encoded.as_ref().map_or(0, Encoded::failed),
            Items::Each(_) if self.run.status == Status::Done => 0,
            Items::Each(items) => items.iter().filter(|item| matches!(item, Some(Err(_)))).count() as u32,
        }
    }
}

/// Moves one outcome out. An error stays.
fn take_item<T>(item: &mut Option<Result<T, TaskError>>) -> Result<T, TaskError> {
    match item {
        Some(Err(error)) => Err(error.clone()),
        _ => item.take().unwrap_or(Err(TaskError::AlreadyTaken)),
    }
}

/// Finds the part that an item is in, and its place there.
pub(super) fn part_with<T>(parts: &Parts<T>, index: u32) -> Option<(u32, u32)> {
    let (&first, part) = parts.range(..=index).next_back()?;
    (index - first < part.len()).then_some((first, index - first))
}

/// Gives the values of a part their type back, those of a chunk or that of a single task; what came as bytes is read later.
fn read_values<T: Send + 'static>(kind: &'static TaskKind, decode: Decode<T>, value: Value, count: u32) -> Items<T> {
    let encoded = |bytes| Items::Encoded(Some(Encoded { bytes, kind, decode }));
    let value = match value {
        Value::Wire(value) => return encoded(EncodedBytes::One(value)),
        Value::Typed(value) => value.into_any(),
    };
    let value = match value.downcast::<ChunkValue<T>>() {
        // By way of a `Vec`, whose memory is used again where the sizes allow.
        Ok(mut chunk) if chunk.results.len() == count as usize => {
            let results = Vec::from(std::mem::take(&mut chunk.results));
            return Items::Each(results.into_iter().map(Some).collect());
        }
        Ok(chunk) => chunk,
        Err(value) => value,
    };
    let read = match value.downcast::<EncodedValues>() {
        Ok(values) if values.len() == count => return encoded(EncodedBytes::Each(values)),
        Ok(values) => read_typed(kind, values),
        Err(value) => read_typed(kind, value),
    };
    match read {
        Ok(value) => Items::Each(vec![Some(Ok(value))]),
        Err(error) => Items::None(error, count),
    }
}
