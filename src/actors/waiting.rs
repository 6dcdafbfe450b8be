//! Who waits for which task: a table with four verbs.
//!
//! A row is one task, or several items of a map with consecutive ids. Outcomes come for any part of a row;
//! the part is cut out, and what is left waits on.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use slab::Slab;

use crate::messages::{Waiter, Watched};
use crate::task::{Attempt, Span, TaskId};

/// The tasks that are not settled.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    tasks: Slab<Row>,
    /// From a task's id to its row. The ids themselves are in the rows.
    index: HashTable<u32>,
    /// The rows of several tasks, by the first of them.
    pieces: BTreeMap<TaskId, u32>,
}

#[derive(Debug)]
struct Row {
    watched: Watched,
    /// Outcomes of attempts before this one are stale.
    expected: Attempt,
}

impl Waiting {
    /// Notes who waits. Gives the waiter back if the task is known: the first submission stands.
    pub(super) fn insert(&mut self, watched: Watched) -> Option<Waiter> {
        if self.find(watched.id).is_some() {
            return watched.waiter;
        }
        self.add(Row { watched, expected: Attempt(0) });
        None
    }

    /// Makes outcomes of earlier attempts stale.
    pub(super) fn expect(&mut self, tasks: Span, attempt: Attempt) {
        self.cut_out(tasks, |_| true, |this, row| this.add(Row { expected: attempt, ..row }));
    }

    /// Takes tasks out with their first good outcome: gives each row, or part of one, that was not settled
    /// already and for which the outcome is not stale.
    ///
    /// An attempt of `None` is the scheduler's own word and never stale.
    pub(super) fn complete(&mut self, tasks: Span, attempt: Option<Attempt>, mut won: impl FnMut(Watched)) {
        let is_good = |row: &Row| attempt.is_none_or(|attempt| attempt >= row.expected);
        self.cut_out(tasks, is_good, |_, row| won(row.watched));
        if self.tasks.is_empty() && self.tasks.capacity() > 4_096 {
            // After a burst the memory goes back.
            self.tasks.shrink_to_fit();
            self.index.shrink_to(0, |_| 0);
        }
    }

    /// Returns the task if it is not settled; or the several that it is one of.
    pub(super) fn get(&self, task: TaskId) -> Option<&Watched> {
        self.find(task).map(|row| &self.tasks[row as usize].watched)
    }

    /// Returns all of them.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.tasks.iter().map(|(_, row)| row.watched.span())
    }

    /// Returns those of a client's tasks that come before this one.
    pub(super) fn before(&self, task: TaskId) -> impl Iterator<Item = Span> + '_ {
        let before = move |(_, row): (usize, &Row)| {
            let Span { first, count } = row.watched.span();
            let count = u64::from(count).min(task.seq.saturating_sub(first.seq)) as u32;
            (first.client == task.client && count > 0).then_some(Span { first, count })
        };
        self.tasks.iter().filter_map(before)
    }

    /// Takes what the span has of each good row out of the table, one after the other.
    fn cut_out(&mut self, tasks: Span, is_good: impl Fn(&Row) -> bool, mut each: impl FnMut(&mut Self, Row)) {
        if tasks.count == 1 && self.pieces.is_empty() {
            // The rule: one task, found at once.
            if let Some(row) = self.take_if(tasks.first, &is_good) {
                each(self, row);
            }
            return;
        }
        if tasks.count as usize > self.tasks.len() {
            // Whoever tells of them may name more tasks than there are.
            let mut parts: Vec<Span> = self.spans().filter_map(|span| span.common(tasks)).collect();
            parts.sort_unstable_by_key(|part| part.first);
            for part in parts {
                if let Some(row) = self.find(part.first).filter(|&row| is_good(&self.tasks[row as usize])) {
                    let part = self.cut(row, part);
                    each(self, part);
                }
            }
            return;
        }
        let mut next = Some(tasks.first);
        while let Some(task) = next.filter(|&task| tasks.contains(task)) {
            let Some(row) = self.find(task) else {
                next = self.next_after(task);
                continue;
            };
            let span = self.tasks[row as usize].watched.span();
            next = Some(span.last().plus(1));
            if let Some(part) = span.common(tasks).filter(|_| is_good(&self.tasks[row as usize])) {
                let part = self.cut(row, part);
                each(self, part);
            }
        }
    }

    /// Takes the tasks of `part` out of a row, which has them all.
    fn cut(&mut self, row: u32, part: Span) -> Row {
        let Row { mut watched, expected } = self.remove(row);
        let before = (part.first.seq - watched.id.seq) as u32;
        if before > 0 {
            let watched = watched.cut_front(before);
            self.add(Row { watched, expected });
        }
        if watched.count > part.count {
            let part = watched.cut_front(part.count);
            self.add(Row { watched, expected });
            watched = part;
        }
        Row { watched, expected }
    }

    /// Returns where the next row may begin.
    fn next_after(&self, task: TaskId) -> Option<TaskId> {
        if self.index.is_empty() {
            self.pieces.range(task..).next().map(|(&first, _)| first)
        } else {
            Some(task.plus(1))
        }
    }

    fn add(&mut self, row: Row) {
        let (id, count) = (row.watched.id, row.watched.count);
        let row = self.tasks.insert(row) as u32;
        if count > 1 {
            self.pieces.insert(id, row);
            return;
        }
        let tasks = &self.tasks;
        self.index.insert_unique(id.table_hash(), row, |&row| tasks[row as usize].watched.id.table_hash());
    }

    fn remove(&mut self, row: u32) -> Row {
        let row_ref = &self.tasks[row as usize];
        let id = row_ref.watched.id;
        if row_ref.watched.count > 1 {
            self.pieces.remove(&id);
        } else if let Ok(found) = self.index.find_entry(id.table_hash(), |&other| other == row) {
            found.remove();
        }
        self.tasks.remove(row as usize)
    }

    /// Takes a row of one task out if it is good.
    fn take_if(&mut self, task: TaskId, is_good: impl Fn(&Row) -> bool) -> Option<Row> {
        let tasks = &self.tasks;
        let found = self.index.find_entry(task.table_hash(), |&row| tasks[row as usize].watched.id == task).ok()?;
        if !is_good(&tasks[*found.get() as usize]) {
            return None;
        }
        let (row, _) = found.remove();
        Some(self.tasks.remove(row as usize))
    }

    /// Finds the row that a task is in.
    fn find(&self, task: TaskId) -> Option<u32> {
        let found = self.index.find(task.table_hash(), |&row| self.tasks[row as usize].watched.id == task).copied();
        found.or_else(|| {
            let (_, &row) = self.pieces.range(..=task).next_back()?;
            self.tasks[row as usize].watched.span().contains(task).then_some(row)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;
    use crate::error::TaskError;
    use crate::messages::{Aftermath, Settle};
    use crate::task::{Moment, Outcome, Run, TaskKind};

    static KIND: TaskKind =
        TaskKind { name: "test", version: 1, key: 1, fingerprint: 1, idempotent: false, portable: true };

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    /// Takes out one task.
    fn complete(waiting: &mut Waiting, seq: u64, attempt: Option<Attempt>) -> Option<Watched> {
        let mut won = None;
        waiting.complete(id(seq).into(), attempt, |watched| assert!(won.replace(watched).is_none()));
        won
    }

    fn watched(seq: u64, waiter: Option<Waiter>) -> Watched {
        Watched {
            id: id(seq),
            count: 1,
            kind: &KIND,
            extras: None,
            submitted: Moment::from_nanos(seq),
            weight: 1,
            waiter,
        }
    }

    /// Remembers what its waiters were told.
    #[derive(Default)]
    struct Told(Mutex<Vec<(u32, Option<TaskError>)>>);

    impl Settle for Told {
        fn settle(&self, index: u32, _: u32, _: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
            self.0.lock().push((index, outcome.err()));
            None
        }
    }

    #[test]
    fn the_first_outcome_takes_a_task_out_and_the_next_finds_nobody() {
        let mut waiting = Waiting::default();
        assert!(waiting.insert(watched(1, None)).is_none());
        assert!(waiting.insert(watched(2, None)).is_none());
        assert_eq!(waiting.get(id(1)).map(|watched| watched.submitted), Some(Moment::from_nanos(1)));

        let first = complete(&mut waiting, 1, Some(Attempt(1)));
        assert_eq!(first.map(|watched| (watched.id, watched.submitted)), Some((id(1), Moment::from_nanos(1))));
        assert!(complete(&mut waiting, 1, Some(Attempt(1))).is_none());
        assert!(complete(&mut waiting, 1, None).is_none());
        assert!(waiting.get(id(1)).is_none());
        assert_eq!(waiting.get(id(2)).map(|watched| watched.id), Some(id(2)));
    }

    #[test]
    fn a_row_is_small() {
        assert!(size_of::<Row>() <= 80, "{}", size_of::<Row>());
    }

    #[test]
    fn the_first_submission_of_an_id_stands_and_the_second_gets_its_waiter_back() {
        let told = Arc::new(Told::default());
        let mut waiting = Waiting::default();
        assert!(waiting.insert(watched(1, Some(Waiter::new(told.clone(), 10, 1)))).is_none());
        let second = waiting.insert(watched(1, Some(Waiter::new(told.clone(), 20, 1))));
        drop(second.expect("the id is known"));
        assert_eq!(*told.0.lock(), [(20, Some(TaskError::Disconnected))]);

        let first = complete(&mut waiting, 1, Some(Attempt(1))).and_then(|watched| watched.waiter);
        first.expect("it waits").settle(Run::none(&TaskError::NoEngines), Err(TaskError::NoEngines));
        assert_eq!(told.0.lock()[1..], [(10, Some(TaskError::NoEngines))]);
    }

    #[test]
    fn outcomes_before_the_expected_attempt_are_stale_and_the_schedulers_own_word_never_is() {
        let mut waiting = Waiting::default();
        for seq in 0..3 {
            waiting.insert(watched(seq, None));
            waiting.expect(id(seq).into(), Attempt(2));
        }
        assert!(complete(&mut waiting, 0, Some(Attempt(1))).is_none());
        assert!(waiting.get(id(0)).is_some(), "a stale outcome leaves the task where it is");
        assert!(complete(&mut waiting, 0, Some(Attempt(2))).is_some());
        assert!(complete(&mut waiting, 1, Some(Attempt(3))).is_some());
        assert!(complete(&mut waiting, 2, None).is_some());
    }

    #[test]
    fn what_is_said_of_a_task_that_nobody_waits_for_changes_nothing() {
        let mut waiting = Waiting::default();
        waiting.expect(id(1).into(), Attempt(9));
        assert!(complete(&mut waiting, 1, None).is_none());
        waiting.insert(watched(1, None));
        assert!(complete(&mut waiting, 1, Some(Attempt(1))).is_some());
    }

    #[test]
    fn an_outcome_of_more_tasks_than_wait_is_of_those_that_do() {
        let mut waiting = Waiting::default();
        for (seq, count) in [(3, 1), (10, 5), (20, 1)] {
            waiting.insert(Watched { count, ..watched(seq, None) });
        }
        waiting.expect(id(3).into(), Attempt(2));
        let mut won = Vec::new();
        waiting.complete(Span { first: id(0), count: u32::MAX }, Some(Attempt(1)), |watched| won.push(watched.span()));
        let span = |seq, count| Span { first: id(seq), count };
        assert_eq!(won, [span(10, 5), span(20, 1)]);
        waiting.insert(Watched { count: 9, ..watched(30, None) });
        let mut won = Vec::new();
        waiting.complete(span(0, 35), None, |watched| won.push(watched.span()));
        assert_eq!(won, [span(3, 1), span(30, 5)]);
        assert_eq!(waiting.get(id(35)).map(Watched::span), Some(span(35, 4)));
    }

    #[test]
    fn after_a_burst_the_memory_goes_back() {
        let mut waiting = Waiting::default();
        for seq in 0..10_000 {
            waiting.insert(watched(seq, None));
        }
        assert!((0..10_000).all(|seq| complete(&mut waiting, seq, Some(Attempt(1))).is_some()));
        assert_eq!((waiting.tasks.capacity(), waiting.index.capacity()), (0, 0));
        assert!(waiting.insert(watched(1, None)).is_none());
        assert!(waiting.get(id(1)).is_some());
    }

    #[derive(Clone, Debug)]
    enum Verb {
        Insert,
        Expect(u32),
        Complete(Option<u32>),
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_agrees_with_a_map(verbs in prop::collection::vec(
            (0..20_u64, prop_oneof![
                3 => Just(Verb::Insert),
                1 => (0..4_u32).prop_map(Verb::Expect),
                3 => prop::option::of(0..4_u32).prop_map(Verb::Complete),
            ]),
            0..200,
        )) {
            let (mut waiting, mut map) = (Waiting::default(), HashMap::new());
            for (seq, verb) in verbs {
                match verb {
                    Verb::Insert => {
                        // A row has a waiter of its own, so whether it came back tells whether the id was known.
                        let waiter = Waiter::new(Arc::new(Told::default()), 0, 1);
                        let came_back = waiting.insert(watched(seq, Some(waiter))).is_some();
                        prop_assert_eq!(came_back, map.contains_key(&seq));
                        map.entry(seq).or_insert(0);
                    }
                    Verb::Expect(attempt) => {
                        waiting.expect(id(seq).into(), Attempt(attempt));
                        map.entry(seq).and_modify(|expected| *expected = attempt);
                    }
                    Verb::Complete(attempt) => {
                        let completed = complete(&mut waiting, seq, attempt.map(Attempt)).map(|watched| watched.id);
                        let is_good = map.get(&seq).is_some_and(|&expected| attempt.is_none_or(|a| a >= expected));
                        if is_good {
                            map.remove(&seq);
                        }
                        prop_assert_eq!(completed, is_good.then_some(id(seq)));
                    }
                }
                for seq in 0..20 {
                    prop_assert_eq!(waiting.get(id(seq)).is_some(), map.contains_key(&seq));
                }
            }
        }
    }
}
