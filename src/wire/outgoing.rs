//! Messages on their way out: put together to be written in batches, at one go and vectored. Pure; no I/O.
//!
//! Small parts are copied together, buffers over 16 KiB go as they are. A lane is cut into frames only as it is written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{
    FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameError, FrameLimits, LANES, Lane, Message, UNCOPIED_BYTES_MIN,
};

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
        limits.check_message(lane, &message)?;
        let Message { header, buffers } = message;
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

    /// Drops what waits on the bulk lane, which is of no use from then on.
    pub fn forget_bulk(&mut self) {
        self.lanes[Lane::Bulk as usize] = Pieces::default();
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
