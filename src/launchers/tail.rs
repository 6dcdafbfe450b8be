//! The last part of what is printed without end.

/// How much is kept, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 10;

/// Keeps the last part.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // Not for each byte: what is kept moves when there is twice as much.
        if self.0.len() > 2 * KEPT_BYTES_MAX {
            self.0.drain(..self.0.len() - KEPT_BYTES_MAX);
        }
    }

    pub(super) fn text(&self) -> String {
        let from = self.0.len().saturating_sub(KEPT_BYTES_MAX);
        String::from_utf8_lossy(&self.0[from..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_kept_however_it_comes() {
        let all: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        for portion in [1, 7, 8_192, 100_000, 1_000_000] {
            let mut tail = Tail::default();
            all.chunks(portion).for_each(|bytes| tail.add(bytes));
            assert_eq!(tail.text().as_bytes(), &all[all.len() - KEPT_BYTES_MAX..], "{portion}");
            assert!(tail.0.len() <= 2 * KEPT_BYTES_MAX);
        }
    }
}
