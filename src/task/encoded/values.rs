//! What several calls returned in another process. Read by whoever knows the type.

use std::any::Any;

use super::item_writer::ItemWriter;
use super::items::{Item, Items};
use crate::error::TaskError;
use crate::task::{ErasedValue, Status, WireValue};

/// What several calls returned in another process, in order.
#[derive(Debug)]
pub(crate) struct EncodedValues {
    /// Nothing where there is no value.
    values: Items,
    /// Why there is none, by place, in order.
    errors: Vec<(u32, TaskError)>,
}

#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nothing comes from elsewhere"))]
impl EncodedValues {
    pub(super) fn of(written: ItemWriter, errors: Vec<(u32, TaskError)>) -> Self {
        let count = written.count();
        let (bytes, blobs) = written.finish();
        Self { values: Items::new(bytes, blobs, count).unwrap_or_default(), errors }
    }

    /// Takes values as they came; `None` if they are not `count`, or the errors are not for just those that are missing.
    pub(crate) fn new(value: WireValue, count: u32, errors: Vec<(u32, TaskError)>) -> Option<Self> {
        let values = Items::new(value.inline, value.blobs, count)?;
        values.nothings().eq(errors.iter().map(|(at, _)| *at)).then_some(Self { values, errors })
    }

    /// Returns the values, and why there is none at some places.
    pub(crate) fn into_parts(self) -> (WireValue, Vec<(u32, TaskError)>) {
        let (inline, blobs) = self.values.into_parts();
        (WireValue { inline, blobs }, self.errors)
    }

    pub(crate) fn len(&self) -> u32 {
        self.values.count()
    }

    /// Returns how the item at this place ended.
    pub(crate) fn status(&self, at: u32) -> Status {
        let error =
            self.errors.binary_search_by_key(&at, |(failed, _)| *failed).ok().map(|found| &self.errors[found].1);
        error.map_or(Status::Done, TaskError::status)
    }

    /// Returns how many have no value.
    pub(crate) fn failures(&self) -> u32 {
        self.errors.len() as u32
    }

    /// Takes the items apart, unread.
    pub(crate) fn into_items(self) -> impl Iterator<Item = Result<WireValue, TaskError>> {
        let Self { mut values, errors } = self;
        let mut errors = errors.into_iter();
        std::iter::from_fn(move || match values.take()? {
            Some(Item { bytes: inline, blobs }) => Some(Ok(WireValue { inline, blobs })),
            None => errors.next().map(|(_, error)| Err(error)),
        })
    }

    /// Reads each value. Runs the user's `Deserialize`, behind `catch` if `read` does.
    pub(crate) fn read<T>(self, read: impl Fn(&WireValue) -> Result<T, TaskError>) -> Vec<Result<T, TaskError>> {
        self.into_items().map(|item| item.and_then(|value| read(&value))).collect()
    }
}

impl ErasedValue for EncodedValues {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn split_front(&mut self, count: u32) -> Option<Box<dyn ErasedValue>> {
        let values = self.values.split_front(count)?;
        let from = self.errors.partition_point(|(at, _)| *at < count);
        let behind = self.errors.split_off(from).into_iter().map(|(at, error)| (at - count, error)).collect();
        let errors = std::mem::replace(&mut self.errors, behind);
        Some(Box::new(Self { values, errors }))
    }

    fn failed(&self) -> Option<Status> {
        self.errors.first().map(|(_, error)| error.status())
    }

    fn ends(&self) -> Vec<(Status, u32)> {
        let mut ends: Vec<(Status, u32)> = Vec::new();
        let mut add = |status, n| match ends.last_mut() {
            Some((last, count)) if *last == status => *count += n,
            _ if n > 0 => ends.push((status, n)),
            _ => {}
        };
        let mut next = 0;
        for (at, error) in &self.errors {
            add(Status::Done, at - next);
            add(error.status(), 1);
            next = at + 1;
        }
        if next > 0 {
            add(Status::Done, self.len() - next);
        }
        ends
    }
}
