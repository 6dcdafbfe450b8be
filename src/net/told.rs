//! What tells engines of this program to leave: `SIGTERM`, and the end of the standard input where a launcher holds that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::SIGTERM;
use signal_hook::flag::register_conditional_default;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;
use crate::remote::{Departure, TellDeparture};

/// Listens for what tells the engines of one call to leave.
pub(super) struct Told(Arc<TellDeparture>);

/// How many engines there are that leave at `SIGTERM`.
static LISTENING: Mutex<usize> = Mutex::new(0);

/// While there are none, `SIGTERM` ends the program as if nothing were installed.
static IS_NONE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let is_none = Arc::new(AtomicBool::new(true));
    if let Err(error) = register_conditional_default(SIGTERM, is_none.clone()) {
        tracing::warn!(%error, "SIGTERM will not end this program once its engines have ended");
    }
    is_none
});

impl Told {
    /// Has engines leave within so long, once something tells them to.
    pub(super) fn watch(within: Duration) -> Self {
        Self(Arc::new(TellDeparture::new(within)))
    }

    pub(super) fn departure(&self) -> Departure {
        self.0.departure()
    }

    /// Has them leave at `SIGTERM`, as long as the present System runs, and what this returns is there.
    pub(super) fn when_terminated(&self) -> Option<Listening> {
        let listening = signal(SignalKind::terminate());
        let listening = listening.inspect_err(|error| tracing::warn!(%error, "SIGTERM cannot be listened for"));
        let (mut terminated, tell) = (listening.ok()?, self.0.clone());
        // Only now: from here on no SIGTERM ends the program by itself.
        let mut count = LISTENING.lock();
        *count += 1;
        IS_NONE.store(false, Ordering::Release);
        drop(count);
        drop(actix_rt::spawn(async move {
            if terminated.recv().await.is_some() {
                tell.tell("SIGTERM");
            }
        }));
        Some(Listening)
    }

    /// Has them leave when the standard input ends: whoever holds its other end is gone, or wants them to go. Tasks find an
    /// empty one.
    pub(super) fn when_stdin_ends(&self) -> Result<(), Error> {
        let held = hold_stdin()
            .map_err(|error| Error::System { doing: "holding on to the standard input", reason: error.to_string() })?;
        let tell = Arc::downgrade(&self.0);
        let wait = move || {
            wait_for_end(held);
            if let Some(tell) = tell.upgrade() {
                tell.tell("the standard input has ended");
            }
        };
        let started = thread::Builder::new().name("cb-leash".into()).spawn(wait);
        started.map(drop).map_err(|error| Error::System { doing: "starting a thread", reason: error.to_string() })
    }
}

/// An engine that leaves at `SIGTERM`.
pub(super) struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        let mut count = LISTENING.lock();
        *count -= 1;
        IS_NONE.store(*count == 0, Ordering::Release);
    }
}

fn hold_stdin() -> io::Result<File> {
    let held = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(held)
}

/// Reads to the end, and makes nothing of it.
fn wait_for_end(mut held: File) {
    let mut bytes = [0; 256];
    loop {
        match held.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
