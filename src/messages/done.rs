//! From the ResultStore to those who want to hear of the end of a task.

use std::fmt;

use actix::{Message, Recipient};

use super::Aftermath;
use crate::apart;
use crate::task::{Payload, Record};

/// Tells a subscriber that a task is settled. Its value, if it has one, is with the `AsyncResult`.
///
/// ```
/// use actix::prelude::*;
/// use callboard::{TaskDone, prelude::*};
///
/// struct Log(tokio::sync::mpsc::UnboundedSender<String>);
///
/// impl Actor for Log {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<TaskDone> for Log {
///     type Result = ();
///     fn handle(&mut self, TaskDone { record }: TaskDone, _: &mut Context<Self>) {
///         let _ = self.0.send(format!("{} {}", record.name(), record.status));
///     }
/// }
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// # System::new().block_on(async {
/// let cluster = Cluster::threads(1).start()?;
/// let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
/// let log = Log(tell).start();
/// cluster.client().load_balanced().apply(square(7)).on_done(log.clone().recipient())?;
/// assert_eq!(told.recv().await.as_deref(), Some("square done"));
/// # Ok::<(), callboard::Error>(())
/// # })?;
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct TaskDone {
    /// What is remembered of the task.
    pub record: Record,
}

/// Something to be done when a task is settled.
pub enum Callback {
    /// Send `TaskDone` to this actor.
    Message(Recipient<TaskDone>),
    /// Run this, on a thread where it may block and panic.
    Closure(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message(_) => "Callback::Message",
            Self::Closure(_) => "Callback::Closure",
        })
    }
}

/// Asks the callbacks' actor to do what is left after results were settled.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Dispatch {
    /// What is left, one result after the other.
    pub batch: Vec<Aftermath>,
}

impl Drop for Dispatch {
    /// A mailbox that is closed, or ends with its arbiter, loses no callback: what was not handled is done apart.
    fn drop(&mut self) {
        std::mem::take(&mut self.batch).into_iter().for_each(Aftermath::carry_out_apart);
    }
}

/// Asks the callbacks' actor to drop calls that nobody will make: their `Drop` is code of the user's.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Discard {
    /// The calls.
    pub batch: Vec<Payload>,
}

impl Drop for Discard {
    fn drop(&mut self) {
        apart::discard(std::mem::take(&mut self.batch));
    }
}
