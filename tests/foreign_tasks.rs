//! Tasks of a client whose program has functions that the controller's has not: the ledger sends them only where they are.

use std::sync::Arc;

use callboard::ledger::{EngineOffer, HandBack, Ledger, Order, Request};
use callboard::task::{
    EngineId, ErasedTask, Lack, Moment, Payload, Retries, Target, TaskKind, TaskTable, Value, WireCall, key_of,
};
use callboard::{Limits, Policy, TaskContext, TaskError, TaskFailure, TaskId};

const fn kind(name: &'static str, fingerprint: u64) -> TaskKind {
    TaskKind { name, version: 1, key: key_of(name, 1), fingerprint, idempotent: false, portable: true }
}

static THEIRS: TaskKind = kind("theirs", 1);
static CHANGED: TaskKind = kind("theirs", 2);

/// A call of a function, which this program may lack.
struct Call {
    kind: &'static TaskKind,
    is_foreign: bool,
}

impl ErasedTask for Call {
    fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        unreachable!("nothing runs here")
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        None
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn is_foreign(&self) -> bool {
        self.is_foreign
    }
}

/// A ledger, and the number of the next task.
struct Site(Ledger, u64);

/// Where a task went: to an engine, nowhere for now, or nowhere at all.
type Went = Option<Result<EngineId, TaskError>>;

impl Site {
    fn new(policy: Policy) -> Self {
        Self(Ledger::with_policy(&Limits::default(), policy, 1), 0)
    }

    /// An engine of one slot comes. Returns it, and whether it got something.
    fn join(&mut self, tasks: Option<&TaskTable>) -> (EngineId, usize) {
        let tasks = tasks.cloned().map(Arc::new);
        let (engine, orders) = self.0.on_join(EngineOffer { slots: 1, is_local: tasks.is_none(), tasks });
        (engine, runs(&orders))
    }

    fn submit(&mut self, kind: &'static TaskKind, target: Target) -> Went {
        went(self.submit_of(7, Call { kind, is_foreign: true }, target))
    }

    fn submit_of(&mut self, client: u64, call: Call, target: Target) -> Vec<Order> {
        let id = TaskId { client, seq: self.1 };
        self.1 += 1;
        let (kind, payload) = (call.kind, Payload::Typed(Box::new(call)));
        let request = Request { id, kind, payload, target, retries: Retries::default(), extras: None };
        self.0.on_submit(Moment::FIRST, vec![request])
    }
}

fn went(orders: Vec<Order>) -> Went {
    orders.into_iter().find_map(|order| match order {
        Order::Run { engine, .. } => Some(Ok(engine)),
        Order::Settle { error, .. } => Some(Err(error)),
        _ => None,
    })
}

fn runs(orders: &[Order]) -> usize {
    orders.iter().filter(|order| matches!(order, Order::Run { .. })).count()
}

fn unknown(engine: EngineId, lack: Lack) -> Went {
    Some(Err(TaskError::UnknownTask { engine, task: "theirs".into(), lack }))
}

#[test]
fn it_goes_only_to_engines_whose_program_has_it_whatever_the_target_and_the_policy() {
    let theirs = TaskTable::of([&THEIRS]);
    for policy in [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted] {
        let mut site = Site::new(policy);
        let (threads, (able, _)) = ([site.join(None).0, site.join(None).0], site.join(Some(&theirs)));
        assert_eq!(site.submit(&THEIRS, Target::Any), Some(Ok(able)), "{policy:?}");
        assert_eq!(site.submit(&THEIRS, Target::Any), None, "two engines are idle that cannot run it");
        assert_eq!(site.submit(&THEIRS, Target::One(able)), None);
        assert_eq!(site.submit(&THEIRS, Target::Of([able].into())), None);
        assert_eq!(site.submit(&THEIRS, Target::One(threads[1])), unknown(threads[1], Lack::Missing));
        assert_eq!(site.submit(&THEIRS, Target::Of([able, threads[0]].into())), unknown(threads[0], Lack::Missing));
        // What is ours goes where it went before.
        let ours = site.submit_of(7, Call { kind: &THEIRS, is_foreign: false }, Target::One(threads[0]));
        assert_eq!(went(ours), Some(Ok(threads[0])));
        assert_eq!(site.join(Some(&theirs)).1, 1, "another that has it");
        assert_eq!(site.0.status().queued, 2, "what is bound to the first");
    }
}

#[test]
fn it_is_refused_where_no_engine_has_it() {
    let mut site = Site::new(Policy::LeastLoad);
    let (first, _) = site.join(None);
    assert_eq!(site.submit(&THEIRS, Target::Any), unknown(first, Lack::Missing));
    site.join(Some(&TaskTable::of([&CHANGED])));
    assert_eq!(site.submit(&THEIRS, Target::Any), unknown(first, Lack::Missing));
    site.0.on_leave(first, "gone");
    let second = EngineId(1);
    assert_eq!(site.submit(&THEIRS, Target::Any), unknown(second, Lack::Differs));

    // Who has left does not count; but what waits may wait for the next.
    let (able, _) = site.join(Some(&TaskTable::of([&THEIRS])));
    assert_eq!(site.submit(&THEIRS, Target::Any), Some(Ok(able)));
    assert_eq!(site.submit(&THEIRS, Target::Any), None);
    site.0.on_leave(able, "gone");
    assert_eq!(site.submit(&THEIRS, Target::Any), unknown(second, Lack::Differs));
    assert_eq!(site.0.status().queued, 1);
    assert_eq!(site.join(Some(&TaskTable::of([&THEIRS]))).1, 1);
}

#[test]
fn it_waits_for_the_next_engine_that_has_it_where_there_is_none_at_all() {
    let mut site = Site::new(Policy::LeastLoad);
    assert_eq!(site.submit(&THEIRS, Target::Any), None);
    assert_eq!(site.submit(&THEIRS, Target::Any), None);
    let (thread, got) = site.join(None);
    assert_eq!(got, 0, "it cannot run what waits");
    assert_eq!(site.submit(&THEIRS, Target::Any), unknown(thread, Lack::Missing));
    assert_eq!(site.join(Some(&TaskTable::of([&THEIRS]))).1, 1);
    assert_eq!(site.join(Some(&TaskTable::of([&THEIRS]))).1, 1);
    assert_eq!(site.0.status().queued, 0);
}

#[test]
fn a_function_of_this_program_with_the_same_name_waits_in_another_queue() {
    let mut site = Site::new(Policy::LeastLoad);
    let theirs = TaskTable::of([&THEIRS]);
    let (busy, _) = site.join(Some(&theirs));
    assert_eq!(site.submit(&THEIRS, Target::Any), Some(Ok(busy)));
    assert_eq!(site.submit(&THEIRS, Target::Any), None);
    let ours = site.submit_of(7, Call { kind: &THEIRS, is_foreign: false }, Target::Any);
    assert_eq!(went(ours), None);
    assert_eq!(site.join(None).1, 1, "ours");
    assert_eq!(site.join(None).1, 0, "theirs is left");
    assert_eq!(site.join(Some(&theirs)).1, 1);
}

#[test]
fn what_comes_back_goes_only_to_another_engine_that_has_it_and_none_is_asked_for_it_in_vain() {
    let mut site = Site::new(Policy::LeastLoad);
    let theirs = TaskTable::of([&THEIRS]);
    let (able, _) = site.join(Some(&theirs));
    site.join(None);
    let orders = site.submit_of(7, Call { kind: &THEIRS, is_foreign: true }, Target::Any);
    let Some(Order::Run { assignment, .. }) = orders.into_iter().next() else { panic!("it is sent") };
    site.0.on_retire(able, "it is not needed");
    let orders = site.0.on_handed_back(able, vec![HandBack::unstarted(assignment)]);
    assert_eq!((runs(&orders), site.0.status().queued), (0, 1), "{orders:?}");
    assert!(!site.0.wants_look());
    assert_eq!(site.join(Some(&theirs)).1, 1);
}

#[test]
fn a_client_that_makes_up_functions_takes_no_room_by_it() {
    let mut site = Site::new(Policy::LeastLoad);
    let (thread, _) = site.join(None);
    for fingerprint in 0..10_000 {
        let made_up = Box::leak(Box::new(kind("theirs", fingerprint)));
        assert_eq!(site.submit(made_up, Target::Any), unknown(thread, Lack::Missing));
    }
    // Where there is no engine yet, so many may wait.
    site.0.on_leave(thread, "gone");
    let waiting = |site: &mut Site, fingerprint| {
        site.submit(Box::leak(Box::new(kind("theirs", fingerprint))), Target::Any).is_none()
    };
    let waiting = (0..10_000).filter(|&fingerprint| waiting(&mut site, fingerprint)).count();
    assert_eq!((waiting, site.0.status().queued), (256, 256));
    let ours = site.submit_of(8, Call { kind: &CHANGED, is_foreign: false }, Target::Any);
    assert_eq!(went(ours), None, "what any engine of this program may run has a queue all the same");
}
