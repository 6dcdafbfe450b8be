//! Outcomes that came together: the items that an engine ran in one go, or a single task.

use std::collections::BTreeMap;

use super::one::{Decode, read_typed, read_wire};
use crate::catch;
use crate::error::TaskError;
use crate::task::{ChunkValue, EncodedValues, Outcome, Run, Status, TaskKind, Value};

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
    pub(super) fn read(kind: &TaskKind, decode: Decode<T>, count: u32, run: Run, outcome: Outcome) -> Self {
        let items = match outcome {
            Ok(value) => read_values(kind, decode, value, count),
            Err(error) => Items::None(error, count),
        };
        let status = match &items {
            // A value that cannot be read is known only here.
            Items::None(error, _) => error.status(),
            Items::Each(_) => run.status,
        };
        Self { run: Run { status, ..run }, items }
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
                None => Status::Done,
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
            Items::Each(items) => take_item(&mut items[at as usize]),
        }
    }

    /// Moves all outcomes out.
    pub(super) fn take_all(&mut self, to: &mut Vec<Result<T, TaskError>>) {
        match &mut self.items {
            Items::None(error, count) => to.extend((0..*count).map(|_| Err(error.clone()))),
            Items::Each(items) => to.extend(items.iter_mut().map(take_item)),
        }
    }

    /// Returns how many have no value.
    pub(super) fn failed(&self) -> u32 {
        match &self.items {
            Items::None(_, count) => *count,
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

/// Gives the values of a part their type back: those of a chunk, or that of a single task.
fn read_values<T: Send + 'static>(kind: &TaskKind, decode: Decode<T>, value: Value, count: u32) -> Items<T> {
    let each = |results: Vec<Result<T, TaskError>>| Items::Each(results.into_iter().map(Some).collect());
    let read = match value {
        Value::Wire(value) => read_wire(kind, decode, &value),
        Value::Typed(value) => {
            let value = match value.into_any().downcast::<ChunkValue<T>>() {
                // By way of a `Vec`, whose memory is used again where the sizes allow.
                Ok(mut chunk) if chunk.results.len() == count as usize => {
                    return each(Vec::from(std::mem::take(&mut chunk.results)));
                }
                Ok(chunk) => chunk,
                Err(value) => value,
            };
            match value.downcast::<EncodedValues>() {
                Ok(values) if values.len() == count => {
                    return each(values.read(|value| read_wire(kind, decode, value)));
                }
                Ok(values) => read_typed(kind, values),
                Err(value) => read_typed(kind, value),
            }
        }
    };
    match read {
        Ok(value) => Items::Each(vec![Some(Ok(value))]),
        Err(error) => Items::None(error, count),
    }
}
