//! What a controller and an engine say to each other in a session: the messages of an engine of this process, as bytes.
//!
//! The only types that travel. What is in them is a promise to the other side.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::frame::{Message, UNCOPIED_BYTES_MIN};
use crate::task::{Attempt, EngineId, Span, Stream, TaskId};

/// From a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToEngine {
    /// The engine has joined, under this id. Comes first.
    Joined(EngineId),
    /// Run these, in this order.
    Run(Vec<Call>),
    /// Nobody waits for these any more. It overtakes calls, so that it is heard of what runs; those among these calls that have not
    /// come yet are not to start when they do.
    Revoke {
        /// The tasks, each the first of what was sent with it.
        tasks: Vec<TaskId>,
        /// How many messages with calls were said before this.
        after: u64,
    },
    /// Hand back what has not started.
    Recall,
    /// Hand back what has not started, and end after what runs.
    Stop,
    /// Say which task it runs.
    Look,
}

/// One attempt, or one of each of several items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The task, or the first.
    pub id: TaskId,
    /// How many, counted up from `id`; more than 1 if they are items of a map.
    pub count: u32,
    /// Which attempt.
    pub attempt: Attempt,
    /// The key of its function.
    pub key: u64,
    /// The caller's name for it.
    pub label: Option<Box<str>>,
    /// Its arguments; of several, as `task/encoded/items.rs` has it.
    pub arguments: Encoded,
    /// Its value is kept by its id, and so is to come in one piece.
    pub is_kept: bool,
}

/// What was encoded, and the buffers of what is beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// In postcard.
    pub bytes: Body,
    /// The numbers of buffers.
    pub blobs: Vec<u32>,
}

/// Bytes in the message, or in one of its buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Here.
    Inline(Bytes),
    /// In the buffer of this number.
    Buffer(u32),
}

/// From an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEngine {
    /// Attempts have ended.
    Ended(Vec<End>),
    /// These are handed back, and were not started.
    Back(Vec<(Span, Attempt)>),
    /// Something was printed. Comes before the task that printed it has ended.
    Printed(Print),
    /// Its time is over: it starts nothing any more, hands back what it has not started and what still comes, and is to be told to
    /// stop when it has nothing left.
    Leaving,
    /// Its process tells of something that happens there.
    Logged(LogLine),
    /// The attempt whose code it was at when it was asked, if any; of several that were sent together the one. Comes behind what it had
    /// returned and handed back by then.
    IsAt(Option<(TaskId, Attempt)>),
}

/// An event of `tracing`, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// Where in the program it comes from.
    pub target: Box<str>,
    /// The attempt that told it, if one did.
    pub task: Option<(TaskId, Attempt)>,
    /// What.
    pub text: Box<str>,
    /// How many lines before it were left out.
    pub left_out: u32,
}

/// How important a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Something has failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// Lines that were printed, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// The attempt that ran then; `None` if it was between two.
    pub task: Option<(TaskId, Attempt)>,
    /// Where to.
    pub stream: Stream,
    /// What.
    pub text: Box<str>,
}

/// How an attempt ended, or one of each of several items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The task, or the first.
    pub id: TaskId,
    /// How many.
    pub count: u32,
    /// Which attempt.
    pub attempt: Attempt,
    /// How long it ran, in nanoseconds.
    pub ran_ns: u64,
    /// The value, or why there is none.
    pub outcome: Result<Made, Fault>,
}

/// What was returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// A value.
    One(Encoded),
    /// The values of several items.
    Each {
        /// As `task/encoded/items.rs` has it; nothing where there is none.
        values: Encoded,
        /// Why there is none, by place, in order.
        faults: Vec<(u32, Fault)>,
    },
}

/// Why an attempt has no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The task's code returned an error.
    Failed(Box<str>),
    /// The task's code panicked.
    Panicked(Box<str>),
    /// The arguments cannot be read.
    Arguments(Box<str>),
    /// The value cannot be written.
    Value(Box<str>),
    /// The engine's program has no such task.
    Unknown,
    /// There was no call at this place.
    NoCall,
}

impl End {
    /// Returns how many bytes of text it has.
    pub fn text_bytes(&self) -> usize {
        match &self.outcome {
            Ok(Made::One(_)) => 0,
            Ok(Made::Each { faults, .. }) => faults.iter().map(|(_, fault)| fault.text_bytes()).sum(),
            Err(fault) => fault.text_bytes(),
        }
    }
}

impl Fault {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Failed(text) | Self::Panicked(text) | Self::Arguments(text) | Self::Value(text) => text.len(),
            Self::Unknown | Self::NoCall => 0,
        }
    }
}

impl Body {
    /// Puts bytes into a message: among its buffers, if they are many.
    pub fn put(bytes: Bytes, buffers: &mut Vec<Bytes>) -> Self {
        if bytes.len() < UNCOPIED_BYTES_MIN {
            return Self::Inline(bytes);
        }
        buffers.push(bytes);
        Self::Buffer(buffers.len() as u32 - 1)
    }

    /// Takes the bytes out of a message; `None` if it has no such buffer.
    pub fn take(self, buffers: &[Bytes]) -> Option<Bytes> {
        match self {
            Self::Inline(bytes) => Some(bytes),
            Self::Buffer(number) => buffers.get(number as usize).cloned(),
        }
    }
}

impl Encoded {
    /// Puts what was encoded into a message.
    pub fn put(bytes: Bytes, blobs: Vec<Bytes>, buffers: &mut Vec<Bytes>) -> Self {
        let bytes = Body::put(bytes, buffers);
        let first = buffers.len();
        buffers.extend(blobs);
        Self { bytes, blobs: (first..buffers.len()).map(|number| number as u32).collect() }
    }

    /// Takes it out of a message; `None` if that lacks a buffer.
    pub fn take(self, buffers: &[Bytes]) -> Option<(Bytes, Vec<Bytes>)> {
        let blobs = self.blobs.into_iter().map(|number| buffers.get(number as usize).cloned());
        Some((self.bytes.take(buffers)?, blobs.collect::<Option<_>>()?))
    }
}

/// Encodes what is said, beside its buffers.
pub fn encode(said: &impl Serialize, buffers: Vec<Bytes>) -> Message {
    let header = postcard::to_stdvec(said).expect("a vector grows, and what is said can be encoded");
    Message { header: header.into(), buffers }
}

/// Decodes what was said.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn decode<'a, T: Deserialize<'a>>(message: &'a Message) -> Result<T, Box<str>> {
    match postcard::take_from_bytes(&message.header) {
        Ok((said, [])) => Ok(said),
        Ok((_, rest)) => Err(format!("{} bytes too many in a message", rest.len()).into()),
        Err(error) => Err(format!("a message of {} bytes cannot be read: {error}", message.header.len()).into()),
    }
}

/// What goes together in one message.
#[derive(Debug)]
pub struct Parcel<T> {
    /// What is said.
    pub items: Vec<T>,
    /// The buffers of all of them.
    pub buffers: Vec<Bytes>,
    /// The texts in them, in bytes.
    pub bytes: usize,
}

/// Items that go together, at most: with 16 KiB each that is not beside them, half of what a peer takes.
const PARCEL_ITEMS_MAX: usize = 512;

/// Bytes of texts that go together, and then those of one item more.
const PARCEL_BYTES_MAX: usize = 2 << 20;

/// Buffers that go together, at most, so that one item more cannot be too many.
const PARCEL_BUFFERS_MAX: usize = 1_024;

/// Bytes of buffers that go together, and then those of one item more.
const PARCEL_BUFFER_BYTES_MAX: usize = 64 << 20;

impl<T> Default for Parcel<T> {
    fn default() -> Self {
        Self { items: Vec::new(), buffers: Vec::new(), bytes: 0 }
    }
}

impl<T> Parcel<T> {
    /// Returns whether it is time for the next.
    pub fn is_full(&self) -> bool {
        self.items.len() >= PARCEL_ITEMS_MAX
            || self.buffers.len() >= PARCEL_BUFFERS_MAX
            || self.bytes >= PARCEL_BYTES_MAX
            || self.buffers.iter().map(Bytes::len).sum::<usize>() >= PARCEL_BUFFER_BYTES_MAX
    }
}
