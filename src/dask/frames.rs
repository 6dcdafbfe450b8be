//! What this program and the bridge say to each other, and a worker's plugin and an engine: frames through pipes.
//!
//! A frame is a length (`u32`), a kind (`u8`) and a body of that length, all little-endian. Both sides are of one
//! build: the Python files are in this program.
//!
//! | to the bridge | body |
//! |---|---|
//! | `CONFIGURE` | JSON; the first frame, and once |
//! | `CALL` | length of a name (`u16`), the name, the task's number (`u64`), which attempt it is (`u32`), a [`Call`](super::report::Call) |
//! | `CANCEL`, `KILL` | numbers of tasks |
//! | `ASK` | a number, which comes back when all that was said before is done |
//! | `LEAVE`, `KILL_ENGINES` | nothing; engines that dial are to leave, or are killed |
//! | `FINISH` | nothing; the bridge clears the workers and ends |
//!
//! | from the bridge | body |
//! |---|---|
//! | `FAILED` | why the cluster cannot be used any more, as text; the last frame |
//! | `READY` | JSON: what was connected to |
//! | `VALUE`, `TASK_FAILED` | the task's number, a [`Report`](super::report::Report) |
//! | `ENGINE_LOST` | the task's number, the engine's process id (`u32`), text |
//! | `DASK_FAILED` | the task's number, text: Dask gave it up |
//! | `RUNNING` | numbers of tasks that have begun, each with the attempt as that it was submitted and its engine's process id (`u32` each) |
//! | `CANCELLED` | numbers of tasks none of which begins any more |
//! | `WORKERS` | how many workers may run tasks (`u32`), and threads of theirs (`u32`) |
//! | `ANSWER` | the number that was asked with |
//! | `CONNECTED` | nothing; what an earlier bridge left is cleared, and what this one registers may stay if it is lost |
//!
//! An engine on a worker writes [`HELLO`] first. Then it is told `ENGINE_CALL` (the task's number, the attempt and its call) and
//! `ENGINE_CANCEL` (a number), with kinds as above, and answers each call by a length (`u32`) and so many bytes: 0
//! and a report, or 1, the length of a text for people (`u32`), that text, and a report.

use std::io::{self, Read};

/// What an engine writes first.
pub(super) const HELLO: &[u8] = b"callboard engine 1\n";

/// Longest frame that is taken, in bytes: all that may travel with one task, and what it is packed in.
pub(super) const FRAME_BYTES_MAX: usize = crate::limits::BESIDE_BYTES_MAX + (64 << 20);

/// Length and kind.
const HEAD_BYTES: usize = 5;

pub(super) mod to_bridge {
    pub(in crate::dask) const CONFIGURE: u8 = 0;
    pub(in crate::dask) const CALL: u8 = 1;
    pub(in crate::dask) const CANCEL: u8 = 2;
    pub(in crate::dask) const KILL: u8 = 3;
    pub(in crate::dask) const ASK: u8 = 4;
    pub(in crate::dask) const FINISH: u8 = 5;
    pub(in crate::dask) const LEAVE: u8 = 6;
    pub(in crate::dask) const KILL_ENGINES: u8 = 7;
}

pub(super) mod from_bridge {
    pub(in crate::dask) const FAILED: u8 = 0;
    pub(in crate::dask) const READY: u8 = 1;
    pub(in crate::dask) const VALUE: u8 = 2;
    pub(in crate::dask) const TASK_FAILED: u8 = 3;
    pub(in crate::dask) const ENGINE_LOST: u8 = 4;
    pub(in crate::dask) const DASK_FAILED: u8 = 5;
    pub(in crate::dask) const RUNNING: u8 = 6;
    pub(in crate::dask) const CANCELLED: u8 = 7;
    pub(in crate::dask) const WORKERS: u8 = 8;
    pub(in crate::dask) const ANSWER: u8 = 9;
    pub(in crate::dask) const CONNECTED: u8 = 10;
}

pub(super) const ENGINE_CALL: u8 = 0;
pub(super) const ENGINE_CANCEL: u8 = 1;

/// Appends a frame whose body is these parts.
pub(super) fn put(to: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).expect("a call is bounded before, and all else is short");
    to.extend_from_slice(&length.to_le_bytes());
    to.push(kind);
    parts.iter().for_each(|part| to.extend_from_slice(part));
}

/// Reads the next frame; `None` at the end, also within a frame.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; HEAD_BYTES];
    if !read_all(from, &mut head)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    // What is not there is not allocated: the other end may be of another mind.
    let mut body = Vec::with_capacity(length.min(1 << 20));
    from.take(length as u64).read_to_end(&mut body)?;
    Ok((body.len() == length).then_some((head[4], body)))
}

/// Reads all of it; returns whether there was so much.
fn read_all(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes a number off the front.
pub(super) fn take_u64(body: &mut &[u8]) -> Option<u64> {
    let (number, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u64::from_le_bytes(*number))
}

/// Takes a short number off the front.
pub(super) fn take_u32(body: &mut &[u8]) -> Option<u32> {
    let (number, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, &[b"ab", b"c"]);
        put(&mut bytes, 7, &[]);
        assert_eq!(bytes, [3, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 7]);
        let mut from = &bytes[..];
        assert_eq!(read(&mut from).unwrap(), Some((3, b"abc".to_vec())));
        assert_eq!(read(&mut from).unwrap(), Some((7, Vec::new())));
        assert_eq!(read(&mut from).unwrap(), None);
        assert_eq!(read(&mut &bytes[..6]).unwrap(), None, "cut");
        let error = read(&mut &[0xff, 0xff, 0xff, 0xff, 0][..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
