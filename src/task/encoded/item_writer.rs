//! Writes the items of a map, one behind the other; how, `items.rs` tells.

use bytes::{BufMut, Bytes};

use super::items::{HAS_BLOBS, NOTHING, NUMBER_BYTES};
use crate::limits::{BLOBS_MAX, ITEMS_BYTES_MAX};
use crate::task::{beside, check_size};

/// Items that are being written.
#[derive(Debug, Default)]
pub(crate) struct ItemWriter {
    bytes: Vec<u8>,
    blobs: Vec<Bytes>,
    blob_bytes: usize,
    count: u32,
    /// Where the last whole item ends: what is behind it is left of one whose `Serialize` failed or panicked.
    end: usize,
    /// The blobs of the item that is being written.
    beside: Vec<Bytes>,
}

impl ItemWriter {
    /// Writes an item by `encode`, which appends it; or nothing, where that returns `None`.
    ///
    /// # Errors
    /// Why it is not written. Then, and where `encode` panics, the next one is written in its place.
    pub(crate) fn put(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Option<Result<(), postcard::Error>>,
    ) -> Result<(), Box<str>> {
        self.begin(0);
        match beside(&mut self.beside, || encode(&mut self.bytes)) {
            None => {
                self.put_nothing();
                return Ok(());
            }
            Some(encoded) => encoded.map_err(|error| error.to_string())?,
        }
        let length = self.bytes.len() - self.end - NUMBER_BYTES;
        check_size(length, &self.beside)?;
        // It is at most 8 MiB, so that the highest bit is free.
        let (mut length, blobs) = (length as u32, self.beside.len() as u32);
        if blobs > 0 {
            length |= HAS_BLOBS;
            self.bytes.put_u32_le(blobs);
            self.blob_bytes += self.beside.iter().map(Bytes::len).sum::<usize>();
            self.blobs.append(&mut self.beside);
        }
        self.bytes[self.end..self.end + NUMBER_BYTES].copy_from_slice(&length.to_le_bytes());
        self.complete();
        Ok(())
    }

    /// Writes that there is none.
    pub(crate) fn put_nothing(&mut self) {
        self.begin(NOTHING);
        self.complete();
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns whether these are as many as go together.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() + self.blob_bytes >= ITEMS_BYTES_MAX || self.blobs.len() >= BLOBS_MAX / 2
    }

    /// Returns the items, and what is beside them.
    pub(crate) fn finish(mut self) -> (Bytes, Vec<Bytes>) {
        self.bytes.truncate(self.end);
        (self.bytes.into(), self.blobs)
    }

    fn begin(&mut self, length: u32) {
        self.bytes.truncate(self.end);
        self.beside.clear();
        self.bytes.put_u32_le(length);
    }

    fn complete(&mut self) {
        self.end = self.bytes.len();
        self.count += 1;
    }
}
