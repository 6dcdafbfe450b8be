//! The plain threads of a cluster: where code of the user's runs, and who waits for their end.

use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

/// The threads that were started and not yet seen to end.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    running: Mutex<Vec<Running>>,
    ended: Condvar,
}

#[derive(Debug)]
struct Running {
    name: String,
    handle: JoinHandle<()>,
}

impl Threads {
    /// Starts a thread.
    ///
    /// # Errors
    /// Where the operating system has none.
    pub(crate) fn spawn(self: &Arc<Self>, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let threads = Arc::clone(self);
        let mut running = self.running.lock();
        running.retain(|thread| !thread.handle.is_finished());
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let _told = TellEnd(threads);
                work();
            })
            .map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })?;
        running.push(Running { name, handle });
        Ok(())
    }

    /// Waits until every thread has ended but `asker`, which waits for this: a callback or a task may end its own
    /// cluster.
    ///
    /// # Errors
    /// [`Error::StillRunning`] with the names of those that did not in time; they are left to themselves.
    pub(crate) fn join(&self, wait: Duration, asker: ThreadId) -> Result<(), Error> {
        let deadline = Instant::now() + wait;
        let mut running = self.running.lock();
        running.retain(|thread| thread.handle.thread().id() != asker);
        loop {
            let (ended, still): (Vec<_>, Vec<_>) = running.drain(..).partition(|thread| thread.handle.is_finished());
            *running = still;
            for thread in ended {
                // Its work ran behind `catch::user_code`; what else panics there is a bug and was printed.
                let _ = thread.handle.join();
            }
            if running.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                let names = running.drain(..).map(|thread| thread.name).collect();
                return Err(Error::StillRunning { waited: wait, names });
            }
            // A thread tells its end just before it ends: look again soon.
            self.ended.wait_for(&mut running, (deadline - now).min(Duration::from_millis(1)));
        }
    }
}

#[cfg(feature = "remote")]
impl Threads {
    /// Waits until every thread has ended, however long that takes.
    pub(crate) fn join_all(&self) {
        let nobody = std::thread::current().id();
        while self.running.lock().iter().any(|thread| !thread.handle.is_finished()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.join(Duration::ZERO, nobody);
    }
}

/// Tells the end of a thread, however it ends.
struct TellEnd(Arc<Threads>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.0.ended.notify_all();
    }
}
