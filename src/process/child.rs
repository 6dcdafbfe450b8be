//! The child's side: a program that was launched as an engine is one, from the first line of its `main` on.
//!
//! The socket to the parent is the child's standard input until it is taken from there; so nothing has to be told in
//! arguments, and nothing secret in the environment.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;

use super::capture::{Capture, Told};
use super::first::Initializer;
use super::hand_down::{Follows, take_over};
use super::tally::Tally;
use crate::actors::Witness;
#[cfg(feature = "dask")]
use crate::dask::RESIDENT_ARGUMENT;
use crate::launchers::DIAL_ARGUMENT;
use crate::limits::{HANDSHAKE_MS_MAX, Limits};
use crate::registry::Registry;
use crate::remote::{Departure, Serving, serve};
use crate::wire::handshake::{self, Hello, Role};
use crate::wire::session::{Ending, SessionLimits, Speaker};

/// What tells a program that it is launched as an engine, and of which cluster.
pub(super) const VARIABLE: &str = "CALLBOARD_ENGINE";

/// The status of a child that could not become an engine; `EX_SOFTWARE` of `sysexits.h`.
const FAILED: i32 = 70;

/// Turns this process into an engine if a cluster launched it as one, or a [launcher](crate::launchers) did; returns at once if not.
///
/// Call it first in `main`, before anything that should not be done once for each engine. In a child it never
/// returns: the process ends with its engine.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init();
///     let cluster = Cluster::processes(2).start()?;
///     assert_eq!(cluster.client().load_balanced().apply(square(7)).get()?, 49);
///     Ok(())
/// }
/// ```
pub fn init() {
    let ended = match Summons::find() {
        Some(summons) => summons.follow(),
        None if is_argument(DIAL_ARGUMENT) => crate::net::run_engine("-").map_err(Into::into),
        #[cfg(feature = "dask")]
        None if is_argument(RESIDENT_ARGUMENT) => crate::dask::resident().map_err(Into::into),
        None => return,
    };
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            // Where nobody reads that, the status tells.
            let _ =
                writeln!(io::stderr(), "callboard: this process was launched as an engine and cannot be one: {error}");
            std::process::exit(FAILED)
        }
    }
}

/// Returns whether this process was launched as an engine.
pub(crate) fn is_child() -> bool {
    #[cfg(feature = "dask")]
    if is_argument(RESIDENT_ARGUMENT) {
        return true;
    }
    Summons::find().is_some() || is_argument(DIAL_ARGUMENT)
}

/// Returns whether this is the first argument, with which a launcher or a Dask worker has this process be an engine.
fn is_argument(of_an_engine: &str) -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == of_an_engine)
}

/// What the parent wants.
struct Summons {
    cluster: u64,
}

impl Summons {
    /// Looks whether there is one. A child of an engine inherits its environment, but not the socket.
    fn find() -> Option<Self> {
        let value = std::env::var(VARIABLE).ok()?;
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        if !stdin.metadata().ok()?.file_type().is_socket() {
            return None;
        }
        Some(Self { cluster: u64::from_str_radix(&value, 16).ok()? })
    }

    /// Is an engine until the parent or the connection ends.
    fn follow(self) -> Result<(), Box<dyn std::error::Error>> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Tasks that read their input, and their children, find none.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let ([tally, stdout, stderr], follows) = take_over(&stream)?;
        let (tally, printed) = (Tally::from(tally), [stdout, stderr].map(File::from));
        let registry = Arc::new(Registry::auto()?);
        let first = match follows {
            Follows::Initializer => Some(Initializer::take_over(&stream, registry.clone())?),
            Follows::Nothing => None,
        };
        stream.set_nonblocking(true)?;
        let tasks = registry.table();
        let hello = Hello {
            role: Role::Engine,
            cluster: self.cluster,
            incarnation: std::process::id().into(),
            build: registry.build(),
        };
        let ending = System::new().block_on(async move {
            let mut stream = tokio::net::UnixStream::from_std(stream)?;
            handshake::join(&mut stream, &hello, &tasks, Duration::from_millis(HANDSHAKE_MS_MAX)).await?;
            let speaker = Speaker::new(session_limits());
            let (reader, writer) = stream.into_split();
            let told = Told { tally, capture: Capture::start(printed, speaker.clone())?, first };
            let witness = Some(Arc::new(told) as Arc<dyn Witness>);
            let (patience, departure) = (Limits::default().spin(), Departure::default());
            let serving = Serving { registry, speaker, witness, patience, departure };
            Ok::<_, Box<dyn std::error::Error>>(serve(reader, writer, serving).await)
        })?;
        match ending {
            Ending::Closed(_) | Ending::ClosedByPeer(_) => Ok(()),
            // Nobody is there to end what tasks have started.
            Ending::Lost => end_group(),
            other => Err(other.into()),
        }
    }
}

/// Returns the bounds of a session with the parent.
///
/// Its end is seen by the socket, and its silence means only that it, or the machine, stands still: it is waited for.
fn session_limits() -> SessionLimits {
    const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;
    SessionLimits {
        outbound_bytes_max: usize::MAX,
        lost_ms: YEAR_MS,
        write_stall_ms: YEAR_MS,
        ..SessionLimits::default()
    }
}

/// Ends this process and those that its tasks have started: it leads their group.
pub(crate) fn end_group() -> ! {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    std::process::exit(FAILED)
}
