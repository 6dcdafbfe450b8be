//! A program that travels: known by what is in it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::machine::Needs;
use crate::catch::shortened;
use crate::limits::BLOB_BYTES_MAX;

/// The SHA-256 of a program: two with the same are the same program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProgramHash([u8; 32]);

/// Longest name of a program, in bytes. It is a file's on a host.
const NAME_BYTES_MAX: usize = 64;

/// Longest program, in bytes.
pub(crate) const PROGRAM_BYTES_MAX: usize = BLOB_BYTES_MAX;

/// A program, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub(crate) hash: ProgramHash,
    /// What it is called.
    pub(crate) name: Box<str>,
    pub(crate) needs: Needs,
}

impl ProgramHash {
    pub(crate) fn of(program: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, program).as_ref());
        Self(hash)
    }

    /// Reads it from its 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl Program {
    /// Describes the program that these bytes are.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(crate) fn of(name: &str, program: &Bytes) -> Result<Self, String> {
        if program.len() > PROGRAM_BYTES_MAX {
            let bytes = program.len();
            return Err(format!("it has {bytes} bytes, and at most {PROGRAM_BYTES_MAX} travel; strip it"));
        }
        Ok(Self { hash: ProgramHash::of(program), name: sound_name(name).into(), needs: Needs::of(program)? })
    }

    /// Returns whether a peer may have told this.
    pub(crate) fn is_sound(&self) -> bool {
        self.name.len() <= NAME_BYTES_MAX && self.needs.is_sound()
    }
}

/// Makes a file's name of what a peer calls a program: letters, digits, and what stands between them.
pub(super) fn sound_name(name: &str) -> String {
    let sound = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = shortened(name, NAME_BYTES_MAX).chars().map(sound).collect();
    if name.trim_start_matches('.').is_empty() { "program".into() } else { name }
}

impl fmt::Display for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_told_and_read_back() {
        // The first example of FIPS 180-2.
        let hash = ProgramHash::of(b"abc");
        let told = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((hash.to_string().as_str(), ProgramHash::parse(told)), (told, Some(hash)));
        for wrong in ["", "ba78", &told[1..], &told.replace('b', "x"), &"ü".repeat(32)] {
            assert_eq!(ProgramHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_file_and_of_no_other() {
        let cases = [
            ("norms", "norms"),
            ("../../etc/passwd", ".._.._etc_passwd"),
            ("", "program"),
            ("..", "program"),
            ("a b\0c", "a_b_c"),
            ("über", "_ber"),
        ];
        for (name, expected) in cases {
            assert_eq!(sound_name(name), expected);
        }
        assert_eq!(sound_name(&"x".repeat(1_000)).len(), NAME_BYTES_MAX);
    }
}
