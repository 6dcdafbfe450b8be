//! Bytes that were read, and the messages in them. Pure; no I/O.
//!
//! It holds no more than it has received: what a peer claims is checked against limits before anything is allocated, and
//! a buffer grows with the bytes that come.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{
    FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameError, FrameLimits, LANES, Lane, MESSAGE_HEAD_BYTES, Message,
    UNCOPIED_BYTES_MIN,
};

/// How much a buffer grows at once, at least, before its bytes have come.
const GROWTH_BYTES: usize = 64 << 10;

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
            let limits = self.limits.of(lane);
            self.lanes[lane as usize].take_in(here, limits, &mut |message| each(lane, message))?;
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
        limits.check_parts(header, buffers.iter().copied())?;
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
