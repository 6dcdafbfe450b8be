//! From a caller to the Scheduler.

use std::sync::Arc;

use actix::Message;

use super::{Manner, Waiter, Watched};
use crate::ledger::Request;
use crate::task::{Extras, Moment, Span};

/// Asks the Scheduler to have tasks run.
///
/// A task that comes through here by hand has not passed admission: give it the weight 0.
///
/// ```
/// use callboard::messages::{Submission, Submit};
/// use callboard::ledger::Request;
/// use callboard::task::{Payload, Retries, Target};
/// use callboard::{Task, TaskId, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(1).start()?;
/// let id = TaskId { client: 7, seq: 0 };
/// let (kind, payload) = (square::kind(), Payload::of(square(6)));
/// let request = Request { id, kind, payload, target: Target::Any, retries: Retries::default(), extras: None };
/// let submission = Submission { request, weight: 0, waiter: None };
/// cluster.addresses().scheduler.do_send(Submit { batch: vec![submission] });
/// assert_eq!(cluster.client().fetch::<u64>(id).get()?, 36); // nobody waits, so it is kept
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// The tasks, in the order in which they may start.
    pub batch: Vec<Submission>,
}

/// One task, or the items of a map, and who waits.
#[derive(Debug)]
pub struct Submission {
    /// What is to be run, where and how often.
    pub request: Request,
    /// Bytes that admission counted for it, at least 1 a task; 0 if it did not pass admission.
    pub weight: u32,
    /// Who gets the outcome; `None` if nobody waits, then the value is kept for whoever asks.
    pub waiter: Option<Waiter>,
}

impl Submission {
    /// Parts it into what the ResultStore watches and what is to be placed.
    pub(crate) fn split(self, now: Moment) -> (Watched, Request) {
        let Self { mut request, weight, waiter } = self;
        if waiter.is_none() {
            let extras = request.extras.as_deref().cloned().unwrap_or_default();
            request.extras = Some(Arc::new(Extras { keep: true, ..extras }));
        }
        let watched = Watched {
            id: request.id,
            count: request.payload.count(),
            kind: request.kind,
            extras: request.extras.clone(),
            submitted: now,
            weight,
            waiter,
        };
        (watched, request)
    }
}

/// Asks the Scheduler to settle tasks as cancelled, wherever they are.
///
/// Tasks that are settled already, or unknown, stay as they are.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Cancel {
    /// The tasks.
    pub tasks: Vec<Span>,
    /// Why, for whoever reads the error.
    pub reason: Box<str>,
    /// What is done to those that run.
    pub manner: Manner,
}
