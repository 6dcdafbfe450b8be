//! What is remembered of settled tasks, within bounds of count, bytes and age.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::TaskError;
use crate::limits::Limits;
use crate::task::{Extras, Moment, Record, Run, TaskId, TaskKind};

/// The records, oldest first, and the values that were to be kept.
#[derive(Debug)]
pub(super) struct Records {
    records: VecDeque<Stored>,
    records_max: usize,
    age_max: Duration,
    kept: HashMap<TaskId, Kept>,
    kept_bytes: usize,
    kept_bytes_max: usize,
    /// Kept values in the order in which they are to go: those fetched first, then the others by age.
    fetched: VecDeque<TaskId>,
    unfetched: VecDeque<TaskId>,
}

/// A record, in fewer bytes.
#[derive(Debug)]
struct Stored {
    id: TaskId,
    kind: &'static TaskKind,
    extras: Option<Arc<Extras>>,
    submitted: Moment,
    run: Run,
}

#[derive(Debug)]
struct Kept {
    outcome: Result<Bytes, TaskError>,
    is_fetched: bool,
}

impl Records {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            records: VecDeque::new(),
            records_max: limits.records_max,
            age_max: Duration::from_secs(limits.record_age_s_max),
            kept: HashMap::new(),
            kept_bytes: 0,
            kept_bytes_max: limits.kept_bytes_max,
            fetched: VecDeque::new(),
            unfetched: VecDeque::new(),
        }
    }

    /// Remembers a task that was settled now, and forgets what is too much or too old.
    pub(super) fn add(
        &mut self,
        id: TaskId,
        kind: &'static TaskKind,
        extras: Option<Arc<Extras>>,
        submitted: Moment,
        run: Run,
    ) {
        self.records.push_back(Stored { id, kind, extras, submitted, run });
        let (max, age, now) = (self.records_max, self.age_max, run.completed);
        while self.records.len() > max || self.records.front().is_some_and(|r| now.since(r.run.completed) > age) {
            let Some(old) = self.records.pop_front() else { break };
            if old.is_kept() {
                self.forget(old.id);
            }
        }
    }

    /// Keeps the value of a task, or its error, for whoever asks.
    pub(super) fn keep(&mut self, id: TaskId, outcome: Result<Bytes, TaskError>) {
        self.kept_bytes += outcome.as_ref().map_or(0, Bytes::len);
        self.kept.insert(id, Kept { outcome, is_fetched: false });
        self.unfetched.push_back(id);
        while self.kept_bytes > self.kept_bytes_max {
            let next = self.fetched.pop_front().or_else(|| self.unfetched.pop_front());
            let Some(id) = next else { break };
            self.forget(id);
        }
    }

    /// Returns a kept outcome; `None` if this task's was never kept, or its record is gone.
    pub(super) fn fetch(&mut self, id: TaskId) -> Option<Result<Bytes, TaskError>> {
        let Some(kept) = self.kept.get_mut(&id) else {
            let was_kept = self.records.iter().rev().any(|record| record.id == id && record.is_kept());
            return was_kept.then_some(Err(TaskError::ResultEvicted));
        };
        if !std::mem::replace(&mut kept.is_fetched, true) {
            self.unfetched.retain(|&other| other != id);
            self.fetched.push_back(id);
        }
        Some(kept.outcome.clone())
    }

    /// Returns the record of a settled task. Searches from the newest.
    pub(super) fn get(&self, id: TaskId) -> Option<Record> {
        self.records.iter().rev().find(|record| record.id == id).map(Stored::to_record)
    }

    pub(super) fn all(&self) -> Vec<Record> {
        self.records.iter().map(Stored::to_record).collect()
    }

    /// Forgets everything.
    pub(super) fn purge(&mut self) {
        self.records = VecDeque::new();
        self.kept = HashMap::new();
        self.kept_bytes = 0;
        self.fetched = VecDeque::new();
        self.unfetched = VecDeque::new();
    }

    fn forget(&mut self, id: TaskId) {
        let Some(kept) = self.kept.remove(&id) else { return };
        self.kept_bytes -= kept.outcome.as_ref().map_or(0, Bytes::len);
        let order = if kept.is_fetched { &mut self.fetched } else { &mut self.unfetched };
        order.retain(|&other| other != id);
    }
}

impl Stored {
    fn is_kept(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.keep)
    }

    fn to_record(&self) -> Record {
        Record::new(self.id, self.kind, self.extras.as_deref(), self.submitted, Some(self.run))
    }
}
