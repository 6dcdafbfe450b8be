//! How engines come and go.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message, Recipient};

use super::{Look, Recall, Revoke, Run, StopEngine};
use crate::apart;
use crate::error::Error;
use crate::ledger::{EngineOffer, HandBack};
use crate::task::EngineId;

/// Asks the Scheduler to take an engine in; answered with the engine's id.
#[derive(Clone, Debug, Message)]
#[rtype(result = "EngineId")]
pub struct Join {
    /// What the engine brings.
    pub offer: EngineOffer,
    /// Where its messages go.
    pub address: EngineAddress,
}

/// Where an engine takes its messages.
#[derive(Clone, Debug)]
pub struct EngineAddress {
    /// Tasks to run.
    pub run: Recipient<Run>,
    /// Tasks to give up.
    pub revoke: Recipient<Revoke>,
    /// What it has not started is wanted elsewhere.
    pub recall: Recipient<Recall>,
    /// The end.
    pub stop: Recipient<StopEngine>,
    /// Questions which task it runs; of one that takes none nobody knows what of that which it was sent has begun.
    pub look: Option<Recipient<Look>>,
}

impl EngineAddress {
    /// Has one actor take all of them, but for questions which task it runs.
    pub fn of<A>(engine: Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Run> + Handler<Revoke> + Handler<Recall> + Handler<StopEngine>,
    {
        Self {
            run: engine.clone().recipient(),
            revoke: engine.clone().recipient(),
            recall: engine.clone().recipient(),
            stop: engine.recipient(),
            look: None,
        }
    }

    /// Has questions which task it runs go there.
    pub fn telling(self, look: Recipient<Look>) -> Self {
        Self { look: Some(look), ..self }
    }
}

/// Asks the Scheduler to let engines go, in good order: each finishes what it runs, and the rest moves on. Answered
/// when all have left.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Retire {
    /// The engines.
    pub engines: Vec<EngineId>,
    /// Why, for whoever follows engine events and for tasks that are lost with them.
    pub cause: Box<str>,
}

/// Tells a subscriber that an engine came or went.
///
/// ```
/// use callboard::{EngineEvent, EngineId, prelude::*};
///
/// let cluster = Cluster::threads(1).start()?;
/// let mut events = cluster.client().engine_events();
/// cluster.remove_engines([EngineId(0)]).get()?;
/// let left = EngineEvent::Left { engine: EngineId(0), cause: "it was removed from the cluster".into() };
/// assert_eq!(events.recv()?, Some(left));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum EngineEvent {
    /// It is there now.
    Joined {
        /// The engine.
        engine: EngineId,
    },
    /// It is gone, for good: its id is not given again.
    Left {
        /// The engine.
        engine: EngineId,
        /// What became of it.
        cause: Arc<str>,
    },
    /// The subscriber was too slow: so many events are lost to it. `Client::ids` has the engines there are.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Asks the Scheduler to tell an actor of engines that come and go, each when it has handled the one before.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Subscribe {
    /// The actor. It is forgotten when it is gone.
    pub to: Recipient<EngineEvent>,
}

/// Tells the Scheduler that an engine is lost, before it [leaves](Leave). Once this is answered it is sent nothing more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Failing {
    /// The engine.
    pub engine: EngineId,
    /// What became of it.
    pub cause: Box<str>,
}

/// Tells the Scheduler that an engine is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// The engine.
    pub engine: EngineId,
    /// What became of it.
    pub cause: Box<str>,
    /// What it had, as far as that is known: not started, or with the loss as an error. What else it had is lost.
    pub had: Vec<HandBack>,
}

impl Drop for Leave {
    /// Calls in a mailbox that ends with its arbiter are not dropped on it: that is code of the user's.
    fn drop(&mut self) {
        apart::discard(std::mem::take(&mut self.had));
    }
}
