//! The arbiter that the actors are on: of a System of our own, or of the program's.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Plan, Started, set_up};
use crate::actors::Threads;
use crate::error::Error;

/// Whose arbiter the actors are on.
pub(super) enum Carrier {
    /// A System of our own, on a thread of its own.
    Own { stop: oneshot::Sender<()>, thread: JoinHandle<()> },
    /// An arbiter of the System that the program runs.
    Guest(Arbiter),
}

impl Carrier {
    pub(super) fn own(
        plan: Plan,
        threads: Arc<Threads>,
        tell: mpsc::SyncSender<Result<Started, Error>>,
    ) -> Result<Self, Error> {
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            System::new().block_on(async move {
                // A receiver that is gone is a caller that panicked; then the sender of `stopped` is gone too.
                let _ = tell.send(set_up(plan, threads).await);
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("cb-controller".into())
            .spawn(serve)
            .map_err(|error| Error::System { doing: "starting the controller's thread", reason: error.to_string() })?;
        Ok(Self::Own { stop, thread })
    }

    pub(super) fn guest(
        plan: Plan,
        threads: Arc<Threads>,
        tell: mpsc::SyncSender<Result<Started, Error>>,
    ) -> Result<Self, Error> {
        let arbiter = Arbiter::try_new()
            .map_err(|error| Error::System { doing: "starting an arbiter", reason: error.to_string() })?;
        arbiter.spawn(async move {
            let _ = tell.send(set_up(plan, threads).await);
        });
        Ok(Self::Guest(arbiter))
    }

    pub(super) fn stop(self) {
        match self {
            Self::Own { stop, thread } => {
                let _ = stop.send(());
                let _ = thread.join();
            }
            Self::Guest(arbiter) => {
                arbiter.stop();
                let _ = arbiter.join();
            }
        }
    }
}
