//! What an engine elsewhere has been told to give up before it came: revocations overtake the calls that they are about.

use std::collections::HashMap;

use crate::task::TaskId;
use crate::wire::protocol::Call;

/// Tasks that were revoked while they were on their way.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// How many messages with calls have come.
    runs: u64,
    /// Each with the number of messages with calls that will have come when it has.
    tasks: HashMap<TaskId, u64>,
}

impl Early {
    /// Tasks are revoked that were sent with the first `after` messages of calls.
    pub(crate) fn on_revoked(&mut self, tasks: &[TaskId], after: u64) {
        if after > self.runs {
            self.tasks.extend(tasks.iter().map(|&task| (task, after)));
        }
    }

    /// A message with calls has come; takes out of it those that nobody waits for any more.
    pub(crate) fn on_run(&mut self, calls: &mut Vec<Call>) -> Vec<Call> {
        self.runs += 1;
        if self.tasks.is_empty() {
            return Vec::new();
        }
        let revoked = calls.extract_if(.., |call| self.tasks.contains_key(&call.id)).collect();
        self.tasks.retain(|_, after| *after > self.runs);
        revoked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Attempt;
    use crate::wire::protocol::Encoded;

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    fn calls(seqs: impl IntoIterator<Item = u64>) -> Vec<Call> {
        let call = |seq| Call {
            id: id(seq),
            count: 1,
            attempt: Attempt(1),
            key: 1,
            label: None,
            arguments: Encoded::put(Default::default(), Vec::new(), &mut Vec::new()),
            is_kept: false,
        };
        seqs.into_iter().map(call).collect()
    }

    /// Returns what starts and what goes back.
    fn run(early: &mut Early, seqs: impl IntoIterator<Item = u64>) -> (Vec<u64>, Vec<u64>) {
        let mut calls = calls(seqs);
        let revoked = early.on_run(&mut calls);
        let seqs = |calls: Vec<Call>| calls.iter().map(|call| call.id.seq).collect();
        (seqs(calls), seqs(revoked))
    }

    #[test]
    fn what_was_revoked_on_its_way_does_not_start() {
        let mut early = Early::default();
        assert_eq!(run(&mut early, 0..2), (vec![0, 1], vec![]));
        // The first is here already; 2 and 5 are in the next two messages.
        early.on_revoked(&[id(0), id(2), id(5)], 3);
        assert_eq!(run(&mut early, 2..4), (vec![3], vec![2]));
        assert_eq!(run(&mut early, 4..6), (vec![4], vec![5]));
        assert!(early.tasks.is_empty(), "{early:?}");
    }

    #[test]
    fn what_has_come_is_not_remembered() {
        let mut early = Early::default();
        run(&mut early, 0..2);
        early.on_revoked(&[id(0), id(1)], 1);
        assert!(early.tasks.is_empty(), "{early:?}");
    }
}
