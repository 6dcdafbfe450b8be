//! Decides for which tasks an outcome counts: the first wins, and a stale attempt's never does.

use super::ResultStore;
use crate::admission::Released;
use crate::error::TaskError;
use crate::ledger::SettledTask;
use crate::messages::{Aftermath, Completion, Waiter, Watched};
use crate::task::{Moment, Outcome, Run, Span, Status, Value};

/// What a batch of outcomes comes to.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) released: Released,
    pub(super) settled: Vec<SettledTask>,
    /// What to tell who waits, and what to drop.
    pub(super) outcomes: Vec<Result<Won, Outcome>>,
}

/// An outcome that counted, and who waits for it.
pub(super) struct Won {
    waiter: Option<Waiter>,
    run: Run,
    outcome: Outcome,
}

impl Decided {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { settled: Vec::with_capacity(count), outcomes: Vec::with_capacity(count), ..Self::default() }
    }
}

impl ResultStore {
    /// Decides for which tasks an outcome counts, and remembers it for those.
    pub(super) fn decide(&mut self, now: Moment, completion: Completion, decided: &mut Decided) {
        let Completion { id, count, attempt, engine, at, ran, mut outcome, mut kept, printed } = completion;
        let tasks = Span { first: id, count };
        let started = ran.map(|ran| now.before(ran));
        let (mut won, mut next) = (0, id);
        let Self { waiting, records, asking, barriers, .. } = self;
        // The scheduler's own word is not an attempt's, and is never stale.
        waiting.complete(tasks, engine.map(|_| attempt), |watched| {
            let span = watched.span();
            // What lies before this part counts for nobody, and so does what is left in the end.
            drop_front(&mut outcome, (span.first.seq - next.seq) as u32, decided);
            let mut outcome = take_front(&mut outcome, span.count);
            next = span.last().plus(1);
            won += span.count;
            barriers.iter_mut().for_each(|barrier| barrier.on_settled(span));
            let Watched { kind, extras, submitted, weight, waiter, .. } = watched;
            decided.released.add(span.count, weight);
            if let Some(deadline) = extras.as_ref().and_then(|extras| extras.deadline)
                && now.since(submitted) > deadline
                && outcome.is_ok()
            {
                // The timer has not rung yet, or the Scheduler has not come to it.
                let late = std::mem::replace(&mut outcome, Err(TaskError::TimedOut { deadline }));
                decided.outcomes.push(Err(late));
            }
            let started = started.map(|started| started.max(submitted));
            let (status, printed) = (status_of(&outcome), printed.clone());
            let run = Run { status, engine: engine.or(at), attempt, started, completed: now, printed };
            if extras.as_ref().is_some_and(|extras| extras.keep) {
                records.keep(span, kept.take().map(|bytes| *bytes).ok_or_else(|| error_of(&outcome)));
            }
            if !asking.is_empty() {
                // Dropping the senders tells those who asked too early.
                asking.retain(|&task, _| !span.contains(task));
            }
            let ends = outcome.as_ref().map_or_else(|_| Vec::new(), Value::ends);
            if ends.is_empty() {
                records.add(span, kind, extras, submitted, run.clone());
            } else {
                // Items that ran together, and did not all end alike.
                let mut first = span.first;
                for (status, count) in ends {
                    let run = Run { status, ..run.clone() };
                    records.add(Span { first, count }, kind, extras.clone(), submitted, run);
                    first = first.plus(count);
                }
            }
            decided.outcomes.push(Ok(Won { waiter, run, outcome }));
        });
        decided.settled.push(SettledTask { id, count, engine, attempt, ran, won });
        if next != tasks.last().plus(1) {
            decided.outcomes.push(Err(outcome));
        }
    }
}

/// Hands an outcome to who waits for it. Returns what is left to do.
pub(super) fn publish(decided: Result<Won, Outcome>) -> Option<Aftermath> {
    match decided {
        Ok(Won { waiter: Some(waiter), run, outcome }) => waiter.settle(run, outcome).map(|aftermath| *aftermath),
        Ok(Won { waiter: None, outcome, .. }) | Err(outcome) => outcome.ok().and_then(unwanted),
    }
}

/// A value that nobody waits for is dropped where its `Drop` may do what it likes.
fn unwanted(value: Value) -> Option<Aftermath> {
    value.needs_drop().then(|| Aftermath { leftover: Some(Box::new(value)), ..Aftermath::default() })
}

/// Takes the outcome of the first `count` tasks: a part of the values, or the error again.
fn take_front(outcome: &mut Outcome, count: u32) -> Outcome {
    match outcome {
        Ok(value) => match value.split_front(count) {
            Some(front) => Ok(front),
            // All that is left; what stays behind is never looked at.
            None => std::mem::replace(outcome, Err(TaskError::Disconnected)),
        },
        Err(error) => Err(error.clone()),
    }
}

/// Puts the outcome of the first `count` tasks, for which nobody waits, with what is to be dropped.
fn drop_front(outcome: &mut Outcome, count: u32, decided: &mut Decided) {
    if count > 0 {
        let front = take_front(outcome, count);
        decided.outcomes.push(Err(front));
    }
}

fn status_of(outcome: &Outcome) -> Status {
    match outcome {
        Ok(value) => value.failed().unwrap_or(Status::Done),
        Err(error) => error.status(),
    }
}

fn error_of(outcome: &Outcome) -> TaskError {
    outcome.as_ref().err().cloned().unwrap_or(TaskError::ResultEvicted)
}
