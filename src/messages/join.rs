//! How engines come and go.

use actix::{Message, Recipient};

use super::{Recall, Revoke, Run, StopEngine};
use crate::error::Error;
use crate::ledger::EngineOffer;
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
}

/// Tells an engine the id that the Scheduler gave it; from here on it runs tasks.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Welcome {
    /// The id.
    pub id: EngineId,
}

/// Tells the Scheduler that an engine is gone.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// The engine.
    pub engine: EngineId,
    /// What became of it.
    pub cause: Box<str>,
}
