//! What is said, and how much of it at once: messages, lanes, and the limits of both.

use bytes::Bytes;

use crate::limits::{BESIDE_BYTES_MAX, BLOB_BYTES_MAX};

/// Longest frame, in bytes: at 3 GB/s a control message waits a third of a millisecond for it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Buffers from here on are written and read without being copied, in bytes: below, a copy is cheaper than a slice
/// of its own.
pub const UNCOPIED_BYTES_MIN: usize = crate::limits::BLOB_BYTES_MIN;

/// Length and lane of a frame.
pub(super) const FRAME_HEAD_BYTES: usize = 8;

/// Length of a message's header and number of its buffers.
pub(super) const MESSAGE_HEAD_BYTES: usize = 8;

/// Which messages wait for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent: beats, cancels, the end.
    Control,
    /// Tasks and their outcomes.
    Bulk,
}

/// Both, the urgent one first.
pub(super) const LANES: [Lane; 2] = [Lane::Control, Lane::Bulk];

/// What is said at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it says, encoded.
    pub header: Bytes,
    /// Large parts, which the header refers to by their number.
    pub buffers: Vec<Bytes>,
}

impl Message {
    /// Returns how many bytes it is on its lane.
    pub fn bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(|buffer| 4 + buffer.len()).sum();
        MESSAGE_HEAD_BYTES + self.header.len() + buffers
    }
}

/// What a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest header, in bytes.
    pub header_bytes_max: usize,
    /// Most buffers of one message of the bulk lane; those of the control lane have none.
    pub buffers_max: usize,
    /// Longest buffer, in bytes.
    pub buffer_bytes_max: usize,
    /// All of a message, in bytes, without the lengths of its parts.
    pub message_bytes_max: usize,
}

impl FrameLimits {
    /// For a peer that has not shown who it is: 4 KiB and no buffers.
    pub const STRANGER: Self = Self::of_headers(4 << 10);

    /// For a peer of this cluster: arguments of 8 MiB in a batch of twice that, buffers of 1 GiB; in all what travels with one
    /// task, and the items and the tasks that go with it.
    pub const PEER: Self = Self {
        header_bytes_max: 16 << 20,
        buffers_max: 4_096,
        buffer_bytes_max: BLOB_BYTES_MAX,
        message_bytes_max: BESIDE_BYTES_MAX + (256 << 20),
    };

    /// For headers of so many bytes, without buffers.
    pub(super) const fn of_headers(bytes: usize) -> Self {
        Self { header_bytes_max: bytes, buffers_max: 0, buffer_bytes_max: 0, message_bytes_max: bytes }
    }
}

/// What was read is no frame of ours. The stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// More is claimed than is taken. Nothing was allocated for it.
    #[error("{what} of {claimed} is over the limit of {max}")]
    TooLarge {
        /// What it is about.
        what: &'static str,
        /// What the peer claims, in bytes or pieces.
        claimed: usize,
        /// The limit.
        max: usize,
    },
    /// The frame holds nothing, or is of a lane that there is not: the peer speaks something else.
    #[error("this is no frame (length {length}, lane {lane}); the peer speaks another protocol")]
    NoFrame {
        /// Its length, as read.
        length: usize,
        /// Its lane, as read.
        lane: u8,
    },
}

impl FrameLimits {
    pub(super) fn check(&self, header: usize, buffers: usize) -> Result<(), FrameError> {
        within("a header", header, self.header_bytes_max)?;
        within("a number of buffers", buffers, self.buffers_max)
    }

    /// Those of a lane. Nothing holds the control lane up, so what is said there has no buffers.
    pub(super) fn of(self, lane: Lane) -> Self {
        match lane {
            Lane::Bulk => self,
            Lane::Control => Self { buffers_max: 0, ..self },
        }
    }

    pub(super) fn check_message(self, lane: Lane, message: &Message) -> Result<(), FrameError> {
        self.of(lane).check(message.header.len(), message.buffers.len())?;
        self.check_parts(message.header.len(), message.buffers.iter().map(Bytes::len))
    }

    /// Checks how long the buffers of a message are, and all of it.
    pub(super) fn check_parts(&self, header: usize, buffers: impl Iterator<Item = usize>) -> Result<(), FrameError> {
        let mut all = header;
        for buffer in buffers {
            within("a buffer", buffer, self.buffer_bytes_max)?;
            all += buffer;
        }
        within("a message", all, self.message_bytes_max)
    }
}

fn within(what: &'static str, claimed: usize, max: usize) -> Result<(), FrameError> {
    if claimed > max { Err(FrameError::TooLarge { what, claimed, max }) } else { Ok(()) }
}
