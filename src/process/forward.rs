//! What children print, on this program's own standard output and error: whole lines, in the order in which they came.
//!
//! On a thread of its own: whoever reads this program's output may be slow, and must hold up no session.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::task::Stream;

/// Texts that wait to be written; further ones are left out, and counted.
const WAITING_MAX: usize = 1_024;

/// Where what children print is handed in.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    texts: SyncSender<(Stream, Box<str>)>,
    left_out: Arc<AtomicUsize>,
}

impl Forward {
    /// Starts the thread; it ends when nobody has this any more.
    pub(super) fn start() -> io::Result<(Self, Forwarding)> {
        let (texts, waiting) = sync_channel(WAITING_MAX);
        let left_out = Arc::new(AtomicUsize::new(0));
        let missing = left_out.clone();
        let (writing, is_over) = sync_channel::<()>(0);
        let work = move || {
            write(&waiting, &missing);
            drop(writing);
        };
        let thread = thread::Builder::new().name("cb-output".into()).spawn(work)?;
        Ok((Self { texts, left_out }, Forwarding { thread, is_over }))
    }

    /// Has a text written. Never waits.
    pub(crate) fn forward(&self, stream: Stream, text: Box<str>) {
        let bytes = text.len();
        if self.texts.try_send((stream, text)).is_err() {
            self.left_out.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
pub(super) struct Forwarding {
    thread: JoinHandle<()>,
    is_over: Receiver<()>,
}

/// How long the end of a cluster waits for whoever reads this program's output.
const WRITTEN_WAIT: Duration = Duration::from_secs(1);

impl Forwarding {
    /// Waits until all is written that was handed in; not for long, if nobody reads it.
    pub(super) fn end(self) {
        if self.is_over.recv_timeout(WRITTEN_WAIT) == Err(RecvTimeoutError::Disconnected) {
            let _ = self.thread.join();
        }
    }
}

fn write(texts: &Receiver<(Stream, Box<str>)>, left_out: &AtomicUsize) {
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    for (stream, text) in texts {
        let to: &mut dyn Write = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        // Output that is closed is nobody's loss here: the text is in the task's record.
        let _ = to.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = to.write_all(b"\n");
        }
        let _ = to.flush();
        let missing = left_out.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(stderr, "callboard: {missing} bytes of engines' output were left out here");
        }
    }
}
