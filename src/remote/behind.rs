//! What a client elsewhere wants done behind calls that have not come. Pure.

use std::collections::VecDeque;

use crate::limits::{BEHIND_BYTES_MAX, QUESTIONS_MAX};
use crate::wire::clients::{Question, Wish};

/// They wait in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Behind {
    wishes: VecDeque<Waits>,
    bytes: usize,
}

#[derive(Debug)]
struct Waits {
    /// How many calls come before it, counted from the start.
    behind: u64,
    wish: Wish,
    bytes: usize,
}

impl Behind {
    /// Puts a wish with the others.
    pub(super) fn put(&mut self, behind: u64, wish: Wish) -> Result<(), Box<str>> {
        let bytes = match &wish {
            Wish::Cancel { tasks, reason, .. } => size_of_val(&tasks[..]) + reason.len(),
            Wish::Answer(_, Question::RunOnHosts(wanted)) => wanted.args.iter().map(|arg| arg.len() + 1).sum(),
            Wish::Answer(..) => 0,
        };
        if self.wishes.len() >= QUESTIONS_MAX || (self.bytes > 0 && self.bytes + bytes > BEHIND_BYTES_MAX) {
            return Err(format!("it wants too much: {} things wait, of {} bytes", self.wishes.len(), self.bytes).into());
        }
        self.bytes += bytes;
        self.wishes.push_back(Waits { behind, wish, bytes });
        Ok(())
    }

    /// Takes the next wish out, if it is behind no more than so many calls.
    pub(super) fn next(&mut self, submitted: u64) -> Option<Wish> {
        if self.wishes.front()?.behind > submitted {
            return None;
        }
        let Waits { wish, bytes, .. } = self.wishes.pop_front()?;
        self.bytes -= bytes;
        Some(wish)
    }
}
