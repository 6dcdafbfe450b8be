//! The connection of an executor to its cluster: a bridge, and another one where that is lost.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::DaskBuilder;
use super::bridge::Bridge;
use crate::error::Error;

/// How long nothing is tried after an attempt: a bridge that is lost again at once is not to be a loop.
const PAUSE: Duration = Duration::from_secs(2);

/// A bridge to the cluster. Where it is lost, whoever wants one next has another one started.
pub(super) struct Connection {
    builder: DaskBuilder,
    state: Mutex<State>,
}

struct State {
    /// The one that is there, or was there last.
    bridge: Arc<Bridge>,
    /// Why that was lost.
    cause: Box<str>,
    /// The session of the one that was connected last: what it has registered may still be there.
    left: Box<str>,
    attempt: Attempt,
}

/// Where an attempt at another bridge is.
enum Attempt {
    /// None is made; the next one not before that.
    None(Option<Instant>),
    /// Its thread starts.
    Starting,
    /// The bridge is there, and connects.
    Connecting(Arc<Bridge>),
    /// None is made any more.
    Over,
}

impl Connection {
    /// Starts a bridge and waits until it is connected.
    ///
    /// # Errors
    /// As [`DaskBuilder::connect`].
    pub(super) fn open(builder: DaskBuilder) -> Result<Arc<Self>, Error> {
        let bridge = Arc::new(builder.start(None)?);
        let left = bridge.session.clone();
        let state = State { bridge, cause: "".into(), left, attempt: Attempt::None(None) };
        Ok(Arc::new(Self { builder, state: Mutex::new(state) }))
    }

    /// Returns the bridge that is there, or was there last.
    pub(super) fn last(&self) -> Arc<Bridge> {
        self.state.lock().bridge.clone()
    }

    /// As `last`; where it is lost, has another one started, so that a later call finds that.
    pub(super) fn bridge(self: &Arc<Self>) -> Arc<Bridge> {
        let mut state = self.state.lock();
        if state.bridge.pending.is_lost() && state.attempt.may_begin() {
            if state.cause.is_empty() {
                state.cause = state.bridge.pending.lost().unwrap_or_default();
            }
            state.attempt = Attempt::Starting;
            let connection = self.clone();
            let attempt = move || connection.try_anew();
            if let Err(error) = thread::Builder::new().name("cb-dask-anew".into()).spawn(attempt) {
                tracing::error!(%error, "no thread to connect to Dask on");
                state.attempt = Attempt::pause();
            }
        }
        state.bridge.clone()
    }

    /// Ends it in good order, and waits for that.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        let attempt = std::mem::replace(&mut state.attempt, Attempt::Over);
        let bridge = state.bridge.clone();
        drop(state);
        if let Attempt::Connecting(bridge) = attempt {
            bridge.finish();
        }
        bridge.finish();
    }

    fn try_anew(&self) {
        let mut state = self.state.lock();
        if matches!(state.attempt, Attempt::Over) {
            return;
        }
        // Under the lock, so that an end that comes meanwhile finds it: it takes milliseconds.
        let begun = self.builder.begin(None, Some(&state.left)).map(|(bridge, ready)| (Arc::new(bridge), ready));
        if let Ok((bridge, _)) = &begun {
            state.attempt = Attempt::Connecting(bridge.clone());
        }
        drop(state);
        let tried = begun.as_ref().ok().map(|(bridge, _)| bridge.clone());
        let connected = begun.and_then(|(bridge, ready)| ready.wait().map(|()| bridge));

        let mut state = self.state.lock();
        if let Some(bridge) = tried.filter(|bridge| bridge.has_connected()) {
            state.left = bridge.session.clone();
        }
        let is_over = matches!(state.attempt, Attempt::Over);
        let before = match connected {
            Ok(bridge) => {
                state.cause = "".into();
                std::mem::replace(&mut state.bridge, bridge)
            }
            Err(error) => {
                // What comes from here on is told of it.
                state.bridge.pending.lose(&format!("{}; connecting anew failed: {error}", state.cause));
                state.bridge.clone()
            }
        };
        if !is_over {
            state.attempt = Attempt::pause();
        }
        drop(state);
        drop(before);
    }
}

impl Attempt {
    fn may_begin(&self) -> bool {
        matches!(self, Self::None(at) if at.is_none_or(|at| Instant::now() >= at))
    }

    fn pause() -> Self {
        Self::None(Some(Instant::now() + PAUSE))
    }
}
