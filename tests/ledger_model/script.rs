//! Scripts: random sequences of events, and how they are played.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Once;
use std::time::Duration;

use callboard::Limits;
use callboard::ledger::HandBack;
use callboard::task::{Attempt, EngineId, Retries, Target, TaskId};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError};

use super::Wish;
use super::cast::{KINDS, failed, wish};
use super::world::World;

/// What can happen. Numbers choose among what there is, modulo how much there is.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Join {
        slots: u32,
        is_local: bool,
    },
    Leave {
        engine: u8,
    },
    /// An engine is to go, in good order.
    Retire {
        engine: u8,
    },
    /// A client does not take what its tasks return.
    Hold {
        client: u64,
    },
    /// It does again.
    Release {
        client: u64,
    },
    /// An engine hears that it is to hand back what it has not started.
    HearRecall,
    /// An engine hears that it may go.
    HearDismissal,
    Submit {
        client: u64,
        wishes: Vec<RawWish>,
    },
    SubmitAgain {
        task: u8,
    },
    Cancel {
        tasks: Vec<u8>,
    },
    CancelAll,
    Tick {
        ms: u64,
    },
    Start {
        engine: u8,
    },
    Finish {
        engine: u8,
        nth: u8,
    },
    /// A started task comes back with an error.
    Fail {
        engine: u8,
        nth: u8,
        is_loss: bool,
        has_call: bool,
    },
    /// All that has not started comes back, at once.
    ReturnAll {
        engine: u8,
    },
    /// Some of what has not started comes back, after a while.
    ReturnSome {
        engine: u8,
        mask: u8,
    },
    /// The engine hears of a revocation.
    HearRevoke,
    /// The ledger hears of what was handed back.
    HearReturns {
        count: usize,
    },
    /// The store takes outcomes from the engines' lane.
    Publish {
        count: usize,
    },
    /// The ledger hears of what the store made of them.
    Confirm {
        count: usize,
    },
    /// An engine says what is not true.
    Lie {
        lie: Lie,
        engine: u8,
        task: u8,
        attempt: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// An outcome of a task that it need not have.
    Finished,
    /// A task that it need not have, with a call out of thin air.
    HandedBack,
    /// The same, and it had started.
    Failed,
    /// A task that has not started, but whose call is gone.
    LostCall,
}

#[derive(Clone, Debug)]
pub(crate) struct RawWish {
    pub(crate) kind: u8,
    pub(crate) target: RawTarget,
    pub(crate) errors: u16,
    pub(crate) losses: u16,
    pub(crate) deadline_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum RawTarget {
    Any,
    One(u8),
    /// A view made now, of some engines, of which some may be gone.
    New(u16),
    /// A view made before.
    Of(u8),
}

/// How many sequences of events are tried: `CALLBOARD_CASES=1000000 cargo test --release --test ledger`.
pub(crate) fn config() -> Config {
    let cases = std::env::var("CALLBOARD_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(300);
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 50_000,
        // Each choice among events seeds a generator: the default one costs more than the ledger and the model.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    }
}

pub(crate) fn limits() -> impl Strategy<Value = Limits> {
    let backlog_us = prop_oneof![6 => Just(500), 1 => Just(0), 1 => Just(2)];
    (1..=6_u32, backlog_us).prop_map(|(outstanding_max, backlog_us)| {
        let mut limits = Limits::default();
        limits.engine_outstanding_max = outstanding_max;
        limits.engine_backlog_us = backlog_us;
        limits
    })
}

fn any_wish() -> impl Strategy<Value = RawWish> {
    let target = prop_oneof![
        4 => Just(RawTarget::Any),
        3 => any::<u8>().prop_map(RawTarget::One),
        1 => any::<u16>().prop_map(RawTarget::New),
        4 => any::<u8>().prop_map(RawTarget::Of),
    ];
    let kind = prop_oneof![4 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    (kind, target, 0..3_u16, 0..3_u16, prop::option::weighted(0.2, 0..20_u64))
        .prop_map(|(kind, target, errors, losses, deadline_ms)| RawWish { kind, target, errors, losses, deadline_ms })
}

/// An event that honest engines and callers cause.
pub(crate) fn honest() -> BoxedStrategy<Event> {
    let engine = any::<u8>;
    // One has the most, as one does; several others come and go.
    let client = || prop_oneof![2 => Just(7_u64), 1 => 0..6_u64];
    let count = || prop_oneof![Just(1), Just(2), Just(usize::MAX)];
    prop_oneof![
        3 => (1..=3_u32, prop::bool::weighted(0.7)).prop_map(|(slots, is_local)| Event::Join { slots, is_local }),
        2 => engine().prop_map(|engine| Event::Leave { engine }),
        2 => engine().prop_map(|engine| Event::Retire { engine }),
        3 => Just(Event::HearRecall),
        3 => Just(Event::HearDismissal),
        1 => client().prop_map(|client| Event::Hold { client }),
        1 => client().prop_map(|client| Event::Release { client }),
        18 => (client(), prop::collection::vec(any_wish(), 1..5)).prop_map(|(client, wishes)| Event::Submit { client, wishes }),
        2 => any::<u8>().prop_map(|task| Event::SubmitAgain { task }),
        6 => prop::collection::vec(any::<u8>(), 1..4).prop_map(|tasks| Event::Cancel { tasks }),
        1 => Just(Event::CancelAll),
        4 => (0..10_u64).prop_map(|ms| Event::Tick { ms }),
        8 => engine().prop_map(|engine| Event::Start { engine }),
        24 => (engine(), any::<u8>()).prop_map(|(engine, nth)| Event::Finish { engine, nth }),
        6 => (engine(), any::<u8>(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(engine, nth, is_loss, has_call)| Event::Fail { engine, nth, is_loss, has_call }),
        2 => engine().prop_map(|engine| Event::ReturnAll { engine }),
        2 => (engine(), any::<u8>()).prop_map(|(engine, mask)| Event::ReturnSome { engine, mask }),
        6 => Just(Event::HearRevoke),
        6 => count().prop_map(|count| Event::HearReturns { count }),
        20 => count().prop_map(|count| Event::Publish { count }),
        20 => count().prop_map(|count| Event::Confirm { count }),
    ]
    .boxed()
}

/// Any event, with engines that now and then say what is not true.
pub(crate) fn dishonest() -> BoxedStrategy<Event> {
    let lie = prop_oneof![Just(Lie::Finished), Just(Lie::HandedBack), Just(Lie::Failed), Just(Lie::LostCall)];
    let lie = (lie, any::<u8>(), any::<u8>(), 0..4_u32).prop_map(|(lie, engine, task, attempt)| Event::Lie {
        lie,
        engine,
        task,
        attempt,
    });
    prop_oneof![10 => honest(), 1 => lie].boxed()
}

/// A sequence of events, printed one a line, as a test's source has them.
#[derive(Clone)]
pub(crate) struct Script(Vec<Event>);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|event| write!(f, "\n    Event::{event:?},"))
    }
}

pub(crate) fn script(event: BoxedStrategy<Event>) -> impl Strategy<Value = Script> {
    prop::collection::vec(event, 0..400).prop_map(Script)
}

/// Plays a script, then the end of it, and checks that nothing is left.
pub(crate) fn play(limits: &Limits, engines: u32, events: &Script, end: fn(&mut World)) -> Result<(), TestCaseError> {
    quietly(|| {
        let mut world = World::new(limits);
        for slots in 1..=engines {
            world.join(slots, true);
        }
        events.0.iter().for_each(|event| world.step(event));
        end(&mut world);
        world.check_nothing_left();
    })
    .map_err(TestCaseError::fail)
}

thread_local! {
    /// Where the last panic was, on a thread whose panics are not printed.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes a panic an error: shrinking meets thousands, of which the last one is worth reading.
fn quietly(test: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED_AT.with_borrow_mut(|place| match place {
                Some(place) => *place = info.to_string(),
                None => print(info),
            });
        }));
    });
    PANICKED_AT.set(Some(String::new()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
    let place = PANICKED_AT.take().unwrap_or_default();
    result.map_err(|_| place)
}

impl World {
    pub(crate) fn step(&mut self, event: &Event) {
        match event {
            Event::Join { slots, is_local } => drop(self.join(*slots, *is_local)),
            Event::Leave { engine } => self.with_engine(*engine, |world, engine| world.leave(engine, "it left")),
            Event::Retire { engine } => self.with_engine(*engine, Self::retire),
            Event::Hold { client } => self.hold(*client),
            Event::Release { client } => self.release(*client),
            Event::HearRecall => self.hear_recall(),
            Event::HearDismissal => self.hear_dismissal(),
            Event::Submit { client, wishes } => {
                let wishes: Vec<Wish> = wishes.iter().map(|raw| self.read_wish(raw)).collect();
                self.submit_of(*client, wishes);
            }
            Event::SubmitAgain { task } => {
                let Some(id) = choose(&self.known_ids(), *task) else { return };
                self.submit_as(vec![(id, wish(self.kinds[&id], Target::Any))]);
            }
            Event::Cancel { tasks } => {
                let ids = self.known_ids();
                let tasks: Vec<TaskId> = tasks.iter().filter_map(|&task| choose(&ids, task)).collect();
                self.cancel(&tasks);
            }
            Event::CancelAll => self.cancel_all(),
            Event::Tick { ms } => self.tick(Duration::from_millis(*ms)),
            Event::Start { engine } => self.with_engine(*engine, Self::start),
            Event::Finish { engine, nth } => self.with_engine(*engine, |world, engine| world.finish(engine, *nth)),
            Event::Fail { engine, nth, is_loss, has_call } => {
                self.with_engine(*engine, |world, engine| world.fail(engine, *nth, *is_loss, *has_call));
            }
            Event::ReturnAll { engine } => self.with_engine(*engine, Self::return_all),
            Event::ReturnSome { engine, mask } => {
                self.with_engine(*engine, |world, engine| world.return_some(engine, *mask));
            }
            Event::HearRevoke => self.hear_revoke(),
            Event::HearReturns { count } => self.hear_returns(*count),
            Event::Publish { count } => self.publish(*count),
            Event::Confirm { count } => self.confirm(*count),
            Event::Lie { lie, engine, task, attempt } => self.lie(*lie, *engine, *task, *attempt),
        }
    }

    fn lie(&mut self, lie: Lie, engine: u8, task: u8, attempt: u32) {
        let engines: Vec<EngineId> = self.sims.keys().chain(&self.gone).copied().collect();
        let (Some(engine), Some(id)) = (choose(&engines, engine), choose(&self.known_ids(), task)) else { return };
        let attempt = Attempt(attempt);
        self.has_liars = true;
        let back = |payload, error| HandBack { id, count: 1, attempt, payload, error, printed: None };
        match lie {
            Lie::Finished => self.report_untrue(id, engine, attempt),
            Lie::HandedBack => {
                let payload = Some(self.call(id, self.kinds[&id]));
                self.hand_back(engine, vec![back(payload, None)]);
            }
            Lie::Failed => {
                let payload = Some(self.call(id, self.kinds[&id]));
                self.hand_back(engine, vec![back(payload, Some(failed(engine, id, attempt)))]);
            }
            Lie::LostCall => self.hand_back(engine, vec![back(None, None)]),
        }
    }

    fn with_engine(&mut self, engine: u8, act: impl FnOnce(&mut Self, EngineId)) {
        let engines: Vec<EngineId> = self.sims.keys().copied().collect();
        if let Some(engine) = choose(&engines, engine) {
            act(self, engine);
        }
    }

    /// Tasks in the ledger, and a few that were there once.
    fn known_ids(&self) -> Vec<TaskId> {
        let past = self.submitted.iter().rev().take(4).copied();
        self.model.ids().into_iter().chain(past).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn read_wish(&mut self, raw: &RawWish) -> Wish {
        let engines: Vec<EngineId> = self.sims.keys().chain(self.gone.iter().rev().take(1)).copied().collect();
        let target = match raw.target {
            RawTarget::Any => Target::Any,
            RawTarget::One(engine) => choose(&engines, engine).map_or(Target::Any, Target::One),
            RawTarget::New(mask) => {
                let some = engines.iter().enumerate().filter(|(i, _)| mask & (1 << (i % 16)) != 0);
                self.views.push(some.map(|(_, &engine)| engine).collect());
                Target::Of(self.views[self.views.len() - 1].clone())
            }
            RawTarget::Of(view) => choose(&self.views, view).map_or(Target::Any, Target::Of),
        };
        Wish {
            kind: KINDS[usize::from(raw.kind) % KINDS.len()],
            target,
            retries: Retries { errors: raw.errors, losses: raw.losses },
            deadline: raw.deadline_ms.map(Duration::from_millis),
        }
    }
}

fn choose<T: Clone>(among: &[T], nth: u8) -> Option<T> {
    (!among.is_empty()).then(|| among[usize::from(nth) % among.len()].clone())
}
