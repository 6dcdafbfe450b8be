//! The engine on a Dask worker: this program once more, which reads calls from its standard input, makes them one after
//! the other, and writes how they ended.
//!
//! What starts it there is `plugin/engine.py`. When that is gone, or wants it to go, its input ends, and with it this process and
//! all that its tasks have started.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use parking_lot::Mutex;

use super::frames::{self, ENGINE_CALL, ENGINE_CANCEL, HELLO};
use super::report::{Call, Report};
use crate::actors::encode_for_another;
use crate::attempt;
use crate::catch::user_code;
use crate::error::{Coded, Error, TaskError};
use crate::registry::Registry;
use crate::task::{Attempt, CancelFlag, EngineId, ErasedTask, Lack, Outcome, TaskContext};

/// What has this very program be such an engine, in [`init`](crate::init): its first argument.
pub(crate) const RESIDENT_ARGUMENT: &str = "--callboard-resident";

/// The call that was begun or is next, and how it is told to stop.
type Current = Arc<Mutex<Option<(u64, Arc<CancelFlag>)>>>;

/// Is an engine until the standard input ends. Then the process ends with its group, and this does not return.
pub(crate) fn serve() -> Result<(), Error> {
    let failed =
        |error: io::Error| Error::System { doing: "taking the pipes of a Dask worker", reason: error.to_string() };
    let (input, mut output) = take_pipes().map_err(failed)?;
    let registry = Registry::auto()?;
    output.write_all(HELLO).map_err(failed)?;
    let (hand_over, handed_over) = mpsc::channel();
    let current = Current::default();
    let reading = current.clone();
    let read = move || {
        if let Err(error) = read_frames(input, &reading, &hand_over) {
            eprintln!("callboard: what a Dask worker says cannot be read: {error}");
        }
        // Whoever would take an outcome is gone.
        crate::process::end_group();
    };
    std::thread::Builder::new().name("cb-frames".into()).spawn(read).map_err(failed)?;
    for (call, cancel) in handed_over {
        let told = report(&registry, &call, cancel);
        // The reader ends this process where nobody takes it.
        let _ = output.write_all(&told);
    }
    Ok(())
}

/// Takes both pipes away from the tasks: they find an empty input, and what they print goes to the worker's log.
fn take_pipes() -> io::Result<(File, File)> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((input, output))
}

/// Hands calls over to who makes them, and tells the one that is made to stop where that is wanted.
fn read_frames(input: File, current: &Current, hand_over: &Sender<(Vec<u8>, Arc<CancelFlag>)>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    while let Some((kind, body)) = frames::read(&mut input)? {
        let Some(seq) = frames::take_u64(&mut &body[..]) else { continue };
        match kind {
            ENGINE_CALL => {
                let cancel = Arc::<CancelFlag>::default();
                *current.lock() = Some((seq, cancel.clone()));
                // Bound: the worker sends the next when it has the outcome of this one.
                if hand_over.send((body, cancel)).is_err() {
                    return Ok(());
                }
            }
            ENGINE_CANCEL => {
                let told = current.lock().as_ref().filter(|(running, _)| *running == seq).map(|(_, flag)| flag.clone());
                told.inspect(|flag| flag.request());
            }
            other => return Err(io::Error::other(format!("a frame of kind {other}"))),
        }
    }
    Ok(())
}

/// Makes a call; returns what the worker is told of it.
fn report(registry: &Registry, frame: &[u8], cancel: Arc<CancelFlag>) -> Vec<u8> {
    let began = Instant::now();
    let outcome = make(registry, frame, cancel);
    let text = outcome.as_ref().err().map(TaskError::to_string);
    let report = Report::of(began.elapsed(), outcome);
    let report = postcard::to_stdvec(&report).expect("a vector grows, and a report can be encoded");
    let mut told = Vec::with_capacity(report.len() + 16);
    let length = |length: usize| u32::try_from(length).expect("values are bounded").to_le_bytes();
    match text {
        None => {
            told.extend_from_slice(&length(1 + report.len()));
            told.push(0);
        }
        Some(text) => {
            told.extend_from_slice(&length(5 + text.len() + report.len()));
            told.push(1);
            told.extend_from_slice(&length(text.len()));
            told.extend_from_slice(text.as_bytes());
        }
    }
    told.extend_from_slice(&report);
    told
}

fn make(registry: &Registry, frame: &[u8], cancel: Arc<CancelFlag>) -> Outcome {
    let (attempt, call) = read_call(frame)
        .ok_or_else(|| TaskError::undecodable(Coded::Arguments, "task", "what the worker hands over is cut"))?;
    let call: Call = postcard::from_bytes(call)
        .map_err(|error| TaskError::undecodable(Coded::Arguments, "task", &error.to_string()))?;
    let engine = EngineId(std::process::id());
    let cx =
        TaskContext { task: call.task, engine: Some(engine), attempt, label: None, cancel, namespace: Arc::default() };
    let task = decode(registry, call, engine)?;
    let value = attempt::make(task, &cx)?;
    encode_for_another(value, None, &cx)
}

/// Takes the numbers off the front of a call.
fn read_call(mut frame: &[u8]) -> Option<(Attempt, &[u8])> {
    frames::take_u64(&mut frame)?;
    Some((Attempt(frames::take_u32(&mut frame)?), frame))
}

fn decode(registry: &Registry, call: Call, engine: EngineId) -> Result<Box<dyn ErasedTask>, TaskError> {
    let (key, fingerprint) = (call.key, call.fingerprint);
    let lacking = |lack| TaskError::UnknownTask { engine, task: format!("with key {key:016x}").into(), lack };
    let kind = registry.kind(key).ok_or_else(|| lacking(Lack::Missing))?;
    if kind.fingerprint != fingerprint {
        return Err(lacking(Lack::Differs));
    }
    let reason = match user_code(|| registry.decode(&call.into_wire())) {
        Ok(Some(Ok(task))) => return Ok(task),
        Ok(None) => return Err(lacking(Lack::Missing)),
        Ok(Some(Err(error))) => error.to_string().into(),
        Err(message) => message,
    };
    Err(TaskError::undecodable(Coded::Arguments, kind.name, &reason))
}
