//! What one remote engine has: each attempt that was sent and not returned, with its call.
//!
//! Pure. An engine runs what it is sent in order, one after the other, and notes where it is: so when it is lost, all
//! up to there has started, and the rest has not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Coded, Place, TaskError};
use crate::ledger::HandBack;
use crate::messages::Completion;
use crate::task::{Attempt, EngineId, Extras, Payload, TaskId, TaskKind, Value, WireValue};
use crate::wire::protocol::{Body, End, Fault};

/// The attempts that an engine has.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// In the order in which they were sent.
    tasks: BTreeMap<u64, SentTask>,
    index: HashMap<TaskId, u64>,
    next: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct SentTask {
    pub(super) id: TaskId,
    pub(super) attempt: Attempt,
    pub(super) kind: &'static TaskKind,
    pub(super) may_retry: bool,
    pub(super) payload: Payload,
    pub(super) extras: Option<Arc<Extras>>,
}

/// What becomes of an attempt that was returned.
#[derive(Debug)]
pub(super) enum Returned {
    /// It has an outcome; the call is not needed any more.
    Done(Completion, Payload),
    /// The call goes back to the Scheduler.
    Back(HandBack),
}

impl Sent {
    pub(super) fn add(&mut self, task: SentTask) {
        self.index.insert(task.id, self.next);
        self.tasks.insert(self.next, task);
        self.next += 1;
    }

    fn find(&self, id: TaskId, attempt: Attempt) -> Option<u64> {
        self.index.get(&id).copied().filter(|serial| self.tasks[serial].attempt == attempt)
    }

    /// Takes an attempt out; an error if the engine does not have it.
    fn take(&mut self, id: TaskId, attempt: Attempt) -> Result<SentTask, Box<str>> {
        let Some(task) = self.find(id, attempt).and_then(|serial| self.tasks.remove(&serial)) else {
            return Err(format!("it returns attempt {attempt} of task {id}, which it does not have").into());
        };
        self.index.remove(&id);
        Ok(task)
    }

    /// An attempt has ended.
    pub(super) fn on_ended(
        &mut self,
        engine: EngineId,
        end: End,
        value: impl FnOnce(Body) -> Option<Bytes>,
    ) -> Result<Returned, Box<str>> {
        let End { id, attempt, ran_ns, outcome } = end;
        let task = self.take(id, attempt)?;
        let outcome = match outcome {
            Ok(body) => Ok(value(body).ok_or("a value is in a buffer that did not come")?),
            Err(fault) => Err(task.error_of(engine, fault)),
        };
        let (count, ran) = (1, Some(Duration::from_nanos(ran_ns)));
        match outcome {
            Err(error) if task.may_retry => {
                let payload = Some(task.payload);
                Ok(Returned::Back(HandBack { id, count, attempt, payload, error: Some(error) }))
            }
            outcome => {
                let keep = task.extras.as_ref().is_some_and(|extras| extras.keep);
                let kept = outcome.as_ref().ok().filter(|_| keep).map(|bytes| Box::new(bytes.clone()));
                let of = |inline| Value::Wire(Box::new(WireValue { inline, blobs: Vec::new() }));
                let (engine, outcome) = (Some(engine), outcome.map(of));
                let done = Completion { id, count, attempt, engine, at: None, ran, outcome, kept };
                Ok(Returned::Done(done, task.payload))
            }
        }
    }

    /// An attempt comes back that was not started.
    pub(super) fn on_back(&mut self, id: TaskId, attempt: Attempt) -> Result<HandBack, Box<str>> {
        Ok(self.take(id, attempt)?.back(None))
    }

    /// The engine is gone. What it had comes back: with an error as far as it had started, which was at `last`.
    pub(super) fn on_lost(&mut self, engine: EngineId, last: Option<(TaskId, Attempt)>, cause: &str) -> Vec<HandBack> {
        // Of one that it has returned since, it had begun nothing after.
        let last = last.and_then(|(id, attempt)| self.find(id, attempt));
        self.index.clear();
        let lost = |attempt| TaskError::EngineLost { engine, attempt, cause: cause.into() };
        let back = |(serial, task): (u64, SentTask)| {
            let error = last.is_some_and(|last| serial <= last).then(|| lost(task.attempt));
            task.back(error)
        };
        std::mem::take(&mut self.tasks).into_iter().map(back).collect()
    }
}

impl Sent {
    /// Takes what is left, to be dropped where code of the user's may run.
    pub(super) fn take_calls(&mut self) -> Vec<Payload> {
        std::mem::take(&mut self.tasks).into_values().map(|task| task.payload).collect()
    }
}

impl SentTask {
    fn back(self, error: Option<TaskError>) -> HandBack {
        HandBack { id: self.id, count: 1, attempt: self.attempt, payload: Some(self.payload), error }
    }

    /// Reads what an engine says of an attempt.
    fn error_of(&self, engine: EngineId, fault: Fault) -> TaskError {
        let (name, attempt) = (self.kind.short_name(), self.attempt);
        let place = || Box::new(Place { task: self.id, name, engine: Some(engine), attempt });
        match fault {
            Fault::Failed(text) => TaskError::Failed { place: place(), text },
            Fault::Panicked(message) => TaskError::Panicked { place: place(), message },
            Fault::Arguments(text) => TaskError::Undecodable { what: Coded::Arguments, text },
            Fault::Value(text) => TaskError::Undecodable { what: Coded::Result, text },
            Fault::Unknown => TaskError::UnknownTask { engine, key: self.kind.key },
        }
    }
}
