//! About how many bytes an argument holds on the heap, for the limit on pending bytes.
//!
//! `#[task]` asks `(&HeapBytes(&field)).heap_bytes()` for each argument: Rust prefers the inherent methods
//! below where the type is one of them, and falls back to the trait, which answers 0.

/// Wraps a borrowed argument.
///
/// ```
/// use callboard::task::{HeapBytes, UnknownHeapBytes as _};
///
/// assert_eq!((&HeapBytes(&vec![1_u32, 2, 3])).heap_bytes(), 12);
/// assert_eq!((&HeapBytes(&7_u64)).heap_bytes(), 0);
/// ```
#[derive(Debug)]
pub struct HeapBytes<'a, T: ?Sized>(pub &'a T);

impl<T> HeapBytes<'_, Vec<T>> {
    /// Returns the bytes of the elements themselves.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

impl HeapBytes<'_, String> {
    /// Returns the bytes of the text.
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl HeapBytes<'_, bytes::Bytes> {
    /// Returns the bytes of the buffer.
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl HeapBytes<'_, super::Blob> {
    /// Returns the bytes of the buffer.
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

/// The answer for every other type.
///
/// ```
/// use callboard::task::{HeapBytes, UnknownHeapBytes as _};
///
/// struct Mine;
/// assert_eq!((&HeapBytes(&Mine)).heap_bytes(), 0);
/// ```
pub trait Unknown {
    /// Returns 0.
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<T: ?Sized> Unknown for HeapBytes<'_, T> {}
