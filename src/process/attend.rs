//! Speaks with a child, from its first word to its end.

use std::io::{PipeReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::launch::{Launcher, Tell};
use super::start::Leash;
use crate::error::Error;
use crate::ledger::EngineOffer;
use crate::limits::HANDSHAKE_MS_MAX;
use crate::remote::{self, Fate, Gateway, GatewayParts, Lost, Process};
use crate::task::{Stream, last_words};
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// How long a child may take to end after its session has, before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// Returns the bounds of a session with an engine.
///
/// What waits to be sent is bounded where it comes from: tasks by admission, outcomes by what was sent.
fn session_limits() -> SessionLimits {
    SessionLimits { outbound_bytes_max: usize::MAX, ..SessionLimits::default() }
}

/// The end of a child, which comes some time.
pub(super) struct Ended {
    pub(super) leash: Arc<Leash>,
    pub(super) told: oneshot::Receiver<End>,
}

/// How a child has ended.
pub(super) struct End {
    pub(super) cause: String,
    /// Its initializer failed.
    pub(super) is_unfit: bool,
}

impl Ended {
    /// Waits for the end, and brings it about if it does not come; says what it was.
    async fn hear(mut self) -> End {
        let told = match timeout(GRACE, &mut self.told).await {
            Ok(told) => told,
            Err(_) => {
                self.leash.kill();
                self.told.await
            }
        };
        told.unwrap_or_else(|_| End { cause: "its process is not watched any more".into(), is_unfit: false })
    }
}

/// Reads what a child has printed and could not tell any more.
fn unread(printed: [PipeReader; 2]) -> Vec<(Stream, Box<str>)> {
    let read = |(pipe, stream): (PipeReader, Stream)| {
        let mut bytes = Vec::new();
        // Up to where it would have to wait, which is an error here: what was read until then counts.
        let _ = pipe.take(UNREAD_BYTES_MAX).read_to_end(&mut bytes);
        (!bytes.is_empty()).then(|| (stream, String::from_utf8_lossy(&bytes).into()))
    };
    printed.into_iter().zip([Stream::Stdout, Stream::Stderr]).filter_map(read).collect()
}

/// Read of what a dead child has left in a pipe; more does not fit into one, unless its children print on.
const UNREAD_BYTES_MAX: u64 = 1 << 20;

/// Speaks with a child from its first word to its end.
pub(super) async fn attend(
    stream: UnixStream,
    launcher: Launcher,
    printed: [PipeReader; 2],
    ended: Ended,
    fate: Arc<Fate>,
    tell: Arc<Tell>,
) {
    let hello = Hello {
        role: Role::Controller,
        cluster: launcher.cluster,
        incarnation: std::process::id().into(),
        build: launcher.build,
    };
    let greeted = async {
        let mut stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
        if let Some(first) = &launcher.first {
            first.hand_down(&mut stream).await.map_err(|error| error.to_string())?;
        }
        let wait = Duration::from_millis(HANDSHAKE_MS_MAX);
        let greeted = handshake::welcome(&mut stream, &hello, &[Role::Engine], wait).await;
        let (_, tasks) = greeted.map_err(|error| error.to_string())?;
        Ok::<_, String>((stream, tasks))
    };
    let greeted = tokio::select! {
        greeted = greeted => greeted,
        // It has run nothing, and may take long to come to where it would hear that it is not needed.
        () = launcher.halt.over() => {
            ended.leash.kill();
            tracing::info!("an engine process was ended before it had joined");
            return tell.tell(Err(Error::ClusterStopped));
        }
    };
    let (stream, tasks) = match greeted {
        Ok(greeted) => greeted,
        Err(reason) => {
            let End { cause: status, .. } = ended.hear().await;
            let words = told_and_forwarded(&launcher, unread(printed));
            let cause = format!("{reason}; {status}; its main has to call callboard::init() first{words}");
            tracing::error!(%cause, "an engine process has not joined");
            return tell.tell(Err(Error::EngineFailed { cause: cause.into() }));
        }
    };
    let speaker = Speaker::new(session_limits());
    let forward = launcher.forward.clone();
    let parts = GatewayParts {
        scheduler: launcher.scheduler,
        finished: launcher.finished,
        speaker: speaker.clone(),
        offer: EngineOffer { slots: 1, is_local: false, tasks: tasks.map(Arc::new) },
        fate,
        process: ended.leash.clone(),
        printed: Box::new(move |stream, text| forward.forward(stream, text)),
        printed_bytes_max: launcher.limits.printed_bytes_max,
        tasks_max: launcher.tasks_max,
    };
    let (gateway, joining) = Gateway::join(parts);
    let joined = launcher.joined.clone();
    let noting = actix_rt::spawn(async move {
        let id = joining.await.unwrap_or(Err(Error::ClusterStopped));
        if let Ok(id) = id {
            joined.lock().insert(id);
        }
        tell.tell(id.clone());
        id
    });
    let (reader, writer) = stream.into_split();
    let ending = remote::attend(reader, writer, &speaker, &gateway).await;
    let End { cause: status, is_unfit } = ended.hear().await;
    tracing::debug!(%ending, %status, "an engine process has ended");
    let cause = match ending {
        // The connection ended with the process, or was ended in good order.
        Ending::Lost | Ending::Failed(_) | Ending::Closed(_) | Ending::ClosedByPeer(_) => status,
        why => format!("{why}; {status}"),
    };
    if let Ok(Ok(id)) = noting.await {
        launcher.joined.lock().remove(&id);
    }
    let unread = unread(printed);
    let said = unread.iter().find(|(stream, _)| *stream == Stream::Stderr).and_then(|(_, text)| last_words(text));
    let said = said.map(str::to_owned);
    gateway.do_send(Lost { cause: cause.clone().into(), unread });
    // Behind the loss: what the child had been sent is back when its pool hears of it.
    if let Some(first) = launcher.first.as_ref().filter(|_| is_unfit) {
        first.failed(&cause, said.as_deref());
    }
}

/// Forwards what a child printed that never joined, and returns its last line.
fn told_and_forwarded(launcher: &Launcher, unread: Vec<(Stream, Box<str>)>) -> String {
    let mut words = String::new();
    for (stream, text) in unread {
        if let Some(line) = last_words(&text) {
            words = format!("; it printed last: {line}");
        }
        launcher.forward.forward(stream, text);
    }
    words
}
