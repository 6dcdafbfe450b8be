//! The child's side of what tasks print: takes it from this process's own standard output and error, and says whose it is.
//!
//! Both are pipes, and this process reads them itself: the worker when a task has ended, before it tells the outcome, so
//! that everything that the task printed is known as its own; and a thread meanwhile, so that lines are seen while the
//! task runs. The parent has the reading ends too, and reads what is left there when this process is gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::ioctl_fionread;

use super::first::Initializer;
use super::readable::Readable;
use super::tally::Tally;
use crate::actors::Witness;
use crate::remote::Mark;
use crate::task::{Attempt, Stream, TaskId};
use crate::wire::frame::Lane;
use crate::wire::protocol::{FromEngine, Print, encode};
use crate::wire::session::Speaker;

/// Read at once, at most: a task's children may go on printing for ever.
const READ_BYTES_MAX: usize = 1 << 20;

/// A line that is longer is told in parts.
const LINE_BYTES_MAX: usize = 16 << 10;

/// What waits to be said beyond which the thread reads nothing, so that whoever prints waits.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long the thread waits then.
const BREATH: Duration = Duration::from_millis(5);

/// How long the thread leaves what is printed where it is, unless it is much: the last words of a process that dies are to
/// be found by the parent, and not to be lost on their way through here.
const LEFT_ALONE: Duration = Duration::from_millis(10);

/// What is so much that whoever prints is not to wait for the thread: a quarter of a pipe.
const MUCH_BYTES: u64 = 16 << 10;

/// What this process prints.
pub(super) struct Capture {
    readable: Readable,
    speaker: Speaker,
    now: Mutex<Now>,
}

/// What is printed at the moment.
#[derive(Default)]
struct Now {
    task: Option<(TaskId, Attempt)>,
    /// The beginnings of lines.
    begun: [Vec<u8>; 2],
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Capture {
    /// Takes the reading ends of this process's standard output and error, which do not block.
    pub(super) fn start(pipes: [File; 2], speaker: Speaker) -> io::Result<Arc<Self>> {
        let capture = Arc::new(Self { readable: Readable::new(pipes)?, speaker, now: Mutex::default() });
        let watched = capture.clone();
        // Ends with the process.
        thread::Builder::new().name("cb-output".into()).spawn(move || watched.watch())?;
        Ok(capture)
    }

    /// Says what is printed, as it comes.
    fn watch(&self) {
        while self.readable.wait() {
            if self.speaker.waiting(Lane::Bulk) > WAITING_BYTES_MAX {
                thread::sleep(BREATH);
                continue;
            }
            if self.readable.pipes.iter().all(|pipe| ioctl_fionread(pipe).is_ok_and(|bytes| bytes < MUCH_BYTES)) {
                thread::sleep(LEFT_ALONE);
            }
            self.take_in(&mut self.now.lock());
        }
    }

    /// Reads what is there, and says it line by line.
    fn take_in(&self, now: &mut Now) {
        let Now { task, begun } = now;
        for ((mut pipe, stream), begun) in self.readable.pipes.iter().zip(STREAMS).zip(begun) {
            let (mut bytes, mut room) = ([0; 8 << 10], READ_BYTES_MAX);
            while room > 0
                && let Ok(count @ 1..) = pipe.read(&mut bytes)
            {
                room = room.saturating_sub(count);
                begun.extend_from_slice(&bytes[..count]);
                let whole = match begun.iter().rposition(|&byte| byte == b'\n') {
                    Some(at) => at + 1,
                    None if begun.len() >= LINE_BYTES_MAX => begun.len(),
                    None => continue,
                };
                let rest = begun.split_off(whole);
                self.say(*task, stream, mem::replace(begun, rest));
            }
        }
    }

    fn say(&self, task: Option<(TaskId, Attempt)>, stream: Stream, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let print = Print { task, stream, text: String::from_utf8_lossy(&bytes).into() };
            // An error is a session that has ended: nobody listens.
            let _ = self.speaker.say(Lane::Bulk, encode(&FromEngine::Printed(print), Vec::new()));
        }
    }

    /// Takes in all that was printed until now, also lines that do not end.
    fn finish(&self, now: &mut Now) {
        if self.readable.is_now() {
            self.take_in(now);
        }
        for (begun, stream) in now.begun.iter_mut().zip(STREAMS) {
            self.say(now.task, stream, mem::take(begun));
        }
    }

    /// A task begins, and the one before has ended: of several that travel together this is all that is told between two.
    fn on_begin(&self, task: TaskId, attempt: Attempt) {
        if self.now.lock().task.is_some() {
            self.on_end();
        }
        self.now.lock().task = Some((task, attempt));
    }

    fn on_end(&self) {
        flush();
        let mut now = self.now.lock();
        self.finish(&mut now);
        now.task = None;
    }
}

/// Has what was printed without the end of a line go into the pipe. It may have to wait until the thread has read what is there:
/// so no lock is held that the thread needs.
fn flush() {
    let _ = io::stdout().flush();
}

/// What a child's worker tells: what it begins, for when this process is gone, and whose output is whose.
pub(super) struct Told {
    pub(super) tally: Tally,
    pub(super) capture: Arc<Capture>,
    pub(super) first: Option<Initializer>,
}

impl Witness for Told {
    fn on_start(&self) {
        if let Some(first) = &self.first {
            first.run();
            self.tally.note_prepared();
        }
    }

    fn on_begin(&self, task: TaskId, attempt: Attempt) {
        self.tally.note(Mark::of(task, attempt));
        self.capture.on_begin(task, attempt);
    }

    fn on_end(&self) {
        self.capture.on_end();
    }
}
