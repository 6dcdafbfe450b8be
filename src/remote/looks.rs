//! Which task an engine elsewhere runs: asked there, since nobody here knows.
//!
//! One question is on its way at a time, whoever asks. Those who come meanwhile are for the next: what the engine was at when it
//! answered may be over. The answer goes behind all that the engine has returned and handed back by then, so it says of nothing that has
//! ended that it has not begun.

use std::mem;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::engine::Uplink;
use super::gateway::Gateway;
use crate::actors::Engine;
use crate::messages::Look;
use crate::task::{Attempt, TaskId};
use crate::wire::frame::Lane;
use crate::wire::protocol::{FromEngine, ToEngine};

/// The task that an engine is at.
type IsAt = Option<(TaskId, Attempt)>;

/// Who wants to know.
///
/// Bound: the Scheduler asks for no more than [`LOOKS_MAX`](crate::limits::LOOKS_MAX) at a time.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// They get the answer that is on its way.
    asked: Vec<oneshot::Sender<IsAt>>,
    /// They came since.
    next: Vec<oneshot::Sender<IsAt>>,
}

impl Looks {
    /// Takes a question; returns whether the engine is to be asked now.
    fn put(&mut self, tell: oneshot::Sender<IsAt>) -> bool {
        if !self.asked.is_empty() {
            self.next.push(tell);
            return false;
        }
        self.asked.push(tell);
        true
    }

    /// Takes the answer; returns whether the engine is to be asked again.
    fn on_told(&mut self, is_at: IsAt) -> Result<bool, Box<str>> {
        if self.asked.is_empty() {
            return Err("it says what it is at, and was not asked".into());
        }
        let next = mem::take(&mut self.next);
        for tell in mem::replace(&mut self.asked, next) {
            // Who asked may have gone away.
            let _ = tell.send(is_at);
        }
        Ok(!self.asked.is_empty())
    }
}

impl Handler<Look> for Gateway {
    type Result = ();

    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        // Where the engine is lost, its tasks go back to the Scheduler first: then this is dropped, and whoever asked looks again.
        if self.looks.put(msg.tell) {
            self.say(Lane::Control, &ToEngine::Look, Vec::new());
        }
    }
}

impl Gateway {
    /// The engine says what it is at.
    pub(super) fn on_told(&mut self, is_at: IsAt) -> Result<(), Box<str>> {
        if self.looks.on_told(is_at)? {
            self.say(Lane::Control, &ToEngine::Look, Vec::new());
        }
        Ok(())
    }
}

/// There: what the engine is at, to be told.
#[derive(Message)]
#[rtype(result = "()")]
struct Told(IsAt);

/// There: asks the engine, and has the answer told.
pub(super) fn look(engine: &Addr<Engine>, uplink: &Addr<Uplink>) {
    let ((tell, told), uplink) = (oneshot::channel(), uplink.clone());
    engine.do_send(Look { tell });
    actix::spawn(async move {
        // An engine that is gone is at nothing.
        let is_at = told.await.ok().flatten();
        // By its mailbox: behind what was handed back.
        uplink.do_send(Told(is_at));
    });
}

impl Handler<Told> for Uplink {
    type Result = ();

    fn handle(&mut self, Told(is_at): Told, _: &mut Context<Self>) {
        self.take_in();
        self.say(&FromEngine::IsAt(is_at), Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> IsAt {
        Some((TaskId { client: 7, seq }, Attempt(1)))
    }

    #[test]
    fn an_answer_is_for_those_who_asked_before_the_question_was_said() {
        let mut looks = Looks::default();
        let ask = |looks: &mut Looks| {
            let (tell, told) = oneshot::channel();
            (looks.put(tell), told)
        };
        let (is_first, mut first) = ask(&mut looks);
        let (is_second, mut second) = ask(&mut looks);
        let (_, third) = ask(&mut looks);
        assert_eq!((is_first, is_second), (true, false), "one question is on its way");
        drop(third);
        assert_eq!(looks.on_told(at(1)), Ok(true), "and then one for all who came since");
        assert_eq!((first.try_recv(), second.try_recv().is_err()), (Ok(at(1)), true));
        assert_eq!(looks.on_told(None), Ok(false));
        assert_eq!(second.try_recv(), Ok(None));
        assert!(looks.on_told(at(2)).is_err_and(|lie| lie.contains("was not asked")));
        assert!(ask(&mut looks).0, "it goes on");
    }
}
