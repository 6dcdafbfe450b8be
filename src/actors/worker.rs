//! The thread that runs tasks: takes one from the tray, makes the attempt, says how it ended.

use std::sync::Arc;
use std::time::Instant;

use actix::Recipient;
use bytes::Bytes;

use super::lane::Lane;
use super::spin::Spin;
use super::tray::Tray;
use super::witness::Witness;
use crate::attempt;
use crate::catch::{self, user_code};
use crate::error::{Coded, TaskError};
use crate::ledger::{Assignment, HandBack};
use crate::messages::{Completion, HandedBack};
use crate::registry::Registry;
use crate::task::{
    Attempt, ChunkRun, EngineId, ErasedTask, Extras, Lack, Outcome, Payload, TaskContext, TaskId, Value, WireCall,
    WireValue, beside, check_size,
};

/// One engine's worker.
pub(super) struct Worker {
    pub(super) engine: EngineId,
    pub(super) tray: Arc<Tray>,
    pub(super) registry: Arc<Registry>,
    pub(super) finished: Arc<Lane<Completion>>,
    pub(super) handed_back: Recipient<HandedBack>,
    pub(super) spin: Spin,
    pub(super) witness: Option<Arc<dyn Witness>>,
}

/// How the value of a call leaves the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// Within the process.
    AsTheyAre,
    /// For another.
    Encoded,
}

impl Worker {
    /// Runs tasks until the engine stops.
    pub(super) fn run(mut self) {
        if let Some(witness) = &self.witness {
            witness.on_start();
        }
        let mut cx = TaskContext {
            task: TaskId { client: 0, seq: 0 },
            engine: Some(self.engine),
            attempt: Attempt(0),
            label: None,
            cancel: self.tray.cancel_flag(),
            namespace: Arc::default(),
        };
        while let Some(assignment) = self.tray.next(&mut self.spin) {
            cx.task = assignment.id;
            cx.attempt = assignment.attempt;
            cx.label = assignment.extras.as_ref().and_then(|extras| extras.label.clone());
            self.make_attempt(assignment, &mut cx);
        }
    }

    /// Makes one attempt and reports it: to the result store if it is the last, else back to the scheduler.
    fn make_attempt(&self, assignment: Assignment, cx: &mut TaskContext) {
        let Assignment { id, attempt, may_retry, payload, extras } = assignment;
        let count = payload.count();
        let spare = if may_retry { payload.second_copy() } else { None };
        if count == 1 {
            // Before the call is read: that is code of the user's too.
            self.begins(cx);
        }
        let (mut task, values) = self.read(payload);
        if let Ok(task) = &mut task
            && let Some(chunk) = task.as_chunk()
        {
            let name = task.kind().short_name();
            return self.work_on(chunk, name, id, cx);
        }
        let started = Instant::now();
        let mut outcome = task.and_then(|task| attempt::make(task, cx));
        if values == Values::Encoded {
            outcome = outcome.and_then(|value| encode_for_another(value, extras.as_deref(), cx));
        }
        let ran = started.elapsed();
        self.ends();
        match (outcome, spare) {
            (Err(error), Some(payload)) => {
                let back = HandBack { id, count, attempt, payload: Some(payload), error: Some(error), printed: None };
                self.handed_back.do_send(HandedBack { engine: self.engine, batch: vec![back] });
            }
            (outcome, spare) => {
                catch::discard(spare);
                let (outcome, kept) = keep(outcome, extras.as_deref(), cx);
                let (engine, ran) = (Some(self.engine), Some(ran));
                self.report(Completion { id, count, attempt, engine, at: None, ran, outcome, kept, printed: None });
            }
        }
    }

    /// Works on several items of a map, each an attempt of its own, and reports those that it came to.
    fn work_on(&self, mut chunk: Box<dyn ChunkRun>, name: &'static str, first: TaskId, cx: &mut TaskContext) {
        self.tray.on_chunk(chunk.rest());
        let mut id = first;
        loop {
            let started = Instant::now();
            attempt::make_each(&mut *chunk, name, cx, &|cx| self.begins(cx));
            let ran = Some(started.elapsed());
            self.ends();
            let (count, value, rest) = chunk.finish();
            if count > 0 {
                let (attempt, engine, outcome) = (cx.attempt, Some(self.engine), Ok(value));
                self.report(Completion {
                    id,
                    count,
                    attempt,
                    engine,
                    at: None,
                    ran,
                    outcome,
                    kept: None,
                    printed: None,
                });
            }
            // Where all that was left was taken back, there is none.
            let Some(rest) = rest else { return };
            chunk = rest;
            id = id.plus(count);
        }
    }

    fn report(&self, completion: Completion) {
        // An `Err` is an arbiter that is gone: it has settled its tasks.
        catch::discard(self.finished.push([completion]));
    }

    /// A task begins: tells so before any code of it.
    fn begins(&self, cx: &TaskContext) {
        if let Some(witness) = &self.witness {
            witness.on_begin(cx.task, cx.attempt);
        }
    }

    /// The task has ended, or the last of several: tells so before its outcome.
    fn ends(&self) {
        if let Some(witness) = &self.witness {
            witness.on_end();
        }
    }

    /// Reads a call, if it came as bytes. Then its value is to go as bytes, too.
    fn read(&self, payload: Payload) -> (Result<Box<dyn ErasedTask>, TaskError>, Values) {
        match payload {
            Payload::Typed(mut task) => match task.to_wire() {
                Some(call) => (self.decode(&call), Values::Encoded),
                None => (Ok(task), Values::AsTheyAre),
            },
            Payload::Wire(call) => (self.decode(&call), Values::Encoded),
        }
    }

    fn decode(&self, call: &WireCall) -> Result<Box<dyn ErasedTask>, TaskError> {
        let decoded = user_code(|| self.registry.decode(call));
        let name = self.registry.kind(call.key).map_or("task", |kind| kind.name);
        match decoded {
            Ok(Some(Ok(task))) => Ok(task),
            Ok(None) => Err(TaskError::UnknownTask {
                engine: self.engine,
                task: format!("with key {:016x}", call.key).into(),
                lack: Lack::Missing,
            }),
            Ok(Some(Err(error))) => Err(TaskError::unreadable(Coded::Arguments, name, &error)),
            Err(message) => Err(TaskError::undecodable(Coded::Arguments, name, &message)),
        }
    }
}

/// Encodes the value for the result store, where somebody asked for that.
fn keep(outcome: Outcome, extras: Option<&Extras>, cx: &TaskContext) -> (Outcome, Option<Box<Bytes>>) {
    let Ok(value) = outcome else { return (outcome, None) };
    if !extras.is_some_and(|extras| extras.keep) {
        return (Ok(value), None);
    }
    match user_code(|| encode(&value)) {
        Ok(Ok(bytes)) => (Ok(value), Some(Box::new(bytes))),
        Ok(Err(reason)) | Err(reason) => {
            catch::discard(value);
            (Err(not_encodable(cx, &reason)), None)
        }
    }
}

/// Encodes a value that goes to another process, and drops it here. One that is kept by its id is in one piece.
pub(crate) fn encode_for_another(value: Value, extras: Option<&Extras>, cx: &TaskContext) -> Outcome {
    let (is_kept, mut blobs) = (extras.is_some_and(|extras| extras.keep), Vec::new());
    let encoded = user_code(|| if is_kept { encode(&value) } else { beside(&mut blobs, || encode(&value)) });
    catch::discard(value);
    let inline = encoded.and_then(|encoded| encoded).map_err(|reason| not_encodable(cx, &reason))?;
    check_size(inline.len(), &blobs).map_err(|reason| not_encodable(cx, &reason))?;
    Ok(Value::Wire(Box::new(WireValue { inline, blobs })))
}

fn not_encodable(cx: &TaskContext, reason: &str) -> TaskError {
    TaskError::undecodable(Coded::Result, &format!("task {}", cx.task), reason)
}

fn encode(value: &Value) -> Result<Bytes, Box<str>> {
    match value {
        Value::Wire(wire) => Ok(wire.inline.clone()),
        Value::Typed(value) => match value.encode() {
            Some(Ok(wire)) => Ok(wire.inline),
            Some(Err(error)) => Err(error.to_string().into()),
            None => Err("the value of a closure cannot be encoded".into()),
        },
    }
}
