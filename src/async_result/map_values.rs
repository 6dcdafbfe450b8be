//! How values are copied and moved out of an [`AsyncMapResult`].

use super::map::AsyncMapResult;
use super::part::{Parts, part_with};
use crate::error::{CompositeError, TaskError};

impl<T: Send + 'static> AsyncMapResult<T> {
    /// Copies the outcome of a task that is settled.
    pub(super) fn copy_of(&self, index: u32) -> Result<T, TaskError>
    where
        T: Clone,
    {
        let copy = |parts: &mut Parts<T>| {
            let (part, at) = part_with(parts, index)?;
            parts.get_mut(&part).map(|part| part.copy(at))
        };
        self.many.look(copy).flatten().unwrap_or(Err(TaskError::AlreadyTaken))
    }

    /// Moves the outcome of a task out that is settled.
    pub(super) fn take_of(&self, index: u32) -> Result<T, TaskError> {
        let take = |parts: &mut Parts<T>| {
            let (part, at) = part_with(parts, index)?;
            parts.get_mut(&part).map(|part| part.take(at))
        };
        self.many.look(take).flatten().unwrap_or(Err(TaskError::AlreadyTaken))
    }

    /// Returns the first item that is not settled; how many there are if all are.
    pub(super) fn first_pending(&self) -> usize {
        self.many.pending().first().map_or(self.len(), |&(first, _)| first as usize)
    }

    /// Moves the outcomes of the `nth` part that came out, with the position of the first.
    pub(super) fn take_nth_part(&self, nth: usize) -> Option<(usize, Vec<Result<T, TaskError>>)> {
        let index = self.many.nth_part(nth)?;
        let take = |parts: &mut Parts<T>| {
            let part = parts.get_mut(&index)?;
            Some((0..part.len()).map(|at| part.take(at)).collect())
        };
        Some((index as usize, self.many.look(take).flatten().unwrap_or_default()))
    }

    /// Copies the outcomes of tasks that are all settled.
    pub(super) fn copies(&self) -> Vec<Result<T, TaskError>>
    where
        T: Clone,
    {
        let copy = |parts: &mut Parts<T>| {
            let mut all = Vec::with_capacity(self.len());
            for part in parts.values_mut() {
                all.extend((0..part.len()).map(|at| part.copy(at)));
            }
            all
        };
        self.whole(self.many.look(copy))
    }

    /// Moves the values of tasks out that are all settled.
    pub(super) fn move_out(&self) -> Result<Vec<T>, CompositeError> {
        all_or_errors(self.whole(self.many.look(take_all)))
    }

    /// Makes an error of each task whose outcome is elsewhere: with the results that this one was split into.
    pub(super) fn whole(&self, all: Option<Vec<Result<T, TaskError>>>) -> Vec<Result<T, TaskError>> {
        let mut all = all.unwrap_or_default();
        all.resize_with(self.len(), || Err(TaskError::AlreadyTaken));
        all
    }
}

/// Moves the outcomes out of all parts.
pub(super) fn take_all<T: Send + 'static>(parts: &mut Parts<T>) -> Vec<Result<T, TaskError>> {
    let mut all = Vec::with_capacity(parts.values().map(|part| part.len() as usize).sum());
    parts.values_mut().for_each(|part| part.take_all(&mut all));
    all
}

/// Parts values and errors: all values, or every error with its position.
pub(super) fn all_or_errors<T>(results: Vec<Result<T, TaskError>>) -> Result<Vec<T>, CompositeError> {
    let total = results.len();
    let (mut values, mut errors) = (Vec::with_capacity(total), Vec::new());
    for (position, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push((position, error)),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(CompositeError { errors, total }) }
}
