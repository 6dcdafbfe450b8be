//! What tasks printed while they ran, where somebody listened: engines that are processes of their own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::TaskId;
use crate::catch::shortened;

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What some tasks printed, those that printed anything, in order.
///
/// Shared by the records of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed(VecDeque<(TaskId, Texts)>);

/// What one task printed: to standard output and to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts([Text; 2]);

/// The end of a text, and how much of its beginning is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Text {
    kept: String,
    left_out: usize,
}

#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nothing comes from elsewhere"))]
impl Printed {
    /// Adds what a task printed; keeps the last `max` bytes of each of its streams.
    pub(crate) fn add(&mut self, task: TaskId, to: Stream, text: &str, max: usize) {
        // Nearly always the last that printed.
        let at = self.0.iter().rposition(|(other, _)| *other == task).unwrap_or_else(|| {
            self.0.push_back((task, Texts::default()));
            self.0.len() - 1
        });
        self.0[at].1.0[to as usize].add(text, max);
    }

    /// Returns what a task printed there; the first line says so if its beginning is missing.
    pub fn of(&self, task: TaskId, to: Stream) -> Option<String> {
        let (_, texts) = self.0.iter().find(|(other, _)| *other == task)?;
        let Text { kept, left_out } = &texts.0[to as usize];
        Some(if *left_out > 0 { format!("[{left_out} bytes left out]\n{kept}") } else { kept.clone() })
    }

    /// Returns all that was printed, by task.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (TaskId, Stream, Box<str>)> {
        let streams = self.0.iter().flat_map(|(task, _)| [(*task, Stream::Stdout), (*task, Stream::Stderr)]);
        let texts = streams.filter_map(|(task, stream)| Some((task, stream, self.of(task, stream)?.into())));
        texts.filter(|(_, _, text): &(_, _, Box<str>)| !text.is_empty())
    }

    /// Returns what a task printed last to its standard error, for whoever wonders why its process ended.
    pub(crate) fn last_words_of(&self, task: TaskId) -> Option<String> {
        last_words(&self.of(task, Stream::Stderr)?).map(Into::into)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many bytes of text it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().flat_map(|(_, texts)| &texts.0).map(|text| text.kept.len()).sum()
    }

    /// Takes out what the first tasks printed, those before `end`.
    pub(crate) fn split_before(&mut self, end: TaskId) -> Self {
        let (front, back) = std::mem::take(&mut self.0).into_iter().partition(|(task, _)| *task < end);
        self.0 = back;
        Self(front)
    }
}

impl Text {
    fn add(&mut self, text: &str, max: usize) {
        self.kept.push_str(text);
        // Not with each line, or each would move all that is kept.
        if self.kept.len() > max.saturating_mul(2) {
            let mut from = self.kept.len() - max;
            while !self.kept.is_char_boundary(from) {
                from += 1;
            }
            self.left_out += from;
            self.kept.drain(..from);
        }
    }
}

/// Longest line that is told, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 300;

/// Returns the last line of a text that says something: not those of a backtrace, nor the notes of how to get one.
pub(crate) fn last_words(text: &str) -> Option<&str> {
    let text = text.rsplit_once("stack backtrace:\n").map_or(text, |(before, _)| before);
    let line = text.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("note: "))?;
    Some(shortened(line, LAST_WORDS_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> TaskId {
        TaskId { client: 1, seq }
    }

    #[test]
    fn the_end_of_a_long_text_is_kept_and_what_is_missing_is_said() {
        let mut printed = Printed::default();
        for n in 0..1_000 {
            printed.add(id(1), Stream::Stdout, &format!("{n} \u{e4}\n"), 100);
            printed.add(id(2), Stream::Stderr, "!", 100);
        }
        let text = printed.of(id(1), Stream::Stdout).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(rest.len() <= 200 && rest.ends_with("998 \u{e4}\n999 \u{e4}\n"), "{text}");
        let all: usize = (0..1_000).map(|n| format!("{n} \u{e4}\n").len()).sum();
        assert_eq!(first, format!("[{} bytes left out]", all - rest.len()));
        assert_eq!(printed.of(id(1), Stream::Stderr).as_deref(), Some(""));
        assert_eq!(printed.of(id(3), Stream::Stdout), None);
        printed.add(id(1), Stream::Stdout, "all of it", usize::MAX);
        assert!(printed.of(id(1), Stream::Stdout).is_some_and(|text| text.ends_with("999 \u{e4}\nall of it")));
        let front = printed.split_before(id(2));
        assert!(front.of(id(1), Stream::Stdout).is_some() && front.of(id(2), Stream::Stderr).is_none());
        assert!(printed.bytes() <= 200 && printed.of(id(2), Stream::Stderr).is_some());
    }

    #[test]
    fn last_words_are_not_those_of_a_backtrace() {
        let text = "starting\nmemory allocation of 7 bytes failed\nstack backtrace:\n   0: alloc\nnote: Some details";
        assert_eq!(last_words(text), Some("memory allocation of 7 bytes failed"));
        assert_eq!(last_words("stack overflow, aborting\n\n"), Some("stack overflow, aborting"));
        assert_eq!(last_words("boom\nnote: run with `RUST_BACKTRACE=1`\n"), Some("boom"));
        assert_eq!((last_words(""), last_words("note: no more")), (None, None));
    }
}
