//! The far side of what engines tell of themselves: lines wait here, in a bounded queue, and a thread says them to the controller.
//!
//! Whoever tells something may be a task, or hold a lock of a session; so nobody waits and nobody is asked. What finds no room,
//! or would be too much for the session, is left out, and how many were is told with the next.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::log_lines::{Budget, TARGET_BYTES_MAX, TEXT_BYTES_MAX};
use crate::actors::Witness;
use crate::catch::shortened;
use crate::task::{Attempt, TaskId};
use crate::wire::frame::Lane;
use crate::wire::protocol::{FromEngine, LogLevel, LogLine, encode};
use crate::wire::session::Speaker;

/// Lines that wait; further ones are left out.
const WAITING_MAX: usize = 512;

/// What waits to be said by a session beyond which it is told no lines, in bytes: results have its room.
const SESSION_WAITING_BYTES_MAX: usize = 256 << 10;

/// The queue, once somebody tells something.
static QUEUE: OnceLock<SyncSender<Told>> = OnceLock::new();

/// Lines that were left out since the last that was said.
static LEFT_OUT: AtomicU32 = AtomicU32::new(0);

/// The sessions of this process's engines, by numbers of their own.
static SESSIONS: Mutex<Vec<(u64, Speaker)>> = Mutex::new(Vec::new());
static SOME: Condvar = Condvar::new();

thread_local! {
    /// What this thread runs, and for which session.
    static RUNS: Cell<Option<(u64, TaskId, Attempt)>> = const { Cell::new(None) };
}

/// A line, and the session that it belongs to; any, if it is of no task.
struct Told {
    session: Option<u64>,
    line: LogLine,
}

/// Has lines said from now on.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn begin() -> io::Result<()> {
    let (queue, waiting) = sync_channel(WAITING_MAX);
    if QUEUE.set(queue).is_ok() {
        // It ends with the process.
        std::thread::Builder::new().name("cb-log".into()).spawn(move || say_all(&waiting))?;
    }
    Ok(())
}

/// Tells a line. Never waits.
pub(crate) fn tell(level: LogLevel, target: &str, text: &str) {
    let Some(queue) = QUEUE.get() else { return };
    // A thread that is ending runs nothing.
    let runs = RUNS.try_with(Cell::get).ok().flatten();
    let line = LogLine {
        level,
        target: shortened(target, TARGET_BYTES_MAX).into(),
        task: runs.map(|(_, task, attempt)| (task, attempt)),
        text: shortened(text, TEXT_BYTES_MAX).into(),
        left_out: 0,
    };
    if queue.try_send(Told { session: runs.map(|(session, ..)| session), line }).is_err() {
        leave_out();
    }
}

fn leave_out() {
    let add = |lines: u32| Some(lines.saturating_add(1));
    let _ = LEFT_OUT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

fn say_all(waiting: &Receiver<Told>) {
    let mut budget = Budget::default();
    for Told { session, mut line } in waiting {
        let speaker = speaker_of(session);
        let has_room = speaker.waiting(Lane::Bulk) <= SESSION_WAITING_BYTES_MAX;
        if !has_room || !budget.try_take(Instant::now(), line.text.len()) {
            leave_out();
            continue;
        }
        line.left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        if speaker.say(Lane::Bulk, encode(&FromEngine::Logged(line), Vec::new())).is_err() {
            // It has ended, and nobody listens.
            leave_out();
        }
    }
}

/// Returns the session of a line, or another where that is none; waits until there is one.
fn speaker_of(session: Option<u64>) -> Speaker {
    let mut sessions = SESSIONS.lock();
    loop {
        let own = sessions.iter().find(|(number, _)| Some(*number) == session);
        if let Some((_, speaker)) = own.or(sessions.first()) {
            return speaker.clone();
        }
        SOME.wait(&mut sessions);
    }
}

/// A session that lines are said to, for as long as this is there.
pub(super) struct Attached(u64);

/// Has lines said to a session, if any are told here.
pub(super) fn attach(speaker: &Speaker) -> Option<Attached> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    QUEUE.get()?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    SESSIONS.lock().push((number, speaker.clone()));
    SOME.notify_all();
    Some(Attached(number))
}

impl Attached {
    /// Returns who is to be told what the session's worker runs: whose a line is.
    pub(super) fn witness(&self) -> AtWork {
        AtWork(self.0)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        SESSIONS.lock().retain(|(number, _)| *number != self.0);
    }
}

/// Notes what a worker runs, on its own thread.
pub(super) struct AtWork(u64);

impl Witness for AtWork {
    fn on_begin(&self, task: TaskId, attempt: Attempt) {
        RUNS.set(Some((self.0, task, attempt)));
    }

    fn on_end(&self) {
        RUNS.set(None);
    }
}
