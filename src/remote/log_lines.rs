//! What engines elsewhere tell of themselves, in this process's own log: within bounds, and as plain text.
//!
//! An engine may say what it likes. So a line is short, has no character that moves a terminal's cursor or hides others, and of
//! many in a second the last ones are counted and not told.

use std::time::{Duration, Instant};

use crate::catch::shortened;
use crate::task::EngineId;
use crate::wire::protocol::{LogLevel, LogLine};

/// Longest line that is told, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 10;

/// Longest name of a place in a program that is told, in bytes.
pub(super) const TARGET_BYTES_MAX: usize = 128;

/// How much one engine may tell in a second, in bytes: some thousand lines.
const BYTES_PER_S_MAX: usize = 256 << 10;

/// What a line costs beside its text: time, names, fields.
const LINE_BYTES: usize = 128;

/// How much was told in the present second.
#[derive(Debug, Default)]
pub(super) struct Budget {
    since: Option<Instant>,
    bytes: usize,
}

impl Budget {
    /// Returns whether a line of so many bytes may be told now; then it counts.
    pub(super) fn try_take(&mut self, now: Instant, bytes: usize) -> bool {
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            (self.since, self.bytes) = (Some(now), 0);
        }
        let all = self.bytes.saturating_add(bytes + LINE_BYTES);
        let is_within = all <= BYTES_PER_S_MAX;
        if is_within {
            self.bytes = all;
        }
        is_within
    }
}

/// What one engine has told.
#[derive(Debug, Default)]
pub(super) struct LogLines {
    budget: Budget,
    /// Since the last that was told.
    left_out: u64,
}

impl LogLines {
    /// Tells a line of an engine's, if it may.
    pub(super) fn tell(&mut self, now: Instant, engine: EngineId, line: &LogLine) {
        self.left_out = self.left_out.saturating_add(line.left_out.into());
        let text = plain(&line.text, TEXT_BYTES_MAX);
        if !self.budget.try_take(now, text.len()) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let left_out = Some(std::mem::take(&mut self.left_out)).filter(|lines| *lines > 0);
        event(line, engine, &plain(&line.target, TARGET_BYTES_MAX), &text, left_out);
    }
}

/// Tells it as what it was told as there. What is fixed of an event is fixed in a program, so where it comes from is a field.
fn event(line: &LogLine, engine: EngineId, target: &str, text: &str, left_out: Option<u64>) {
    let task = line.task.map(|(task, _)| tracing::field::display(task));
    let attempt = line.task.map(|(_, attempt)| tracing::field::display(attempt));
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(target: "callboard::engine", %engine, target, task, attempt, left_out, "{text}")
        };
    }
    match line.level {
        LogLevel::Error => tell!(error),
        LogLevel::Warn => tell!(warn),
        LogLevel::Info => tell!(info),
        LogLevel::Debug => tell!(debug),
        LogLevel::Trace => tell!(trace),
    }
}

/// Returns a text of at most so many bytes before what is not plain in it was written out.
fn plain(text: &str, bytes_max: usize) -> String {
    let mut plain = String::with_capacity(text.len().min(bytes_max));
    for c in shortened(text, bytes_max).chars() {
        if c.is_control() || is_format(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Returns whether a character only says how others are to be shown: in another direction, on another line, or not at all.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_plain_and_short() {
        let cases = [
            ("10 of 64 are done, größer", "10 of 64 are done, größer"),
            ("\u{1b}[2J\u{7}a\r\nb\t", r"\u{1b}[2J\u{7}a\r\nb\t"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("abc\u{202e}cba\u{feff}", r"abc\u{202e}cba\u{feff}"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text, 100), expected);
        }
        // The dots say that there was more.
        assert_eq!(plain(&"x".repeat(10_000), 100).trim_end_matches('.').trim_end_matches('…'), "x".repeat(100));
        assert!(plain(&"\u{1b}".repeat(100_000), TEXT_BYTES_MAX).len() < 8 * TEXT_BYTES_MAX);
    }

    #[test]
    fn of_many_lines_in_a_second_the_last_are_left_out_and_in_the_next_there_is_room() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let taken = (0..10_000).filter(|_| budget.try_take(start, 100)).count();
        assert_eq!(taken, BYTES_PER_S_MAX / (100 + LINE_BYTES));
        assert!(!budget.try_take(start + Duration::from_millis(999), 100));
        assert!(budget.try_take(start + Duration::from_millis(1_000), 100));
        assert!(!budget.try_take(start, usize::MAX - LINE_BYTES), "nothing overflows");
    }
}
