//! Items of a map as bytes, calls and values alike.
//!
//! Each item is its length in 4 bytes, little-endian, then what was encoded. So one that cannot be read spoils no other, and
//! many are cut in two without being read. Where blobs of the item go beside, the highest bit of the length is set, and how
//! many these are is in 4 bytes more, behind the item. All bits of the length are set where there is nothing: a call that
//! was given up or cannot be encoded, a value that there is not. The others keep their places.

use std::collections::{VecDeque, vec_deque};
use std::mem;

use bytes::{Buf, BufMut, Bytes};

/// Bytes of a length, and of a number of blobs.
pub(super) const NUMBER_BYTES: usize = 4;

/// The bit of a length that says that the item has blobs.
pub(super) const HAS_BLOBS: u32 = 1 << 31;

/// The length of an item that there is not.
pub(super) const NOTHING: u32 = u32::MAX;

/// Items as they came, unread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    bytes: Bytes,
    blobs: VecDeque<Bytes>,
    count: u32,
    /// How many of them there are not.
    nothings: u32,
}

/// How far one has looked at items in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    at: u32,
    bytes: usize,
    blobs: usize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) bytes: Bytes,
    pub(crate) blobs: Vec<Bytes>,
}

impl Items {
    /// Takes items as they came; `None` if they are not as many as it is said, or their blobs are not.
    pub(crate) fn new(bytes: Bytes, blobs: Vec<Bytes>, count: u32) -> Option<Self> {
        let size = measured(&bytes, count)?;
        let Size { nothings, .. } = size;
        ((size.bytes, size.blobs) == (bytes.len(), blobs.len())).then(|| Self {
            bytes,
            blobs: blobs.into(),
            count,
            nothings,
        })
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns how long they are.
    #[cfg(any(feature = "remote", test))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.blobs.iter().map(Bytes::len).sum::<usize>()
    }

    /// Returns how many of them there are.
    pub(crate) fn live(&self) -> u32 {
        self.count - self.nothings
    }

    /// Looks at the one in this place; `None` if there is none. The next in order is found at once.
    pub(crate) fn peek(&self, at: u32, cursor: &mut Cursor) -> Option<(&[u8], vec_deque::Iter<'_, Bytes>)> {
        if at < cursor.at {
            *cursor = Cursor::default();
        }
        loop {
            let item = &self.bytes[cursor.bytes..];
            let Size { bytes, blobs, nothings } = size_of_first(item)?;
            let (was, first) = (cursor.at, cursor.blobs);
            *cursor = Cursor { at: was + 1, bytes: cursor.bytes + bytes, blobs: first + blobs };
            if was == at {
                let tail = if item[NUMBER_BYTES - 1] & 0x80 > 0 { NUMBER_BYTES } else { 0 };
                let found = (nothings == 0).then(|| &item[NUMBER_BYTES..bytes - tail]);
                return found.map(|found| (found, self.blobs.range(first..first + blobs)));
            }
        }
    }

    /// Takes `count` out and leaves nothing in their places; returns those there were, `None` if there were none.
    pub(crate) fn punch(&mut self, from: u32, count: u32) -> Option<Self> {
        let before = measured(&self.bytes, from)?;
        let taken = measured(&self.bytes[before.bytes..], count)?;
        if taken.nothings == count {
            return None;
        }
        let (start, end) = (before.bytes, before.bytes + taken.bytes);
        let mut left = Vec::with_capacity(self.bytes.len() - taken.bytes + count as usize * NUMBER_BYTES);
        left.extend_from_slice(&self.bytes[..start]);
        (0..count).for_each(|_| left.put_u32_le(NOTHING));
        left.extend_from_slice(&self.bytes[end..]);
        let bytes = mem::replace(&mut self.bytes, left.into()).slice(start..end);
        let blobs = self.blobs.drain(before.blobs..before.blobs + taken.blobs).collect();
        self.nothings += count - taken.nothings;
        Some(Self { bytes, blobs, count, nothings: taken.nothings })
    }

    /// Returns the places where there is nothing.
    pub(crate) fn nothings(&self) -> impl Iterator<Item = u32> {
        let (mut rest, mut at) = (&self.bytes[..], 0..self.count);
        let places = std::iter::from_fn(move || {
            at.find(|_| {
                let size = size_of_first(rest);
                rest = size.as_ref().map_or(&[], |size| &rest[size.bytes..]);
                size.is_some_and(|size| size.nothings > 0)
            })
        });
        places.take(self.nothings as usize)
    }

    /// Takes the first one out, or that there is none in its place; `None` at the end.
    pub(crate) fn take(&mut self) -> Option<Option<Item>> {
        let Size { bytes: size, blobs, nothings } = size_of_first(&self.bytes)?;
        self.count -= 1;
        let length = self.bytes.get_u32_le();
        if nothings > 0 {
            self.nothings -= 1;
            return Some(None);
        }
        let bytes = self.bytes.split_to((length & !HAS_BLOBS) as usize);
        self.bytes.advance(size - NUMBER_BYTES - bytes.len());
        let blobs = if blobs == 0 { Vec::new() } else { self.blobs.drain(..blobs).collect() };
        Some(Some(Item { bytes, blobs }))
    }

    /// Takes the first `count` out; `None` if there are not more than that.
    pub(crate) fn split_front(&mut self, count: u32) -> Option<Self> {
        if count >= self.count {
            return None;
        }
        let Size { bytes, blobs, nothings } = measured(&self.bytes, count)?;
        let behind = self.blobs.split_off(blobs);
        let blobs = mem::replace(&mut self.blobs, behind);
        self.count -= count;
        self.nothings -= nothings;
        Some(Self { bytes: self.bytes.split_to(bytes), blobs, count, nothings })
    }

    /// Returns them as they came.
    pub(crate) fn into_parts(self) -> (Bytes, Vec<Bytes>) {
        (self.bytes, self.blobs.into())
    }
}

/// How much some items are.
#[derive(Default)]
struct Size {
    bytes: usize,
    blobs: usize,
    nothings: u32,
}

/// Measures the first `count` items; `None` if there are not that many.
fn measured(items: &[u8], count: u32) -> Option<Size> {
    let mut all = Size::default();
    for _ in 0..count {
        let Size { bytes, blobs, nothings } = size_of_first(&items[all.bytes..])?;
        all = Size { bytes: all.bytes + bytes, blobs: all.blobs + blobs, nothings: all.nothings + nothings };
    }
    Some(all)
}

/// Measures the first item; `None` if there is no whole one.
fn size_of_first(items: &[u8]) -> Option<Size> {
    let length = items.get(..NUMBER_BYTES)?.get_u32_le();
    if length == NOTHING {
        return Some(Size { bytes: NUMBER_BYTES, blobs: 0, nothings: 1 });
    }
    let end = NUMBER_BYTES + (length & !HAS_BLOBS) as usize;
    if length & HAS_BLOBS == 0 {
        return (items.len() >= end).then_some(Size { bytes: end, blobs: 0, nothings: 0 });
    }
    let blobs = items.get(end..end + NUMBER_BYTES)?.get_u32_le();
    Some(Size { bytes: end + NUMBER_BYTES, blobs: blobs as usize, nothings: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::ItemWriter;
    use super::*;
    use crate::Blob;
    use crate::limits::{BLOB_BYTES_MIN, ENCODED_BYTES_MAX};
    use proptest::prelude::*;

    /// Text, so many blobs beside it, or nothing.
    type Told = Option<(String, u8)>;

    fn written(told: &[Told]) -> (Bytes, Vec<Bytes>) {
        let mut writer = ItemWriter::default();
        for (at, item) in (0..).zip(told) {
            let item =
                item.as_ref().map(|(text, blobs)| (text, vec![Blob::from(vec![at; BLOB_BYTES_MIN]); (*blobs).into()]));
            writer.put(|to| item.map(|item| postcard::to_io(&item, to).map(drop))).unwrap();
        }
        assert_eq!(writer.count() as usize, told.len());
        writer.finish()
    }

    fn read(mut items: Items) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(item) = items.take() {
            told.push(item.map(|Item { bytes, blobs }| {
                let read = crate::task::beside_from(&blobs, || postcard::from_bytes::<(String, Vec<Blob>)>(&bytes));
                let (text, same) = read.unwrap();
                assert!(same.iter().all(|blob| blob.len() == BLOB_BYTES_MIN && blob == &same[0]));
                (text, blobs.len() as u8)
            }));
        }
        assert_eq!((items.count(), items.bytes.len(), items.blobs.len()), (0, 0, 0));
        told
    }

    fn told() -> impl Strategy<Value = Vec<Told>> {
        prop::collection::vec(prop::option::weighted(0.8, (".{0,20}", 0..3_u8)), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn items_come_back_as_they_were_however_they_are_cut(told in told(), cut in 0..12_u32) {
            let (bytes, blobs) = written(&told);
            let mut items = Items::new(bytes, blobs, told.len() as u32).unwrap();
            let nothings: Vec<u32> = (0..).zip(&told).filter(|(_, item)| item.is_none()).map(|(at, _)| at).collect();
            prop_assert_eq!(items.nothings().collect::<Vec<_>>(), nothings);
            prop_assert_eq!(&read(items.clone()), &told);
            match items.split_front(cut) {
                Some(front) => {
                    prop_assert_eq!((front.count(), items.count()), (cut, told.len() as u32 - cut));
                    prop_assert_eq!([read(front), read(items)].concat(), told);
                }
                None => prop_assert!(cut as usize >= told.len()),
            }
        }

        #[test]
        fn items_are_looked_at_and_taken_out_of_the_midst(told in told(), from in 0..12_u32, count in 1..5_u32) {
            let (bytes, blobs) = written(&told);
            let mut items = Items::new(bytes, blobs, told.len() as u32).unwrap();
            let (mut cursor, mut copy) = (Cursor::default(), ItemWriter::default());
            for at in (0..told.len() as u32).chain([from]) {
                let looked = items.peek(at, &mut cursor).map(|(bytes, blobs)| (bytes.to_vec(), blobs.count() as u8));
                let same = told.get(at as usize).and_then(Option::as_ref).map(|(text, blobs)| (text.len(), *blobs));
                prop_assert_eq!(looked.as_ref().map(|(_, blobs)| *blobs), same.map(|(_, blobs)| blobs));
                if (at as usize) < told.len() && copy.count() == at {
                    copy.put(|to| {
                        let (bytes, blobs) = items.peek(at, &mut Cursor::default())?;
                        to.extend_from_slice(bytes);
                        crate::task::put_beside(blobs);
                        Some(Ok(()))
                    }).unwrap();
                }
            }
            let (bytes, blobs) = copy.finish();
            prop_assert_eq!(&read(Items::new(bytes, blobs, told.len() as u32).unwrap()), &told);
            let to = (from + count) as usize;
            let there = told.get(from as usize..to).map(|there| there.iter().filter(|item| item.is_some()).count());
            let taken = items.punch(from, count);
            prop_assert_eq!(taken.as_ref().map(|taken| taken.live() as usize), there.filter(|there| *there > 0));
            if let Some(taken) = taken {
                prop_assert_eq!(&read(taken)[..], &told[from as usize..to]);
                let mut left = told;
                left[from as usize..to].fill(None);
                prop_assert_eq!(items.live() as usize, left.iter().flatten().count());
                prop_assert_eq!(read(items), left);
            }
        }

        #[test]
        fn what_is_not_whole_is_refused(told in told(), count in 0..14_u32, less in 1..9_usize) {
            let (bytes, blobs) = written(&told);
            if count as usize != told.len() {
                prop_assert!(Items::new(bytes.clone(), blobs.clone(), count).is_none());
            }
            let count = told.len() as u32;
            let cut = bytes.slice(..bytes.len().saturating_sub(less));
            prop_assert!(Items::new(cut, blobs.clone(), count).is_none());
            prop_assert!(Items::new(bytes, [blobs, vec![Bytes::new()]].concat(), count).is_none());
        }
    }

    #[test]
    fn what_fails_or_panics_or_is_too_much_leaves_nothing_behind() {
        let mut writer = ItemWriter::default();
        let text = |text: &'static str| move |to: &mut Vec<u8>| Some(postcard::to_io(text, to).map(drop));
        writer.put(text("before")).unwrap();
        let failing = |to: &mut Vec<u8>| {
            to.extend(b"half");
            Some(Err(postcard::Error::SerializeBufferFull))
        };
        assert!(writer.put(failing).is_err());
        let panicking = crate::catch::user_code(|| {
            writer.put(|to| {
                to.extend(postcard::to_stdvec(&Blob::from(vec![0; BLOB_BYTES_MIN])).unwrap());
                panic!("halfway")
            })
        });
        assert!(panicking.is_err());
        let too_long = writer.put(|to| {
            to.resize(to.len() + ENCODED_BYTES_MAX + 1, 0);
            Some(Ok(()))
        });
        assert!(too_long.unwrap_err().contains("put large ones into a Blob"));
        writer.put(text("after")).unwrap();
        let (bytes, blobs) = writer.finish();
        let mut items = Items::new(bytes, blobs, 2).unwrap();
        let read = [items.take(), items.take()]
            .map(|item| postcard::from_bytes::<String>(&item.unwrap().unwrap().bytes).unwrap());
        assert_eq!(read, ["before", "after"]);
    }
}
