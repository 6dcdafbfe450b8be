//! Frames: how messages become bytes to be written, and bytes that were read messages again. Pure; no I/O.
//!
//! The writer takes what was said in batches, to be written at one go and vectored: small parts are copied together,
//! buffers over 16 KiB go as they are. The reader holds no more than it has received: what a peer claims is checked
//! against limits before anything is allocated, and a buffer grows with the bytes that come.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest frame, in bytes: at 3 GB/s a control message waits a third of a millisecond for it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Buffers from here on are written and read without being copied, in bytes: below, a copy is cheaper than a slice
/// of its own.
pub const UNCOPIED_BYTES_MIN: usize = 16 << 10;

/// How much a buffer grows at once, at least, before its bytes have come.
const GROWTH_BYTES: usize = 64 << 10;

/// Length and lane of a frame.
const FRAME_HEAD_BYTES: usize = 8;

/// Length of a message's header and number of its buffers.
const MESSAGE_HEAD_BYTES: usize = 8;

/// Which messages wait for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent: beats, cancels, the end.
    Control,
    /// Tasks and their outcomes.
    Bulk,
}

/// Both, the urgent one first.
const LANES: [Lane; 2] = [Lane::Control, Lane::Bulk];

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
    /// Most buffers of one message.
    pub buffers_max: usize,
    /// Longest buffer, in bytes.
    pub buffer_bytes_max: usize,
}

impl FrameLimits {
    /// For a peer that has not shown who it is: 4 KiB and no buffers.
    pub const STRANGER: Self = Self { header_bytes_max: 4 << 10, buffers_max: 0, buffer_bytes_max: 0 };

    /// For a peer of this cluster: arguments of 8 MiB in a batch of twice that, buffers of 1 GiB.
    pub const PEER: Self = Self { header_bytes_max: 16 << 20, buffers_max: 4_096, buffer_bytes_max: 1 << 30 };
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

/// What is to be written.
#[derive(Debug, Default)]
pub struct Outgoing {
    lanes: [Pieces; 2],
}

/// Bytes in pieces; those that are written together are together.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    /// Small ones, still to be put together.
    tail: BytesMut,
    len: usize,
}

impl Outgoing {
    /// Puts a message at the end of a lane.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if a peer would not take it; then nothing is written.
    pub fn say(&mut self, lane: Lane, message: Message, limits: FrameLimits) -> Result<(), FrameError> {
        let Message { header, buffers } = message;
        limits.check(header.len(), buffers.len())?;
        for buffer in &buffers {
            limits.check_buffer(buffer.len())?;
        }
        let pieces = &mut self.lanes[lane as usize];
        // Within the limits, and so within 32 bits.
        pieces.put_u32(header.len() as u32);
        pieces.put_u32(buffers.len() as u32);
        buffers.iter().for_each(|buffer| pieces.put_u32(buffer.len() as u32));
        std::iter::once(header).chain(buffers).for_each(|bytes| pieces.put(bytes));
        Ok(())
    }

    /// Returns how many bytes wait on a lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len
    }

    /// Takes what is to be written next: one frame of each lane that has something, of bulk at most `bulk_max` bytes.
    pub fn next_write(&mut self, bulk_max: usize) -> Write {
        let mut write = Write::default();
        for lane in LANES {
            let max = if lane == Lane::Bulk { bulk_max } else { usize::MAX };
            let pieces = &mut self.lanes[lane as usize];
            let length = pieces.len.min(FRAME_BYTES_MAX).min(max);
            if length == 0 {
                continue;
            }
            let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES);
            head.put_u32_le(length as u32);
            head.put_u8(lane as u8);
            head.put_bytes(0, 3);
            write.add(head.freeze());
            pieces.take(length, &mut write);
            if lane == Lane::Bulk {
                write.bulk = length;
            }
        }
        write
    }
}

impl Pieces {
    fn put_u32(&mut self, number: u32) {
        self.tail.put_u32_le(number);
        self.len += 4;
    }

    fn put(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() < UNCOPIED_BYTES_MIN {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.close_tail();
            self.pieces.push_back(bytes);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Moves the first `length` bytes.
    fn take(&mut self, length: usize, to: &mut Write) {
        self.close_tail();
        self.len -= length;
        let mut left = length;
        while left > 0 {
            let first = self.pieces.front_mut().expect("there are as many bytes as were counted");
            if first.len() > left {
                to.add(first.split_to(left));
                return;
            }
            left -= first.len();
            to.pieces.extend(self.pieces.pop_front());
        }
    }
}

/// Bytes to be written in one go: a [`Buf`] of several slices.
#[derive(Debug, Default)]
pub struct Write {
    pieces: VecDeque<Bytes>,
    bulk: usize,
}

impl Write {
    /// Returns how many bytes of the bulk lane it was made with.
    pub fn bulk(&self) -> usize {
        self.bulk
    }

    fn add(&mut self, bytes: Bytes) {
        self.pieces.push_back(bytes);
    }
}

impl Buf for Write {
    fn remaining(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let slices = self.pieces.iter().zip(to).map(|(piece, slice)| *slice = IoSlice::new(piece));
        slices.count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let first = self.pieces.front_mut().expect("no more is written than there is");
            if first.len() > count {
                return first.advance(count);
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

/// What was read.
#[derive(Debug)]
pub struct Incoming {
    limits: FrameLimits,
    head: [u8; FRAME_HEAD_BYTES],
    head_len: usize,
    /// The frame that is being read, and how much of it is to come.
    frame: Option<(Lane, usize)>,
    lanes: [Assembly; 2],
}

/// A message that is not complete.
#[derive(Debug, Default)]
struct Assembly {
    /// Lengths, until they are known.
    head: BytesMut,
    layout: Option<Layout>,
    /// The part that is coming. Grows by what has come, and at the end to its exact size.
    part: Vec<u8>,
    header: Option<Bytes>,
    buffers: Vec<Bytes>,
}

/// How long the parts of a message are.
#[derive(Debug)]
struct Layout {
    header: usize,
    buffers: Vec<usize>,
}

impl Incoming {
    /// Begins to read a stream.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, head: [0; FRAME_HEAD_BYTES], head_len: 0, frame: None, lanes: Default::default() }
    }

    /// Takes more from now on: the peer has shown who it is.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes bytes as they come; gives each message that is complete.
    ///
    /// # Errors
    /// Where the peer breaks the format or a limit. The stream is of no use then.
    pub fn take_in(&mut self, mut bytes: &[u8], mut each: impl FnMut(Lane, Message)) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let Some((lane, left)) = self.frame else {
                self.take_in_head(&mut bytes)?;
                continue;
            };
            let now = bytes.len().min(left);
            let (here, rest) = bytes.split_at(now);
            self.lanes[lane as usize].take_in(here, self.limits, &mut |message| each(lane, message))?;
            self.frame = (left > now).then_some((lane, left - now));
            bytes = rest;
        }
        Ok(())
    }

    /// Returns where the next bytes may be read to without being copied, if a large buffer is under way, and how many
    /// at most; then [`filled`](Self::filled) is to be called.
    pub fn room(&mut self) -> Option<bytes::buf::Limit<&mut Vec<u8>>> {
        let (lane, left) = self.frame?;
        let assembly = &mut self.lanes[lane as usize];
        let missing = assembly.missing().min(left);
        if assembly.header.is_none() || missing < UNCOPIED_BYTES_MIN {
            return None;
        }
        assembly.grow(missing.min(GROWTH_BYTES.max(assembly.part.len())));
        let spare = assembly.part.capacity() - assembly.part.len();
        Some((&mut assembly.part).limit(missing.min(spare)))
    }

    /// Notes that `count` bytes were read to where [`room`](Self::room) said.
    pub fn filled(&mut self, count: usize, mut each: impl FnMut(Lane, Message)) {
        let Some((lane, left)) = self.frame else { return };
        self.frame = (left > count).then(|| (lane, left - count));
        self.lanes[lane as usize].close_parts(&mut |message| each(lane, message));
    }

    /// Returns how many bytes have come of a message that is not complete.
    pub fn under_way(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len()
    }

    fn take_in_head(&mut self, bytes: &mut &[u8]) -> Result<(), FrameError> {
        let now = bytes.len().min(FRAME_HEAD_BYTES - self.head_len);
        bytes.copy_to_slice(&mut self.head[self.head_len..][..now]);
        self.head_len += now;
        if self.head_len < FRAME_HEAD_BYTES {
            return Ok(());
        }
        self.head_len = 0;
        let (length, lane) = ((&self.head[..]).get_u32_le() as usize, self.head[4]);
        let known = LANES.into_iter().find(|&known| known as u8 == lane && self.head[5..] == [0; 3] && length > 0);
        let Some(known) = known else { return Err(FrameError::NoFrame { length, lane }) };
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { what: "a frame", claimed: length, max: FRAME_BYTES_MAX });
        }
        self.frame = Some((known, length));
        Ok(())
    }
}

impl Assembly {
    fn take_in(
        &mut self,
        mut bytes: &[u8],
        limits: FrameLimits,
        each: &mut impl FnMut(Message),
    ) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.layout.is_none() {
                self.take_in_lengths(&mut bytes, limits)?;
            } else {
                let now = bytes.len().min(self.missing());
                self.grow(now);
                self.part.extend_from_slice(&bytes[..now]);
                bytes.advance(now);
            }
            self.close_parts(each);
        }
        Ok(())
    }

    /// Takes bytes until all lengths are known.
    fn take_in_lengths(&mut self, bytes: &mut &[u8], limits: FrameLimits) -> Result<(), FrameError> {
        let take = |head: &mut BytesMut, bytes: &mut &[u8], up_to: usize| {
            let now = bytes.len().min(up_to.saturating_sub(head.len()));
            head.extend_from_slice(&bytes[..now]);
            bytes.advance(now);
            head.len() >= up_to
        };
        if !take(&mut self.head, bytes, MESSAGE_HEAD_BYTES) {
            return Ok(());
        }
        let mut head = &self.head[..];
        let (header, count) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
        limits.check(header, count)?;
        if !take(&mut self.head, bytes, MESSAGE_HEAD_BYTES + 4 * count) {
            return Ok(());
        }
        let mut head = &self.head[MESSAGE_HEAD_BYTES..];
        let buffers: Vec<usize> = (0..count).map(|_| head.get_u32_le() as usize).collect();
        buffers.iter().try_for_each(|&buffer| limits.check_buffer(buffer))?;
        self.head.clear();
        self.layout = Some(Layout { header, buffers });
        Ok(())
    }

    fn len(&self) -> usize {
        let Some(layout) = &self.layout else { return self.head.len() };
        let parts = self.header.iter().chain(&self.buffers).map(Bytes::len).sum::<usize>() + self.part.len();
        MESSAGE_HEAD_BYTES + 4 * layout.buffers.len() + parts
    }

    /// Returns how many bytes of the present part are to come.
    fn missing(&self) -> usize {
        self.layout.as_ref().map_or(0, |layout| layout.part(self.header.is_some(), self.buffers.len()))
            - self.part.len()
    }

    /// Makes room for `count` bytes that are there, and for as many as have come already: not for what is claimed.
    fn grow(&mut self, count: usize) {
        let (have, missing) = (self.part.len(), self.missing());
        if self.part.capacity() - have < count.min(missing) {
            self.part.reserve_exact(missing.min(count.max(have).max(GROWTH_BYTES)));
        }
    }

    /// Closes parts that are complete, and gives the message if it is.
    fn close_parts(&mut self, each: &mut impl FnMut(Message)) {
        while self.layout.is_some() && self.missing() == 0 {
            let part = Bytes::from(std::mem::take(&mut self.part));
            if self.header.is_none() {
                self.header = Some(part);
            } else {
                self.buffers.push(part);
            }
            let is_whole = self.layout.as_ref().is_some_and(|layout| layout.buffers.len() == self.buffers.len());
            if is_whole {
                self.layout = None;
                let (header, buffers) = (self.header.take().unwrap_or_default(), std::mem::take(&mut self.buffers));
                each(Message { header, buffers });
            }
        }
    }
}

impl Layout {
    /// Returns how long the part is that comes after these.
    fn part(&self, has_header: bool, buffers: usize) -> usize {
        if has_header { self.buffers[buffers] } else { self.header }
    }
}

impl FrameLimits {
    fn check(&self, header: usize, buffers: usize) -> Result<(), FrameError> {
        within("a header", header, self.header_bytes_max)?;
        within("a number of buffers", buffers, self.buffers_max)
    }

    fn check_buffer(&self, bytes: usize) -> Result<(), FrameError> {
        within("a buffer", bytes, self.buffer_bytes_max)
    }
}

fn within(what: &'static str, claimed: usize, max: usize) -> Result<(), FrameError> {
    if claimed > max { Err(FrameError::TooLarge { what, claimed, max }) } else { Ok(()) }
}
