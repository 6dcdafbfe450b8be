//! What one remote engine has: each attempt that was sent and not returned, with its call.
//!
//! Pure. An engine runs what it is sent in order, one after the other, and notes where it is: so when it is lost, all
//! up to there has started, and the rest has not. What it returns is nearly always the first of these.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::calls::Unencodable;
use super::fate::Begun;
use super::mark::Mark;
use crate::error::{Coded, Place, TaskError};
use crate::ledger::{Assignment, HandBack};
use crate::messages::Completion;
use crate::task::{
    Attempt, EncodedValues, EngineId, Lack, Payload, Printed, Span, Stream, TaskId, TaskKind, Value, WireValue,
};
use crate::wire::protocol::{Encoded, End, Fault, Made};

/// The attempts that an engine has, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<SentTask>);

/// One of them, or one of each of several items.
#[derive(Debug)]
struct SentTask {
    kind: &'static TaskKind,
    count: u32,
    assignment: Assignment,
    /// Those of its items that were sent as nothing.
    unencodable: Unencodable,
    printed: Printed,
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
    pub(super) fn add(
        &mut self,
        kind: &'static TaskKind,
        count: u32,
        assignment: Assignment,
        unencodable: Unencodable,
    ) {
        self.0.push_back(SentTask { kind, count, assignment, unencodable, printed: Printed::default() });
    }

    fn find(&self, id: TaskId, attempt: Attempt) -> Option<usize> {
        self.0.iter().position(|sent| sent.assignment.attempt == attempt && sent.span().contains(id))
    }

    /// Takes out items that are the first or the last ones of what was sent together.
    fn take(&mut self, span: Span, attempt: Attempt) -> Result<SentTask, Box<str>> {
        let taken = self.find(span.first, attempt).and_then(|at| {
            let sent = &mut self.0[at];
            let before = u32::try_from(span.first.seq - sent.assignment.id.seq).ok()?;
            let after = sent.count.checked_sub(before)?.checked_sub(span.count)?;
            match (before, after) {
                (0, 0) => self.0.remove(at),
                (0, _) => sent.split_front(span.count),
                (_, 0) => {
                    let front = sent.split_front(before)?;
                    Some(std::mem::replace(sent, front))
                }
                _ => None,
            }
        });
        taken.ok_or_else(|| {
            let Span { first, count } = span;
            format!("it returns attempt {attempt} of {count} tasks from {first} on, which it does not have").into()
        })
    }

    /// Returns what the engine has begun last of what it has, if that is known.
    pub(super) fn last_begun(&self, begun: Begun) -> Option<(TaskId, Attempt)> {
        let Begun::UpTo(mark) = begun else { return None };
        self.0.iter().find_map(|sent| {
            let attempt = sent.assignment.attempt;
            let mut ids = (0..sent.count).map(|at| sent.assignment.id.plus(at));
            ids.find(|id| Mark::of(*id, attempt) == mark).map(|id| (id, attempt))
        })
    }

    /// Returns whether the engine has this task, in whatever attempt.
    pub(super) fn has(&self, id: TaskId) -> bool {
        self.0.iter().any(|sent| sent.span().contains(id))
    }

    /// Returns whether the engine has this task, and it was not sent together with others.
    pub(super) fn is_alone(&self, id: TaskId) -> bool {
        self.0.iter().any(|sent| sent.count == 1 && sent.assignment.id == id)
    }

    /// An attempt has printed something. Keeps the last `max` bytes.
    pub(super) fn on_printed(&mut self, id: TaskId, attempt: Attempt, to: Stream, text: &str, max: usize) {
        if let Some(at) = self.find(id, attempt) {
            self.0[at].printed.add(id, to, text, max);
        }
    }

    /// Returns what an attempt has printed last: a line of its standard error.
    pub(super) fn last_words(&self, (id, attempt): (TaskId, Attempt)) -> Option<String> {
        self.0[self.find(id, attempt)?].printed.last_words_of(id)
    }

    /// An attempt has ended.
    pub(super) fn on_ended(
        &mut self,
        engine: EngineId,
        end: End,
        take: impl Fn(Encoded) -> Option<(Bytes, Vec<Bytes>)>,
    ) -> Result<Returned, Box<str>> {
        let End { id, count, attempt, ran_ns, outcome } = end;
        let mut sent = self.take(Span { first: id, count }, attempt)?;
        let outcome = match outcome {
            Ok(made) => match sent.value_of(engine, made, take) {
                Ok(value) => Ok(value),
                Err(lie) => {
                    // The engine has it as before, and is about to be lost with what it has.
                    self.0.insert(0, sent);
                    return Err(lie);
                }
            },
            Err(fault) => Err(sent.error_of(engine, 0, fault)),
        };
        let ran = Some(Duration::from_nanos(ran_ns));
        match outcome {
            Err(error) if sent.assignment.may_retry => Ok(Returned::Back(sent.back(Some(error)))),
            outcome => {
                let keep = sent.assignment.extras.as_ref().is_some_and(|extras| extras.keep);
                let kept = match &outcome {
                    Ok(Value::Wire(value)) if keep => Some(Box::new(value.inline.clone())),
                    _ => None,
                };
                let printed = std::mem::take(&mut sent.printed);
                let printed = (!printed.is_empty()).then(|| Arc::new(printed));
                let done =
                    Completion { id, count, attempt, engine: Some(engine), at: None, ran, outcome, kept, printed };
                Ok(Returned::Done(done, sent.assignment.payload))
            }
        }
    }

    /// Attempts come back that were not started.
    pub(super) fn on_back(&mut self, span: Span, attempt: Attempt) -> Result<HandBack, Box<str>> {
        Ok(self.take(span, attempt)?.back(None))
    }

    /// The engine is gone. What it had comes back: with an error as far as it had begun.
    pub(super) fn on_lost(&mut self, engine: EngineId, begun: Begun, cause: &str) -> Vec<HandBack> {
        // Of one that it has returned since, it had begun nothing after.
        let last = self.last_begun(begun).and_then(|(id, attempt)| Some((self.find(id, attempt)?, id)));
        let lost = |attempt| TaskError::EngineLost { engine, attempt, cause: cause.into() };
        let mut had = Vec::with_capacity(self.0.len());
        for (at, mut sent) in std::mem::take(&mut self.0).into_iter().enumerate() {
            let attempt = sent.assignment.attempt;
            let begun = match last {
                _ if begun == Begun::Unknown => sent.count,
                Some((last, _)) if at < last => sent.count,
                Some((last, id)) if at == last => (id.seq - sent.assignment.id.seq) as u32 + 1,
                _ => 0,
            };
            if begun == 0 {
                had.push(sent.back(None));
            } else if let Some(front) = sent.split_front(begun) {
                front.lose(&lost(attempt), &mut had);
                had.push(sent.back(None));
            } else {
                sent.lose(&lost(attempt), &mut had);
            }
        }
        had
    }

    /// Returns how many tasks the engine has.
    pub(super) fn tasks(&self) -> usize {
        self.0.iter().map(|sent| sent.count as usize).sum()
    }

    /// Takes what is left, to be dropped where code of the user's may run.
    pub(super) fn take_calls(&mut self) -> Vec<Payload> {
        std::mem::take(&mut self.0).into_iter().map(|sent| sent.assignment.payload).collect()
    }
}

impl SentTask {
    fn span(&self) -> Span {
        Span { first: self.assignment.id, count: self.count }
    }

    /// Takes the first `count` items out; `None` if there are not more than that.
    fn split_front(&mut self, count: u32) -> Option<Self> {
        let assignment = self.assignment.split_front(count)?;
        self.count -= count;
        let printed = self.printed.split_before(self.assignment.id);
        Some(Self { kind: self.kind, count, assignment, unencodable: self.unencodable.clone(), printed })
    }

    /// Gives back what was lost. Items that could not be encoded have an error of their own, and would have it again.
    fn lose(mut self, lost: &TaskError, had: &mut Vec<HandBack>) {
        let (unencodable, all) = (self.unencodable.clone(), self.span());
        for (id, error) in unencodable.iter().filter(|(id, _)| all.contains(*id)) {
            let before = (id.seq - self.assignment.id.seq) as u32;
            if before > 0 {
                had.extend(self.split_front(before).map(|front| front.back(Some(lost.clone()))));
            }
            let Some(item) = self.split_front(1) else { return had.push(self.back(Some(error.clone()))) };
            had.push(item.back(Some(error.clone())));
        }
        had.push(self.back(Some(lost.clone())));
    }

    fn back(self, error: Option<TaskError>) -> HandBack {
        let Self { count, assignment: Assignment { id, attempt, payload, .. }, printed, .. } = self;
        let printed = (error.is_some() && !printed.is_empty()).then(|| Arc::new(printed));
        HandBack { id, count, attempt, payload: Some(payload), error, printed }
    }

    /// Takes the value, or those of several items, as they came.
    fn value_of(
        &self,
        engine: EngineId,
        made: Made,
        take: impl Fn(Encoded) -> Option<(Bytes, Vec<Bytes>)>,
    ) -> Result<Value, Box<str>> {
        let take = |encoded| take(encoded).map(|(inline, blobs)| WireValue { inline, blobs });
        let missing = "a value is in a buffer that did not come";
        match made {
            Made::One(value) if self.count == 1 => Ok(Value::Wire(Box::new(take(value).ok_or(missing)?))),
            Made::One(_) => Err(format!("it returns one value for {} tasks", self.count).into()),
            Made::Each { values, faults } => {
                let values = take(values).ok_or(missing)?;
                let errors = faults.into_iter().map(|(at, fault)| (at, self.error_of(engine, at, fault))).collect();
                let values = EncodedValues::new(values, self.count, errors);
                let values = values.ok_or_else(|| format!("it returns no values for {} tasks", self.count))?;
                Ok(Value::Typed(Box::new(values)))
            }
        }
    }

    /// Reads what an engine says of an attempt of the item at this place.
    fn error_of(&self, engine: EngineId, at: u32, fault: Fault) -> TaskError {
        let (name, attempt) = (self.kind.short_name(), self.assignment.attempt);
        let place = || Box::new(Place { task: self.assignment.id.plus(at), name, engine: Some(engine), attempt });
        match fault {
            Fault::Failed(text) => TaskError::Failed { place: place(), text },
            Fault::Panicked(message) => TaskError::Panicked { place: place(), message },
            Fault::Arguments(text) => TaskError::Undecodable { what: Coded::Arguments, text },
            Fault::Value(text) => TaskError::Undecodable { what: Coded::Result, text },
            Fault::Unknown => TaskError::UnknownTask { engine, task: self.kind.name.into(), lack: Lack::Missing },
            Fault::NoCall => {
                let id = self.assignment.id.plus(at);
                let refused = self.unencodable.iter().find(|(refused, _)| *refused == id);
                // The others were given up on the way: the result store waits for them no more.
                refused.map_or(TaskError::Disconnected, |(_, error)| error.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;
    use crate::task::{Chunk, TaskContext, TaskFailure};
    use crate::wire::protocol::Body;

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Echo(u32);

    impl Task for Echo {
        type Output = u32;
        const NAME: &'static str = "sent::Echo";
        fn run(self, _: &TaskContext) -> Result<u32, TaskFailure> {
            Ok(self.0)
        }
    }

    const ENGINE: EngineId = EngineId(3);

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    fn span(first: u64, count: u32) -> Span {
        Span { first: id(first), count }
    }

    /// Several times items that were sent together: their first, and how many.
    fn sent(maps: &[(u64, u32)]) -> Sent {
        let mut sent = Sent::default();
        for &(first, count) in maps {
            let payload = Payload::Typed(Box::new(Chunk::new((0..count).map(Echo))));
            let assignment = Assignment { id: id(first), attempt: Attempt(1), may_retry: false, payload, extras: None };
            sent.add(Echo::kind(), count, assignment, Unencodable::default());
        }
        sent
    }

    fn inlined(bytes: &[u8]) -> Encoded {
        Encoded { bytes: Body::Inline(Bytes::copy_from_slice(bytes)), blobs: vec![] }
    }

    fn seen(had: &[HandBack]) -> Vec<(u64, u32, bool)> {
        let whole = |back: &HandBack| back.payload.as_ref().is_some_and(|payload| payload.count() == back.count);
        assert!(had.iter().all(whole), "each has the calls of its items");
        had.iter().map(|back| (back.id.seq, back.count, back.error.is_some())).collect()
    }

    #[test]
    fn what_is_lost_had_started_up_to_the_task_that_began_last() {
        let lost = |begun| seen(&sent(&[(0, 4), (10, 5), (20, 1)]).on_lost(ENGINE, begun, "killed"));
        let up_to = |seq, attempt| lost(Begun::UpTo(Mark::of(id(seq), Attempt(attempt))));
        assert_eq!(lost(Begun::Unknown), [(0, 4, true), (10, 5, true), (20, 1, true)]);
        assert_eq!(lost(Begun::Nothing), [(0, 4, false), (10, 5, false), (20, 1, false)]);
        assert_eq!(up_to(0, 1), [(0, 1, true), (1, 3, false), (10, 5, false), (20, 1, false)]);
        assert_eq!(up_to(12, 1), [(0, 4, true), (10, 3, true), (13, 2, false), (20, 1, false)]);
        assert_eq!(up_to(20, 1), [(0, 4, true), (10, 5, true), (20, 1, true)]);
        assert_eq!(up_to(12, 2), lost(Begun::Nothing), "another attempt of it");
    }

    #[test]
    fn of_what_is_lost_items_that_could_not_be_encoded_keep_their_own_error() {
        for (refused, expected) in [
            (&[2_u64][..], &[(0, 2, true), (2, 1, false), (3, 2, true)][..]),
            (&[0, 1], &[(0, 1, false), (1, 1, false), (2, 3, true)]),
            (&[3, 4], &[(0, 3, true), (3, 1, false), (4, 1, false)]),
        ] {
            let mut sent = sent(&[(0, 5)]);
            let error = TaskError::undecodable(Coded::Arguments, "Echo", "shy");
            sent.0[0].unencodable = refused.iter().map(|seq| (id(*seq), error.clone())).collect();
            let had = sent.on_lost(ENGINE, Begun::Unknown, "killed");
            let told: Vec<_> = had
                .iter()
                .map(|back| (back.id.seq, back.count, matches!(back.error, Some(TaskError::EngineLost { .. }))))
                .collect();
            assert_eq!(told, expected);
            assert!(had.iter().all(|back| back.error.is_some()));
        }
    }

    #[test]
    fn items_that_were_sent_together_return_as_a_front_and_an_end_in_any_order() {
        let end = |first, count, values: &[u8]| End {
            id: id(first),
            count,
            attempt: Attempt(1),
            ran_ns: 5,
            outcome: Ok(Made::Each { values: inlined(values), faults: vec![] }),
        };
        let inline = |encoded: Encoded| encoded.take(&[]);
        let two = [1, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        for is_end_first in [true, false] {
            let mut sent = sent(&[(0, 5)]);
            assert!(sent.on_back(span(1, 2), Attempt(1)).is_err(), "the midst");
            assert!(sent.on_back(span(3, 3), Attempt(1)).is_err(), "one too many");
            assert!(sent.on_back(span(2, 3), Attempt(2)).is_err(), "another attempt");
            assert!(sent.on_back(span(5, 1), Attempt(1)).is_err(), "never sent");
            if is_end_first {
                assert_eq!(sent.on_back(span(2, 3), Attempt(1)).unwrap().count, 3);
            }
            let Ok(Returned::Done(done, call)) = sent.on_ended(ENGINE, end(0, 2, &two), inline) else { panic!() };
            assert_eq!((done.id, done.count, call.count()), (id(0), 2, 2));
            if !is_end_first {
                assert_eq!(sent.on_back(span(2, 3), Attempt(1)).unwrap().id, id(2));
            }
            assert!(sent.take_calls().is_empty());
        }
        // Values for more or fewer tasks than they are said to be for, and in a buffer that is not there.
        assert!(sent(&[(0, 5)]).on_ended(ENGINE, end(0, 3, &two), inline).is_err());
        assert!(sent(&[(0, 5)]).on_ended(ENGINE, end(0, 1, &two), inline).is_err());
        let made = Made::Each { values: Encoded { bytes: Body::Buffer(0), blobs: vec![] }, faults: vec![] };
        assert!(sent(&[(0, 5)]).on_ended(ENGINE, End { outcome: Ok(made), ..end(0, 2, &[]) }, inline).is_err());
        let made = Made::One(inlined(&[]));
        assert!(sent(&[(0, 5)]).on_ended(ENGINE, End { outcome: Ok(made), ..end(0, 2, &[]) }, inline).is_err());
    }
}
