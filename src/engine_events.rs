//! Hearing of engines that come and go.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::async_result::{block_on, may_block};
use crate::error::Error;
use crate::messages::EngineEvent;

/// Engines that join and leave, from the moment on at which this was made: a stream; on plain threads
/// [`recv`](Self::recv). Ends when the cluster does.
///
/// Whoever takes them too slowly is told how many were [missed](EngineEvent::Missed), and finds the engines there
/// are by [`Client::ids`](crate::Client::ids).
///
/// ```
/// use callboard::{EngineEvent, EngineId, prelude::*};
///
/// let cluster = Cluster::threads(1).start()?;
/// let mut events = cluster.client().engine_events();
/// cluster.add_threads(1).get()?;
/// cluster.remove_engines([EngineId(0)]).get()?;
/// assert_eq!(events.recv()?, Some(EngineEvent::Joined { engine: EngineId(1) }));
/// assert!(matches!(events.recv()?, Some(EngineEvent::Left { engine: EngineId(0), .. })));
/// drop(cluster);
/// assert_eq!(events.recv()?, None);
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct EngineEvents {
    /// The next event on its way, with what receives it; `None` at the end.
    next: Option<Receiving>,
}

type Events = broadcast::Receiver<EngineEvent>;
type Receiving = Pin<Box<dyn Future<Output = (Result<EngineEvent, RecvError>, Events)> + Send>>;

impl EngineEvents {
    pub(crate) fn new(events: Option<Events>) -> Self {
        Self { next: events.map(receive) }
    }

    /// Blocks until an engine joins or leaves; `None` when the cluster has ended.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime: use it as a stream there.
    pub fn recv(&mut self) -> Result<Option<EngineEvent>, Error> {
        self.wait(None)
    }

    /// As [`recv`](Self::recv), for at most `wait`.
    ///
    /// # Errors
    /// As `recv`; [`Error::NotReady`] after `wait`.
    pub fn recv_timeout(&mut self, wait: Duration) -> Result<Option<EngineEvent>, Error> {
        self.wait(Some(wait))
    }

    fn wait(&mut self, wait: Option<Duration>) -> Result<Option<EngineEvent>, Error> {
        if !may_block() {
            return Err(Error::WouldBlock);
        }
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        let next = block_on(poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)), deadline);
        next.ok_or(Error::NotReady { waited: wait.unwrap_or_default() })
    }
}

fn receive(mut events: Events) -> Receiving {
    Box::pin(async move { (events.recv().await, events) })
}

impl Stream for EngineEvents {
    type Item = EngineEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EngineEvent>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let (event, events) = ready!(next.as_mut().poll(cx));
        self.next = None;
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => EngineEvent::Missed { count },
            Err(RecvError::Closed) => return Poll::Ready(None),
        };
        self.next = Some(receive(events));
        Poll::Ready(Some(event))
    }
}

impl fmt::Debug for EngineEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<EngineEvents>")
    }
}
