//! What is on stage: kinds of tasks, calls that tell when they are dropped, and how attempts end.

use std::cell::RefCell;
use std::time::Duration;

use callboard::ledger::SettledTask;
use callboard::task::{
    Attempt, EngineId, ErasedTask, Payload, Retries, Target, TaskId, TaskKind, Value, WireCall, key_of,
};
use callboard::{Place, TaskContext, TaskError, TaskFailure};

use super::Wish;

const fn kind(name: &'static str, portable: bool) -> TaskKind {
    TaskKind { name, version: 1, key: key_of(name, 1), fingerprint: 0, idempotent: false, portable }
}

/// Takes a microsecond.
pub(crate) static TINY: TaskKind = kind("tiny", true);
/// Takes 200 microseconds: a few fit into the default backlog.
pub(crate) static SHORT: TaskKind = kind("short", true);
/// Takes 20 milliseconds.
pub(crate) static LONG: TaskKind = kind("long", true);
/// Takes a microsecond, on an engine of this process.
pub(crate) static CLOSURE: TaskKind = kind("closure", false);

pub(crate) static KINDS: [&TaskKind; 4] = [&TINY, &SHORT, &LONG, &CLOSURE];

pub(crate) fn time_of(kind: &TaskKind) -> Duration {
    Duration::from_micros(match kind.name {
        "short" => 200,
        "long" => 20_000,
        _ => 1,
    })
}

thread_local! {
    /// The calls that were dropped since somebody looked.
    static DROPPED: RefCell<Vec<TaskId>> = const { RefCell::new(Vec::new()) };
}

/// Returns the calls that were dropped since somebody asked.
pub(crate) fn take_dropped() -> Vec<TaskId> {
    DROPPED.with_borrow_mut(std::mem::take)
}

/// A call that tells when it is dropped.
pub(crate) struct Call {
    pub(crate) task: TaskId,
    pub(crate) kind: &'static TaskKind,
}

impl Drop for Call {
    fn drop(&mut self) {
        DROPPED.with_borrow_mut(|dropped| dropped.push(self.task));
    }
}

impl ErasedTask for Call {
    fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Ok(Value::of(()))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        None
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        true
    }
}

/// A task that asks for nothing special.
pub(crate) fn wish(kind: &'static TaskKind, target: Target) -> Wish {
    Wish { kind, target, retries: Retries::default(), deadline: None }
}

pub(crate) fn lost(engine: EngineId, attempt: Attempt) -> TaskError {
    TaskError::EngineLost { engine, attempt, cause: "its process died".into() }
}

pub(crate) fn failed(engine: EngineId, task: TaskId, attempt: Attempt) -> TaskError {
    let place = Box::new(Place { task, name: "task", engine: Some(engine), attempt });
    TaskError::Failed { place, text: "no luck".into() }
}

pub(crate) fn cancelled() -> TaskError {
    TaskError::Cancelled { reason: "no need".into() }
}

pub(crate) fn outcome(id: TaskId, engine: Option<EngineId>, attempt: Attempt, ran: Option<Duration>) -> SettledTask {
    // Whether it counts is the store's to say.
    SettledTask { id, count: 1, engine, attempt, ran, won: 0 }
}

pub(crate) fn kind_of(payload: &Payload) -> &'static TaskKind {
    match payload {
        Payload::Typed(task) => task.kind(),
        Payload::Wire(_) => unreachable!("these tests make no encoded calls"),
    }
}
