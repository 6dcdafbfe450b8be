//! Where one task is, for whoever asks: what the ledger knows, and what an engine says that has it.

use super::entry::Place;
use super::events::Ledger;
use crate::task::{Attempt, EngineId, TaskId, TaskState};

/// Where the ledger has a task.
///
/// ```
/// use callboard::Limits;
/// use callboard::ledger::{EngineOffer, Ledger, Request, Whereabouts};
/// use callboard::task::{Attempt, Closure, ErasedTask, Moment, Payload, Retries, Target, TaskId};
///
/// let mut ledger = Ledger::new(&Limits::default());
/// let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
/// let call: Box<dyn ErasedTask> = Box::new(Closure(|| 42));
/// let id = TaskId { client: 7, seq: 0 };
/// let (kind, payload) = (call.kind(), Payload::Typed(call));
/// let request = Request { id, kind, payload, target: Target::Any, retries: Retries::default(), extras: None };
/// ledger.on_submit(Moment::FIRST, vec![request]);
/// assert_eq!(ledger.whereabouts(id), Some(Whereabouts::At { engine, attempt: Attempt(1) }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It waits for an engine.
    Waiting,
    /// It was sent to an engine, which has not returned it.
    At {
        /// The engine.
        engine: EngineId,
        /// The attempt that it is to make.
        attempt: Attempt,
    },
}

impl Ledger {
    /// Returns where a task is; `None` if it is settled, if an outcome was ordered for it, or if it was never submitted.
    pub fn whereabouts(&self, task: TaskId) -> Option<Whereabouts> {
        let entry = self.entry(self.slot_with(task)?);
        match entry.place {
            Place::Waiting => Some(Whereabouts::Waiting),
            Place::At(place) => Some(Whereabouts::At { engine: self.fleet.get(place).id, attempt: entry.attempt() }),
            Place::Lingering(_) | Place::Ghost(_) | Place::Settling => None,
        }
    }

    /// Returns how far the engine has come that has a task, given what it says that it is at.
    ///
    /// An engine makes the calls of a piece in order, and returns them together: those before the one that it is at have returned.
    pub fn state_at(&self, task: TaskId, is_at: Option<(TaskId, Attempt)>) -> Option<TaskState> {
        let entry = self.entry(self.slot_with(task)?);
        let Place::At(place) = entry.place else { return None };
        let engine = Some(self.fleet.get(place).id);
        let of_its_piece = is_at.filter(|(at, attempt)| *attempt == entry.attempt() && entry.span().contains(*at));
        Some(match of_its_piece {
            Some((at, _)) if at == task => TaskState::Running { engine },
            Some((at, _)) if at > task => TaskState::Returned { engine },
            _ => TaskState::Sent { engine },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{EngineOffer, HandBack, Order, Request};
    use crate::limits::Limits;
    use crate::task::{Chunk, ErasedTask, Moment, Payload, Retries, Span, Target, Task, TaskContext, TaskFailure};

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Echo(u64);

    impl Task for Echo {
        type Output = u64;
        const NAME: &'static str = "whereabouts::Echo";
        fn run(self, _: &TaskContext) -> Result<u64, TaskFailure> {
            Ok(self.0)
        }
    }

    fn id(seq: u64) -> TaskId {
        TaskId { client: 7, seq }
    }

    fn request(first: u64, count: u64) -> Request {
        let call: Box<dyn ErasedTask> = Box::new(Chunk::new((0..count).map(Echo)));
        Request {
            id: id(first),
            kind: call.kind(),
            payload: Payload::Typed(call),
            target: Target::Any,
            retries: Retries::default(),
            extras: None,
        }
    }

    /// A ledger with an engine that has one task of two; the other waits.
    fn with_two() -> (Ledger, EngineId, Vec<Order>) {
        let mut ledger = Ledger::new(&Limits::default());
        let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
        let orders = ledger.on_submit(Moment::FIRST, vec![request(0, 1), request(1, 1)]);
        (ledger, engine, orders)
    }

    #[test]
    fn a_task_waits_is_at_an_engine_or_is_not_here_any_more() {
        let (mut ledger, engine, _) = with_two();
        let attempt = Attempt(1);
        assert_eq!(ledger.whereabouts(id(0)), Some(Whereabouts::At { engine, attempt }));
        assert_eq!(ledger.whereabouts(id(1)), Some(Whereabouts::Waiting));
        assert_eq!(ledger.whereabouts(id(2)), None, "it was never submitted");
        ledger.on_cancel(&[Span { first: id(0), count: 2 }], "not needed");
        assert_eq!((ledger.whereabouts(id(0)), ledger.whereabouts(id(1))), (None, None), "their outcomes are ordered");
    }

    #[test]
    fn what_an_engine_hands_back_waits_again() {
        let (mut ledger, engine, orders) = with_two();
        let sent = orders.into_iter().find_map(|order| match order {
            Order::Run { assignment, .. } => Some(assignment),
            _ => None,
        });
        ledger.on_retire(engine, "it is to go");
        ledger.on_handed_back(engine, vec![HandBack::unstarted(sent.unwrap())]);
        assert_eq!(ledger.whereabouts(id(0)), Some(Whereabouts::Waiting));
        assert_eq!(ledger.state_at(id(0), Some((id(0), Attempt(1)))), None, "what that engine says is of before");
    }

    #[test]
    fn of_a_piece_the_engine_is_at_one_and_those_before_have_returned() {
        let mut ledger = Ledger::new(&Limits::default());
        let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
        let mut map = request(10, 5);
        map.extras = Some(std::sync::Arc::new(crate::task::Extras {
            chunksize: std::num::NonZeroU32::new(5),
            ..crate::task::Extras::default()
        }));
        ledger.on_submit(Moment::FIRST, vec![map]);
        let engine = Some(engine);
        let (sent, running) = (TaskState::Sent { engine }, TaskState::Running { engine });
        let returned = TaskState::Returned { engine };
        let states = |is_at| (10..15).map(|seq| ledger.state_at(id(seq), is_at).unwrap()).collect::<Vec<_>>();
        assert_eq!(states(Some((id(12), Attempt(1)))), [returned, returned, running, sent, sent]);
        // At nothing yet; at something else; at an attempt of another time.
        for is_at in [None, Some((id(3), Attempt(1))), Some((id(12), Attempt(2)))] {
            assert_eq!(states(is_at), [sent; 5], "{is_at:?}");
        }
        assert_eq!(ledger.state_at(id(15), None), None);
    }
}
