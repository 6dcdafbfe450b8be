//! How a task ended, as a client elsewhere is told: errors and what was returned, to bytes and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catch::shortened;
use crate::error::{Coded, Place, TaskError};
use crate::task::{Attempt, EncodedValues, EngineId, Outcome, Printed, Span, Stream, TaskId, Value, WireValue};
use crate::wire::clients::{Returned, Trouble};
use crate::wire::protocol::Encoded;

/// Longest text of an error that travels, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// The same for each of several items, of which 2 000 go together at most.
pub(super) const ITEM_TEXT_BYTES_MAX: usize = 2 << 10;

/// Which execution of which task an error is about.
#[derive(Clone, Copy)]
pub(super) struct About {
    pub(super) task: TaskId,
    pub(super) name: &'static str,
    pub(super) attempt: Attempt,
}

/// Puts an outcome into a message.
pub(super) fn put(outcome: Outcome, buffers: &mut Vec<Bytes>) -> Result<Returned, Trouble> {
    match outcome {
        Ok(Value::Wire(value)) => Ok(Returned::One(Encoded::put(value.inline, value.blobs, buffers))),
        Ok(Value::Typed(value)) => {
            // A worker has encoded it: what came as bytes returns as bytes.
            let values = value.into_any().downcast::<EncodedValues>();
            let (values, errors) = values.map_err(|_| Trouble::Value("it was not encoded".into()))?.into_parts();
            let troubles = errors.into_iter().map(|(at, error)| (at, trouble(error, ITEM_TEXT_BYTES_MAX))).collect();
            Ok(Returned::Each { values: Encoded::put(values.inline, values.blobs, buffers), troubles })
        }
        Err(error) => Err(trouble(error, TEXT_BYTES_MAX)),
    }
}

/// Takes an outcome of `count` tasks out of a message.
///
/// # Errors
/// A sentence about what is wrong with it.
pub(super) fn take(
    returned: Result<Returned, Trouble>,
    count: u32,
    about: About,
    buffers: &[Bytes],
) -> Result<Outcome, Box<str>> {
    let taken = |encoded: Encoded| {
        let (inline, blobs) = encoded.take(buffers).ok_or("a value is in a buffer that did not come")?;
        Ok::<_, Box<str>>(WireValue { inline, blobs })
    };
    match returned {
        Ok(Returned::One(_)) if count != 1 => Err(format!("one value came for {count} tasks").into()),
        Ok(Returned::One(value)) => Ok(Ok(Value::Wire(Box::new(taken(value)?)))),
        Ok(Returned::Each { values, troubles }) => {
            let about = |at| About { task: about.task.plus(at), ..about };
            let errors = troubles.into_iter().map(|(at, trouble)| (at, error(trouble, about(at)))).collect();
            let values = EncodedValues::new(taken(values)?, count, errors);
            let values = values.ok_or_else(|| format!("what came are not the values of {count} tasks"))?;
            Ok(Ok(Value::Typed(Box::new(values))))
        }
        Err(trouble) => Ok(Err(error(trouble, about))),
    }
}

/// What of an error travels, with at most so many bytes of text.
pub(super) fn trouble(error: TaskError, text_bytes_max: usize) -> Trouble {
    let short =
        |text: Box<str>| if text.len() > text_bytes_max { shortened(&text, text_bytes_max).into() } else { text };
    match error {
        TaskError::Failed { place, text } => Trouble::Failed(place.engine, short(text)),
        TaskError::Panicked { place, message } => Trouble::Panicked(place.engine, short(message)),
        TaskError::Cancelled { reason } => Trouble::Cancelled(short(reason)),
        TaskError::TimedOut { deadline } => Trouble::TimedOut(ns(deadline)),
        TaskError::EngineLost { engine, attempt, cause } => Trouble::EngineLost(engine, attempt, short(cause)),
        TaskError::Overloaded { what, limit } => Trouble::Overloaded(what.into(), limit as u64),
        TaskError::NoEngines => Trouble::NoEngines,
        TaskError::UnknownTask { engine, task, lack } => Trouble::Unknown(engine, short(task), lack),
        TaskError::Undecodable { what: Coded::Arguments, text } => Trouble::Arguments(short(text)),
        TaskError::Undecodable { what: Coded::Result, text } => Trouble::Value(short(text)),
        TaskError::ResultEvicted => Trouble::Evicted,
        TaskError::Disconnected => Trouble::Disconnected,
        // No task of a client elsewhere ends so.
        other => Trouble::Failed(None, short(other.to_string().into())),
    }
}

/// Gives an error its place back.
pub(super) fn error(trouble: Trouble, about: About) -> TaskError {
    let About { task, name, attempt } = about;
    let place = |engine: Option<EngineId>| Box::new(Place { task, name, engine, attempt });
    match trouble {
        Trouble::Failed(engine, text) => TaskError::Failed { place: place(engine), text },
        Trouble::Panicked(engine, message) => TaskError::Panicked { place: place(engine), message },
        Trouble::Cancelled(reason) => TaskError::Cancelled { reason },
        Trouble::TimedOut(ns) => TaskError::TimedOut { deadline: Duration::from_nanos(ns) },
        Trouble::EngineLost(engine, attempt, cause) => TaskError::EngineLost { engine, attempt, cause },
        Trouble::Overloaded(what, limit) => {
            let known = ["tasks", "bytes", "sets of engines", "queues of functions", "functions"]
                .into_iter()
                .find(|known| **known == *what);
            TaskError::Overloaded { what: known.unwrap_or("things"), limit: usize::try_from(limit).unwrap_or(0) }
        }
        Trouble::NoEngines => TaskError::NoEngines,
        Trouble::Unknown(engine, task, lack) => TaskError::UnknownTask { engine, task, lack },
        Trouble::Arguments(text) => TaskError::Undecodable { what: Coded::Arguments, text },
        Trouble::Value(text) => TaskError::Undecodable { what: Coded::Result, text },
        Trouble::Evicted => TaskError::ResultEvicted,
        Trouble::Disconnected => TaskError::Disconnected,
    }
}

/// What was printed that travels with one outcome, in bytes.
const PRINTED_BYTES_MAX: usize = 4 << 20;

/// Tells what these tasks printed; of the last ones no more than a line each, where that is too much.
pub(super) fn told(printed: Option<Arc<Printed>>, tasks: Span) -> Vec<(TaskId, Stream, Box<str>)> {
    let (mut told, mut bytes) = (Vec::new(), 0);
    let texts = printed.iter().flat_map(|printed| printed.texts()).filter(|(task, ..)| tasks.contains(*task));
    for (task, stream, mut text) in texts {
        if bytes + text.len() > PRINTED_BYTES_MAX {
            text = format!("[{} bytes left out]", text.len()).into();
        }
        bytes += text.len();
        if bytes > 2 * PRINTED_BYTES_MAX {
            break;
        }
        told.push((task, stream, text));
    }
    told
}

/// Puts together what tasks printed.
pub(super) fn printed(told: Vec<(TaskId, Stream, Box<str>)>) -> Option<Arc<Printed>> {
    let mut printed = Printed::default();
    told.into_iter().for_each(|(task, stream, text)| printed.add(task, stream, &text, text.len()));
    (!printed.is_empty()).then(|| Arc::new(printed))
}

/// As nanoseconds, of which there are enough for 584 years.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Lack;

    #[test]
    fn every_error_that_a_task_may_end_with_comes_back_as_it_was() {
        let about = About { task: TaskId { client: 7, seq: 9 }, name: "square", attempt: Attempt(2) };
        let place =
            || Box::new(Place { task: about.task, name: "square", engine: Some(EngineId(3)), attempt: Attempt(2) });
        let errors = [
            TaskError::Failed { place: place(), text: "odd".into() },
            TaskError::Panicked { place: place(), message: "over".into() },
            TaskError::Cancelled { reason: "enough".into() },
            TaskError::TimedOut { deadline: Duration::from_millis(5) },
            TaskError::EngineLost { engine: EngineId(3), attempt: Attempt(1), cause: "signal 9".into() },
            TaskError::Overloaded { what: "bytes", limit: 8 },
            TaskError::NoEngines,
            TaskError::UnknownTask { engine: EngineId(3), task: "square".into(), lack: Lack::Differs },
            TaskError::undecodable(Coded::Arguments, "square", "cut"),
            TaskError::undecodable(Coded::Result, "square", "cut"),
            TaskError::ResultEvicted,
            TaskError::Disconnected,
        ];
        for error in errors {
            assert_eq!(super::error(trouble(error.clone(), 100), about), error);
        }
        let long = TaskError::Cancelled { reason: "x".repeat(1_000).into() };
        assert!(matches!(trouble(long, 100), Trouble::Cancelled(text) if text.len() <= 100));
    }

    #[test]
    fn what_each_task_printed_is_told_and_all_together_within_a_bound() {
        let id = |seq| TaskId { client: 7, seq };
        let mut all = Printed::default();
        for seq in 0..400 {
            all.add(id(seq), Stream::Stdout, &"x".repeat(60_000), 64 << 10);
        }
        let all = Arc::new(all);
        let few = told(Some(all.clone()), Span { first: id(5), count: 2 });
        assert_eq!(
            few.iter().map(|(task, _, text)| (task.seq, text.len())).collect::<Vec<_>>(),
            [(5, 60_000), (6, 60_000)]
        );
        let many = told(Some(all), Span { first: id(0), count: 400 });
        assert_eq!((many.len(), &*many[399].2), (400, "[60000 bytes left out]"));
        assert!(many.iter().map(|(.., text)| text.len()).sum::<usize>() < 5 << 20);
        assert_eq!(told(None, id(0).into()), []);
    }
}
