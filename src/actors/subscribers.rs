//! Actors that are told of engines that come and go.

use actix::prelude::*;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use super::Roster;
use crate::error::Error;
use crate::limits::ENGINE_SUBSCRIBERS_MAX;
use crate::messages::EngineEvent;

/// Those that are told.
#[derive(Default)]
pub(crate) struct Subscribers(Vec<Subscriber>);

struct Subscriber {
    to: Recipient<EngineEvent>,
    telling: JoinHandle<()>,
}

impl Subscribers {
    /// Has one more told, from now on.
    ///
    /// # Errors
    /// [`Error::ClusterStopped`], [`Error::Overloaded`].
    pub(crate) fn add(&mut self, roster: &Roster, to: Recipient<EngineEvent>) -> Result<(), Error> {
        let Some(events) = roster.follow() else { return Err(Error::ClusterStopped) };
        self.0.retain(|subscriber| {
            let is_there = subscriber.to.connected();
            if !is_there {
                subscriber.telling.abort();
            }
            is_there
        });
        if self.0.len() >= ENGINE_SUBSCRIBERS_MAX {
            return Err(Error::Overloaded { what: "subscribers of engine events", limit: ENGINE_SUBSCRIBERS_MAX });
        }
        // Beside the actor that has them: whatever it carries itself is polled with each of its batches.
        let telling = actix_rt::spawn(tell(events, to.clone()));
        self.0.push(Subscriber { to, telling });
        Ok(())
    }
}

/// Tells an actor of engines that come and go, each when it is through with the one before: what it is too slow for
/// is missed, and fills no mailbox.
pub(crate) async fn tell(mut events: broadcast::Receiver<EngineEvent>, to: Recipient<EngineEvent>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => EngineEvent::Missed { count },
            Err(RecvError::Closed) => return,
        };
        // An event whose handling failed was told all the same.
        if let Err(MailboxError::Closed) = to.send(event).await {
            return;
        }
    }
}
