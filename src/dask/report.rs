//! What travels with a task, through everything that does not read it: the call to an engine, and its report back.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::catch::shortened;
use crate::error::{Coded, Place, TaskError};
use crate::task::{Attempt, EngineId, Lack, Outcome, TaskId, TaskKind, Value, WireCall, WireValue};

/// Longest text of an error that travels, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// One call, encoded.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) task: TaskId,
    pub(super) key: u64,
    pub(super) fingerprint: u64,
    pub(super) inline: Bytes,
    pub(super) blobs: Vec<Bytes>,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The process that made it.
    pub(super) pid: u32,
    pub(super) ran: Duration,
    pub(super) ended: Result<Returned, Fault>,
}

/// A value, encoded.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Returned {
    inline: Bytes,
    blobs: Vec<Bytes>,
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fault {
    Failed(Box<str>),
    Panicked(Box<str>),
    Arguments(Box<str>),
    Value(Box<str>),
    Unknown(Lack),
}

/// Which execution of which task a report is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) task: TaskId,
    pub(super) kind: &'static TaskKind,
    pub(super) attempt: Attempt,
}

impl Call {
    pub(super) fn of(task: TaskId, kind: &TaskKind, call: WireCall) -> Self {
        let WireCall { key, inline, blobs, .. } = call;
        Self { task, key, fingerprint: kind.fingerprint, inline, blobs }
    }

    pub(super) fn into_wire(self) -> WireCall {
        WireCall { key: self.key, count: 1, inline: self.inline, blobs: self.blobs }
    }
}

impl Report {
    /// Says how a call ended in this process.
    pub(super) fn of(ran: Duration, outcome: Outcome) -> Self {
        let ended = match outcome {
            Ok(Value::Wire(value)) => Ok(Returned { inline: value.inline, blobs: value.blobs }),
            Ok(Value::Typed(_)) => Err(Fault::Value("it was not encoded".into())),
            Err(error) => Err(fault(error)),
        };
        Self { pid: std::process::id(), ran, ended }
    }

    /// Makes of it what whoever waits is given.
    pub(super) fn into_outcome(self, about: About) -> Outcome {
        let About { task, kind, attempt } = about;
        let engine = EngineId(self.pid);
        let place = || Box::new(Place { task, name: kind.short_name(), engine: Some(engine), attempt });
        match self.ended {
            Ok(Returned { inline, blobs }) => Ok(Value::Wire(Box::new(WireValue { inline, blobs }))),
            Err(Fault::Failed(text)) => Err(TaskError::Failed { place: place(), text }),
            Err(Fault::Panicked(message)) => Err(TaskError::Panicked { place: place(), message }),
            Err(Fault::Arguments(text)) => Err(TaskError::Undecodable { what: Coded::Arguments, text }),
            Err(Fault::Value(text)) => Err(TaskError::Undecodable { what: Coded::Result, text }),
            Err(Fault::Unknown(lack)) => Err(TaskError::UnknownTask { engine, task: kind.name.into(), lack }),
        }
    }
}

/// What of an error travels.
fn fault(error: TaskError) -> Fault {
    let short =
        |text: Box<str>| if text.len() > TEXT_BYTES_MAX { shortened(&text, TEXT_BYTES_MAX).into() } else { text };
    match error {
        TaskError::Failed { text, .. } => Fault::Failed(short(text)),
        TaskError::Panicked { message, .. } => Fault::Panicked(short(message)),
        TaskError::Undecodable { what: Coded::Arguments, text } => Fault::Arguments(short(text)),
        TaskError::Undecodable { what: Coded::Result, text } => Fault::Value(short(text)),
        TaskError::UnknownTask { lack, .. } => Fault::Unknown(lack),
        other => Fault::Failed(short(other.to_string().into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;
    use crate::task::Typed;

    #[crate::task(name = "report::square")]
    fn square(x: u64) -> u64 {
        x * x
    }

    #[test]
    fn what_an_engine_reports_comes_back_as_an_outcome() {
        let about = About { task: TaskId { client: 7, seq: 9 }, kind: square::kind(), attempt: Attempt(2) };
        let engine = EngineId(std::process::id());
        let place = || Box::new(Place { task: about.task, name: "square", engine: Some(engine), attempt: Attempt(2) });
        let back = |outcome| {
            let bytes = postcard::to_stdvec(&Report::of(Duration::from_millis(3), outcome)).unwrap();
            let report: Report = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(report.ran, Duration::from_millis(3));
            report.into_outcome(about)
        };
        let value = WireValue { inline: Bytes::from_static(&[49]), blobs: vec![Bytes::from_static(b"beside")] };
        match back(Ok(Value::Wire(Box::new(value.clone())))) {
            Ok(Value::Wire(came)) => assert_eq!(*came, value),
            other => panic!("{other:?}"),
        }
        let errors = [
            TaskError::Failed { place: place(), text: "odd".into() },
            TaskError::Panicked { place: place(), message: "over".into() },
            TaskError::undecodable(Coded::Arguments, "square", "cut"),
            TaskError::undecodable(Coded::Result, "square", "cut"),
            TaskError::UnknownTask { engine, task: "report::square".into(), lack: Lack::Differs },
        ];
        for error in errors {
            assert_eq!(back(Err(error.clone())).unwrap_err(), error);
        }
        let typed = back(Ok(Value::Typed(Box::new(Typed(1_u64))))).unwrap_err();
        assert!(matches!(typed, TaskError::Undecodable { what: Coded::Result, .. }), "{typed}");
    }
}
