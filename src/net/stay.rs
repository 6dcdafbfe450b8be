//! Being an engine, from the first connection to the last.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::dialler::Dialler;
use super::way::{Connection, Way};
use crate::error::Error;
use crate::remote::{Departure, Desk, NOT_RESUMED, STOPPED};
use crate::wire::handshake::Role;
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// What runs tasks, for one session. A simulation has one without threads.
pub(crate) trait Serve {
    /// Runs what the controller sends over this connection; returns why that has ended.
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending;

    /// Starts nothing any more, and waits for what runs.
    async fn finish(&mut self);
}

impl Serve for Desk {
    async fn serve(&mut self, stream: Box<dyn Connection>) -> Ending {
        let (reader, writer) = tokio::io::split(stream);
        Desk::serve(self, reader, writer).await
    }

    async fn finish(&mut self) {
        Desk::finish(self).await;
    }
}

/// How long an engine that is to leave looks for a controller that is away: that waits no longer for an engine.
const AWAY: Duration = Duration::from_secs(5);

/// Is an engine until the cluster lets it go, or is not found again; then it may `finish` what it runs. Or until it is told to
/// leave. `new` makes what serves in a session.
pub(super) async fn stay<W: Way, S: Serve>(
    dialler: &Dialler<W>,
    finish: Duration,
    departure: &Departure,
    new: impl Fn(Speaker) -> S,
) -> Result<(), Error> {
    let mut desk = None;
    let stayed = tokio::select! {
        biased;
        stayed = stay_with(dialler, &mut desk, departure, new) => stayed,
        // Its controller is away, and it has waited for it as long as it may.
        () = departure.is_over() => return Ok(()),
    };
    if let (Err(error), Some(desk)) = (&stayed, &mut desk) {
        tracing::warn!(%error, ?finish, "what runs is finished, and nothing else is started");
        let is_finished = tokio::select! {
            biased;
            finished = timeout(finish, desk.finish()) => finished.is_ok(),
            () = departure.is_over() => false,
        };
        if !is_finished {
            tracing::warn!("a task that runs is left to itself");
        }
    }
    stayed
}

/// Waits until an engine that is to leave looks for its controller no more: at once, if no session knows of it yet, so that there is
/// nobody to be told.
async fn is_given_up(departure: &Departure, is_known: bool) {
    departure.told().await;
    if is_known {
        sleep(AWAY).await;
    }
}

async fn stay_with<W: Way, S: Serve>(
    dialler: &Dialler<W>,
    desk: &mut Option<S>,
    departure: &Departure,
    new: impl Fn(Speaker) -> S,
) -> Result<(), Error> {
    let mut backoff = Backoff::from_now();
    let mut session = dialler.session(SessionLimits::LASTING);
    loop {
        let (stream, run) = tokio::select! {
            biased;
            found = dialler.find(&mut backoff, &session) => found?,
            () = is_given_up(departure, desk.is_some()) => return Ok(()),
        };
        let (stream, is_resumed) = match dialler.open_over(stream, run, &mut session).await {
            Ok(opened) => opened,
            Err(failed) => {
                backoff.pause_after(dialler, failed).await?;
                continue;
            }
        };
        if !is_resumed {
            // What another runs is left to itself: nobody waits for it.
            *desk = None;
        }
        let id = session.id();
        tracing::info!(address = dialler.address, session = %id, is_resumed, "there is a session with the controller");
        let began = Instant::now();
        let ending = desk.get_or_insert_with(|| new(session.speaker.clone())).serve(stream).await;
        tracing::info!(%ending, session = %id, "the connection to the controller has ended");
        match ending {
            Ending::Closed(_) => return Ok(()),
            // A host waits for the next run of the cluster.
            Ending::ClosedByPeer(reason) if &*reason == STOPPED && dialler.hello.role == Role::Host => {
                backoff.begin_again(began.elapsed());
            }
            Ending::ClosedByPeer(reason) if &*reason == STOPPED => return Ok(()),
            Ending::ClosedByPeer(reason) if &*reason != NOT_RESUMED => return Err(dialler.refused(reason)),
            _lost => backoff.begin_again(began.elapsed()),
        }
    }
}
