//! What is remembered of settled tasks, within bounds of count, bytes and age.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::TaskError;
use crate::limits::Limits;
use crate::task::{Extras, Moment, Record, Run, Span, TaskId, TaskKind};

/// The records, oldest first, and the values that were to be kept.
#[derive(Debug)]
pub(super) struct Records {
    records: VecDeque<Stored>,
    /// How many tasks they are of.
    tasks: usize,
    records_max: usize,
    age_max: Duration,
    /// How many records are gone.
    gone: u64,
    /// The records with what their tasks printed, counted from the first there ever was, and how many bytes that is.
    printed: VecDeque<(u64, usize)>,
    printed_bytes: usize,
    printed_bytes_max: usize,
    kept: HashMap<TaskId, Kept>,
    kept_bytes: usize,
    kept_bytes_max: usize,
    /// Kept values in the order in which they are to go.
    leaving: BTreeMap<Turn, TaskId>,
    /// Counts the turns given.
    turns: u64,
}

/// When a kept value is to go: those that were fetched before the others, and each in the order of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    is_unfetched: bool,
    count: u64,
}

/// A record, in fewer bytes; or those of items of a map that ran and settled together.
#[derive(Debug)]
struct Stored {
    tasks: Span,
    kind: &'static TaskKind,
    extras: Option<Arc<Extras>>,
    submitted: Moment,
    run: Run,
}

#[derive(Debug)]
struct Kept {
    outcome: Result<Bytes, TaskError>,
    turn: Turn,
}

impl Records {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            records: VecDeque::new(),
            tasks: 0,
            records_max: limits.records_max,
            age_max: Duration::from_secs(limits.record_age_s_max),
            gone: 0,
            printed: VecDeque::new(),
            printed_bytes: 0,
            printed_bytes_max: limits.kept_printed_bytes_max,
            kept: HashMap::new(),
            kept_bytes: 0,
            kept_bytes_max: limits.kept_bytes_max,
            leaving: BTreeMap::new(),
            turns: 0,
        }
    }

    /// Remembers tasks that were settled now, and forgets what is too much or too old.
    pub(super) fn add(
        &mut self,
        tasks: Span,
        kind: &'static TaskKind,
        extras: Option<Arc<Extras>>,
        submitted: Moment,
        run: Run,
    ) {
        let (max, age, now) = (self.records_max, self.age_max, run.completed);
        self.put(Stored { tasks, kind, extras, submitted, run });
        while self.tasks > max || self.records.front().is_some_and(|r| now.since(r.run.completed) > age) {
            let Some(old) = self.records.pop_front() else { break };
            self.tasks -= old.tasks.count as usize;
            self.gone += 1;
            if old.is_kept() {
                self.forget(old.tasks.first);
            }
        }
        while let Some(&(at, bytes)) = self.printed.front()
            && (at < self.gone || self.printed_bytes > self.printed_bytes_max)
        {
            self.printed.pop_front();
            self.printed_bytes -= bytes;
            if let Some(place) = at.checked_sub(self.gone) {
                self.records[place as usize].run.printed = None;
            }
        }
    }

    /// Keeps the value of a task, or its error or that of several, for whoever asks.
    pub(super) fn keep(&mut self, tasks: Span, outcome: Result<Bytes, TaskError>) {
        let id = tasks.first;
        self.kept_bytes += outcome.as_ref().map_or(0, Bytes::len);
        let turn = self.next_turn(true);
        self.kept.insert(id, Kept { outcome, turn });
        self.leaving.insert(turn, id);
        while self.kept_bytes > self.kept_bytes_max
            && let Some((_, id)) = self.leaving.pop_first()
        {
            self.forget(id);
        }
    }

    /// Returns a kept outcome; `None` if this task's was never kept, or its record is gone.
    pub(super) fn fetch(&mut self, id: TaskId) -> Option<Result<Bytes, TaskError>> {
        let turn = self.next_turn(false);
        let Some(kept) = self.kept.get_mut(&id) else {
            let record = self.records.iter().rev().find(|record| record.tasks.contains(id) && record.is_kept())?;
            // One that ended without a value, together with others: their one error is kept by the first.
            let with_others = (record.tasks.first != id).then_some(record.tasks.first);
            return with_others.map_or(Some(Err(TaskError::ResultEvicted)), |first| self.fetch(first));
        };
        if kept.turn.is_unfetched {
            self.leaving.remove(&kept.turn);
            self.leaving.insert(turn, id);
            kept.turn = turn;
        }
        Some(kept.outcome.clone())
    }

    /// Returns the record of a settled task. Searches from the newest.
    pub(super) fn get(&self, id: TaskId) -> Option<Record> {
        self.records.iter().rev().find(|record| record.tasks.contains(id)).map(|stored| stored.to_record(id))
    }

    pub(super) fn all(&self) -> Vec<Record> {
        let tasks = self.records.iter().flat_map(|stored| (0..stored.tasks.count).map(move |n| (stored, n)));
        tasks.map(|(stored, n)| stored.to_record(stored.tasks.first.plus(n))).collect()
    }

    /// Forgets everything.
    pub(super) fn purge(&mut self) {
        self.gone += self.records.len() as u64;
        self.records = VecDeque::new();
        (self.printed, self.printed_bytes) = (VecDeque::new(), 0);
        self.tasks = 0;
        self.kept = HashMap::new();
        self.kept_bytes = 0;
        self.leaving = BTreeMap::new();
    }

    /// Forgets everything of one client's tasks.
    pub(super) fn purge_client(&mut self, client: u64) {
        let all = std::mem::take(&mut self.records);
        self.gone += all.len() as u64;
        (self.printed, self.printed_bytes, self.tasks) = (VecDeque::new(), 0, 0);
        let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|stored| stored.tasks.first.client == client);
        gone.iter().filter(|stored| stored.is_kept()).for_each(|stored| self.forget(stored.tasks.first));
        left.into_iter().for_each(|stored| self.put(stored));
    }

    fn put(&mut self, stored: Stored) {
        if let Some(printed) = &stored.run.printed {
            self.printed.push_back((self.gone + self.records.len() as u64, printed.bytes()));
            self.printed_bytes += printed.bytes();
        }
        self.tasks += stored.tasks.count as usize;
        self.records.push_back(stored);
    }

    fn forget(&mut self, id: TaskId) {
        let Some(kept) = self.kept.remove(&id) else { return };
        self.kept_bytes -= kept.outcome.as_ref().map_or(0, Bytes::len);
        self.leaving.remove(&kept.turn);
    }

    fn next_turn(&mut self, is_unfetched: bool) -> Turn {
        self.turns += 1;
        Turn { is_unfetched, count: self.turns }
    }
}

impl Stored {
    fn is_kept(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.keep)
    }

    fn to_record(&self, id: TaskId) -> Record {
        Record::new(id, self.kind, self.extras.as_deref(), self.submitted, Some(self.run.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::{Attempt, Status};

    static KIND: TaskKind =
        TaskKind { name: "crate::test", version: 1, key: 1, fingerprint: 1, idempotent: false, portable: true };

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    fn records(records_max: usize, kept_bytes_max: usize, record_age_s_max: u64) -> Records {
        Records::new(&Limits { records_max, kept_bytes_max, record_age_s_max, ..Limits::default() })
    }

    fn seconds(s: u64) -> Moment {
        Moment::FIRST.after(Duration::from_secs(s))
    }

    fn done(at_s: u64) -> Run {
        let (status, attempt) = (Status::Done, Attempt(1));
        Run { status, engine: None, attempt, started: None, completed: seconds(at_s), printed: None }
    }

    /// Adds the record of a task that was settled at this second.
    fn add(records: &mut Records, seq: u64, at_s: u64) {
        records.add(id(seq).into(), &KIND, None, seconds(at_s), done(at_s));
    }

    /// Adds the record of a task whose value of so many bytes is kept.
    fn keep(records: &mut Records, seq: u64, bytes: usize) {
        let extras = Some(Arc::new(Extras { keep: true, label: Some("kept".into()), ..Extras::default() }));
        records.keep(id(seq).into(), Ok(value(seq, bytes)));
        records.add(id(seq).into(), &KIND, extras, Moment::FIRST, done(0));
    }

    fn value(seq: u64, bytes: usize) -> Bytes {
        vec![seq as u8; bytes].into()
    }

    fn ids(records: &Records) -> Vec<u64> {
        records.all().iter().map(|record| record.id.seq).collect()
    }

    fn kept(records: &Records) -> Vec<u64> {
        let mut kept: Vec<u64> = records.kept.keys().map(|id| id.seq).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn a_record_tells_what_it_was_given() {
        let mut records = records(10, 10, 10);
        add(&mut records, 1, 5);
        keep(&mut records, 2, 1);
        let record = records.get(id(1)).expect("it was added");
        assert_eq!((record.name(), record.status, record.attempt), ("test", Status::Done, Attempt(1)));
        assert_eq!((record.submitted, record.completed, record.label), (seconds(5), Some(seconds(5)), None));
        assert_eq!(records.get(id(2)).and_then(|record| record.label).as_deref(), Some("kept"));
        assert!(records.get(id(3)).is_none());
    }

    #[test]
    fn the_oldest_records_go_when_there_are_too_many() {
        let mut records = records(3, 10, 10);
        (0..5).for_each(|seq| add(&mut records, seq, 0));
        assert_eq!(ids(&records), [2, 3, 4]);
        assert!(records.get(id(1)).is_none());
    }

    #[test]
    fn records_that_are_too_old_go_when_the_next_one_comes() {
        let mut records = records(10, 10, 60);
        add(&mut records, 0, 0);
        add(&mut records, 1, 1);
        add(&mut records, 2, 60);
        assert_eq!(ids(&records), [0, 1, 2], "60 s old is not too old");
        add(&mut records, 3, 62);
        assert_eq!(ids(&records), [2, 3]);
    }

    #[test]
    fn of_kept_values_those_that_were_fetched_go_first_and_then_the_oldest() {
        let mut records = records(100, 40, 60);
        (0..4).for_each(|seq| keep(&mut records, seq, 10));
        assert_eq!(records.fetch(id(2)), Some(Ok(value(2, 10))));
        assert_eq!(records.fetch(id(1)), Some(Ok(value(1, 10))));
        assert_eq!(records.fetch(id(2)), Some(Ok(value(2, 10))), "to fetch is not to take");

        keep(&mut records, 4, 10);
        assert_eq!(kept(&records), [0, 1, 3, 4]);
        keep(&mut records, 5, 10);
        assert_eq!(kept(&records), [0, 3, 4, 5]);
        keep(&mut records, 6, 15);
        assert_eq!(kept(&records), [4, 5, 6]);
        assert_eq!(records.kept_bytes, 35);
    }

    #[test]
    fn a_value_that_went_leaves_word_of_it_as_long_as_its_record_stays() {
        let mut records = records(2, 10, 60);
        keep(&mut records, 0, 10);
        keep(&mut records, 1, 10);
        assert_eq!(records.fetch(id(0)), Some(Err(TaskError::ResultEvicted)));
        assert_eq!(records.fetch(id(1)), Some(Ok(value(1, 10))));
        add(&mut records, 2, 0);
        assert_eq!(records.fetch(id(0)), None, "its record is gone");
        assert_eq!(records.fetch(id(2)), None, "it was never kept");
    }

    #[test]
    fn a_record_that_goes_takes_its_value_with_it() {
        let mut records = records(2, 100, 60);
        (0..2).for_each(|seq| keep(&mut records, seq, 10));
        assert!(records.fetch(id(1)).is_some());
        (2..4).for_each(|seq| add(&mut records, seq, 0));
        assert_eq!((kept(&records), records.kept_bytes), (vec![], 0));
        assert!(records.leaving.is_empty());
    }

    #[test]
    fn an_error_is_kept_as_well_and_costs_no_bytes() {
        let mut records = records(10, 10, 60);
        keep(&mut records, 0, 10);
        records.keep(id(1).into(), Err(TaskError::NoEngines));
        assert_eq!(records.fetch(id(0)), Some(Ok(value(0, 10))));
        assert_eq!(records.fetch(id(1)), Some(Err(TaskError::NoEngines)));
        assert_eq!(records.kept_bytes, 10);
    }

    #[test]
    fn a_purge_leaves_nothing() {
        let mut records = records(10, 100, 60);
        (0..5).for_each(|seq| keep(&mut records, seq, 10));
        assert!(records.fetch(id(3)).is_some());
        records.purge();
        assert_eq!((ids(&records), kept(&records), records.kept_bytes), (vec![], vec![], 0));
        assert_eq!(records.fetch(id(3)), None);
        assert_eq!((records.records.capacity(), records.kept.capacity()), (0, 0));
        keep(&mut records, 9, 100);
        assert_eq!(records.fetch(id(9)), Some(Ok(value(9, 100))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_bounds_hold_and_the_books_agree(
            steps in prop::collection::vec((0..4_u8, 0..40_usize), 0..200),
        ) {
            let mut records = records(20, 100, 60);
            for (seq, (step, number)) in (0..).zip(steps) {
                match step {
                    0 => keep(&mut records, seq, number),
                    1 => add(&mut records, seq, 0),
                    2 => drop(records.fetch(id(seq.saturating_sub(number as u64)))),
                    _ if number == 0 => records.purge(),
                    _ => {}
                }
                prop_assert!(records.records.len() <= 20 && records.kept_bytes <= 100);
                let lengths = records.kept.values().map(|kept| kept.outcome.as_ref().map_or(0, Bytes::len));
                prop_assert_eq!(records.kept_bytes, lengths.sum::<usize>());
                let in_order = records.leaving.iter().all(|(turn, id)| records.kept[id].turn == *turn);
                prop_assert!(in_order && records.leaving.len() == records.kept.len());
            }
        }
    }
}
