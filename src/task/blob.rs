//! Large bytes that are not copied where others are encoded: on their way to another process they go beside what is
//! encoded, as they are.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{BESIDE_BYTES_MAX, BLOB_BYTES_MAX, BLOB_BYTES_MIN, BLOBS_MAX, ENCODED_BYTES_MAX};

/// Bytes, cheap to clone, that go to another process and come back without being copied into anything.
///
/// For arguments and values of 16 KiB and more; a `Vec<u8>` is encoded byte by byte.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn brighter(pixels: Blob) -> Blob {
///     pixels.iter().map(|pixel| pixel.saturating_add(10)).collect::<Vec<u8>>().into()
/// }
///
/// let cluster = Cluster::threads(1).start()?;
/// let image = Blob::from(vec![100; 1 << 20]);
/// let brighter = cluster.client().load_balanced().apply(brighter(image)).get()?;
/// assert!(brighter.len() == 1 << 20 && brighter[7] == 110);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(Bytes);

impl Blob {
    /// Returns the bytes, to be sliced and passed on without being copied.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Blob> for Vec<u8> {
    /// Copies nothing where nobody else has the bytes.
    fn from(blob: Blob) -> Self {
        blob.0.into()
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The length, never the bytes: they may be a secret of the user's, and are many.
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

thread_local! {
    /// Where large blobs go that are encoded on this thread; `None` to encode them with the rest.
    static BESIDE: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
    /// Where those are that are decoded on this thread.
    static FROM: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// How a blob is encoded.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Blob")]
enum Encoded {
    Here(Bytes),
    /// The one of this number, beside.
    Beside(u32),
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let beside = BESIDE.with_borrow_mut(|beside| match beside {
            Some(blobs) if self.0.len() >= BLOB_BYTES_MIN => {
                blobs.push(self.0.clone());
                Some(blobs.len() as u32 - 1)
            }
            _ => None,
        });
        beside.map_or_else(|| Encoded::Here(self.0.clone()), Encoded::Beside).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Encoded::deserialize(deserializer)? {
            Encoded::Here(bytes) => Ok(Self(bytes)),
            Encoded::Beside(number) => {
                let found = FROM.with_borrow(|blobs| blobs.get(number as usize).cloned());
                found.map(Self).ok_or_else(|| serde::de::Error::custom(format!("there is no blob {number} beside it")))
            }
        }
    }
}

/// Has large blobs that `encode` encodes put behind those that are in `blobs` already.
pub(crate) fn beside<R>(blobs: &mut Vec<Bytes>, encode: impl FnOnce() -> R) -> R {
    /// Puts back what was there, also where `encode` panics.
    struct Back<'a>(&'a mut Vec<Bytes>, Option<Vec<Bytes>>);

    impl Drop for Back<'_> {
        fn drop(&mut self) {
            *self.0 = BESIDE.replace(self.1.take()).unwrap_or_default();
        }
    }

    let before = BESIDE.replace(Some(mem::take(blobs)));
    let _back = Back(blobs, before);
    encode()
}

/// Puts blobs beside what is being encoded, in the order in which they were beside it before.
pub(crate) fn put_beside<'a>(blobs: impl IntoIterator<Item = &'a Bytes>) {
    BESIDE.with_borrow_mut(|beside| {
        if let Some(beside) = beside {
            beside.extend(blobs.into_iter().cloned());
        }
    });
}

/// Has all blobs that `encode` encodes put where they are.
pub(super) fn whole<R>(encode: impl FnOnce() -> R) -> R {
    struct Back(Option<Vec<Bytes>>);

    impl Drop for Back {
        fn drop(&mut self) {
            BESIDE.set(self.0.take());
        }
    }

    let _back = Back(BESIDE.take());
    encode()
}

/// Has blobs that `decode` decodes found among these.
pub(crate) fn beside_from<R>(blobs: &[Bytes], decode: impl FnOnce() -> R) -> R {
    struct Back(Vec<Bytes>);

    impl Drop for Back {
        fn drop(&mut self) {
            FROM.set(mem::take(&mut self.0));
        }
    }

    if blobs.is_empty() {
        return decode();
    }
    let _back = Back(FROM.replace(blobs.to_vec()));
    decode()
}

/// Checks that what one task has may travel: so many bytes that are encoded, and what is beside them.
///
/// # Errors
/// A sentence that says what is too much, and what to do.
pub(crate) fn check_size(encoded: usize, blobs: &[Bytes]) -> Result<(), Box<str>> {
    if encoded > ENCODED_BYTES_MAX {
        return Err(format!(
            "{encoded} bytes are encoded, and at most {ENCODED_BYTES_MAX} may be; put large ones into a Blob"
        )
        .into());
    }
    if let Some(blob) = blobs.iter().find(|blob| blob.len() > BLOB_BYTES_MAX) {
        return Err(format!("a Blob has {} bytes, and at most {BLOB_BYTES_MAX} may travel", blob.len()).into());
    }
    if blobs.len() > BLOBS_MAX {
        return Err(format!("there are {} large Blobs, and at most {BLOBS_MAX} may travel", blobs.len()).into());
    }
    let all: usize = blobs.iter().map(Bytes::len).sum();
    if all > BESIDE_BYTES_MAX {
        return Err(format!("large Blobs have {all} bytes in all, and at most {BESIDE_BYTES_MAX} may travel with one task; make it several").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_blob_goes_beside_and_comes_back_as_the_same_bytes() {
        let (small, large) = (Blob::from(vec![1; 100]), Blob::from(vec![2; BLOB_BYTES_MIN]));
        let both = (small, large.clone(), "text", large.clone());
        let mut blobs = vec![Bytes::from_static(b"of an item before")];
        let bytes = beside(&mut blobs, || postcard::to_stdvec(&both)).unwrap();
        assert_eq!((bytes.len() < 120, blobs.len()), (true, 3));
        type Both = (Blob, Blob, String, Blob);
        let back: Both = beside_from(&blobs, || postcard::from_bytes(&bytes)).unwrap();
        assert_eq!((&back.0, &*back.2), (&both.0, "text"));
        assert_eq!(back.1.as_ptr(), large.as_ptr(), "uncopied");
        // Without the bytes beside, and with them in it.
        assert!(postcard::from_bytes::<Both>(&bytes).is_err());
        let whole = postcard::to_stdvec(&both).unwrap();
        assert_eq!(postcard::from_bytes::<Both>(&whole).unwrap().3, large);
    }

    #[test]
    fn a_panic_while_encoding_leaves_nothing_behind() {
        let mut blobs = Vec::new();
        let panicked = crate::catch::user_code(|| {
            beside(&mut blobs, || {
                let _ = postcard::to_stdvec(&Blob::from(vec![0; BLOB_BYTES_MIN]));
                panic!("halfway");
            })
        });
        assert!(panicked.is_err());
        assert_eq!(blobs.len(), 1, "whoever called sees how far it came");
        assert!(postcard::to_stdvec(&Blob::from(vec![0; BLOB_BYTES_MIN])).unwrap().len() > BLOB_BYTES_MIN);
    }
}
