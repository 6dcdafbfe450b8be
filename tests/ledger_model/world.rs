//! Everybody around the ledger: callers, engines, and the result store, as `src/actors` plays them.
//!
//! The scheduler's own messages to the store arrive at once, as they do on one arbiter. What engines report
//! waits in a lane until the store takes it; what the store confirms waits until the ledger hears it; what an
//! engine hands back is under way for a while. So each pair of events comes in both orders.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use callboard::ledger::{Assignment, EngineOffer, HandBack, Ledger, Order, Request, SettledTask, Verdict};
use callboard::task::{
    Attempt, EngineId, ErasedTask, Extras, Moment, Payload, Retries, Target, TaskId, TaskKind, Value, WireCall, key_of,
};
use callboard::{Limits, Place as Where, TaskContext, TaskError, TaskFailure};

use super::{Effect, Line, Model, Task, Wish};

const fn kind(name: &'static str, portable: bool) -> TaskKind {
    TaskKind { name, version: 1, key: key_of(name, 1), fingerprint: 0, idempotent: false, portable }
}

/// Takes a microsecond.
pub(crate) static TINY: TaskKind = kind("tiny", true);
/// Takes 200 microseconds: a few fit into the default backlog.
pub(crate) static SHORT: TaskKind = kind("short", true);
/// Takes 20 milliseconds.
pub(crate) static LONG: TaskKind = kind("long", true);
/// Takes a microsecond, on an engine of this process.
pub(crate) static CLOSURE: TaskKind = kind("closure", false);

pub(crate) static KINDS: [&TaskKind; 4] = [&TINY, &SHORT, &LONG, &CLOSURE];

pub(crate) fn time_of(kind: &TaskKind) -> Duration {
    Duration::from_micros(match kind.name {
        "short" => 200,
        "long" => 20_000,
        _ => 1,
    })
}

thread_local! {
    /// The calls that were dropped since somebody looked.
    static DROPPED: RefCell<Vec<TaskId>> = const { RefCell::new(Vec::new()) };
}

fn take_dropped() -> Vec<TaskId> {
    DROPPED.with_borrow_mut(std::mem::take)
}

/// A call that tells when it is dropped.
struct Call {
    task: TaskId,
    kind: &'static TaskKind,
}

impl Drop for Call {
    fn drop(&mut self) {
        DROPPED.with_borrow_mut(|dropped| dropped.push(self.task));
    }
}

impl ErasedTask for Call {
    fn kind(&self) -> &'static TaskKind {
        self.kind
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Ok(Value::of(()))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        None
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        true
    }
}

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
    Submit {
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

/// An engine, which starts what it is sent in that order.
#[derive(Debug)]
struct Sim {
    slots: usize,
    tray: VecDeque<Assignment>,
    running: Vec<Assignment>,
    /// By queue, the last task that it started.
    last_started: HashMap<String, u64>,
}

pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) model: Model,
    pub(crate) now: Moment,
    sims: BTreeMap<EngineId, Sim>,
    gone: Vec<EngineId>,
    views: Vec<Arc<[EngineId]>>,
    /// The store: unsettled tasks, and the attempt that is expected.
    unsettled: BTreeMap<TaskId, Attempt>,
    lane: VecDeque<SettledTask>,
    confirmations: VecDeque<SettledTask>,
    returns: VecDeque<(EngineId, HandBack)>,
    revocations: VecDeque<(EngineId, TaskId)>,
    /// A task's id stands for one call, however often it is submitted.
    kinds: BTreeMap<TaskId, &'static TaskKind>,
    /// `Run` orders since the test last took them.
    pub(crate) runs: Vec<(EngineId, TaskId)>,
    /// All other orders since then.
    pub(crate) effects: Vec<Effect>,
    next_seq: u64,
    accepted: u64,
    calls_made: usize,
    calls_dropped: usize,
    /// Whether some engine lies. Then what the ledger believes need not be so.
    has_liars: bool,
}

impl World {
    pub(crate) fn new(limits: &Limits) -> Self {
        take_dropped();
        Self {
            ledger: Ledger::new(limits),
            model: Model::new(limits),
            now: Moment::FIRST,
            sims: BTreeMap::new(),
            gone: Vec::new(),
            views: Vec::new(),
            unsettled: BTreeMap::new(),
            lane: VecDeque::new(),
            confirmations: VecDeque::new(),
            returns: VecDeque::new(),
            revocations: VecDeque::new(),
            kinds: BTreeMap::new(),
            runs: Vec::new(),
            effects: Vec::new(),
            next_seq: 0,
            accepted: 0,
            calls_made: 0,
            calls_dropped: 0,
            has_liars: false,
        }
    }

    pub(crate) fn step(&mut self, event: &Event) {
        match event {
            Event::Join { slots, is_local } => drop(self.join(*slots, *is_local)),
            Event::Leave { engine } => self.with_engine(*engine, |world, engine| world.leave(engine, "it left")),
            Event::Submit { wishes } => {
                let wishes: Vec<Wish> = wishes.iter().map(|raw| self.read_wish(raw)).collect();
                self.submit(wishes);
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

    pub(crate) fn join(&mut self, slots: u32, is_local: bool) -> EngineId {
        let (id, orders) = self.ledger.on_join(EngineOffer { slots, is_local });
        self.model.on_join(id, slots, is_local);
        let sim =
            Sim { slots: slots as usize, tray: VecDeque::new(), running: Vec::new(), last_started: HashMap::new() };
        self.sims.insert(id, sim);
        self.carry_out(orders, Vec::new());
        id
    }

    /// The engine is gone, with all that it has.
    pub(crate) fn leave(&mut self, engine: EngineId, cause: &str) {
        if let Some(sim) = self.sims.remove(&engine) {
            self.gone.push(engine);
            drop(sim);
            self.calls_dropped += take_dropped().len();
        }
        let orders = self.ledger.on_leave(engine, cause);
        let effects = self.model.on_leave(engine, cause);
        self.carry_out(orders, effects);
    }

    pub(crate) fn submit(&mut self, wishes: Vec<Wish>) -> Vec<TaskId> {
        let seqs = self.next_seq..;
        self.next_seq += wishes.len() as u64;
        let batch: Vec<(TaskId, Wish)> =
            seqs.zip(wishes).map(|(seq, wish)| (TaskId { client: 7, seq }, wish)).collect();
        let ids = batch.iter().map(|(id, _)| *id).collect();
        self.submit_as(batch);
        ids
    }

    pub(crate) fn submit_as(&mut self, batch: Vec<(TaskId, Wish)>) {
        let mut requests = Vec::new();
        let mut effects = Vec::new();
        for (id, wish) in batch {
            self.kinds.insert(id, wish.kind);
            if !self.model.tasks.contains_key(&id) {
                // As `Watch`, which the store hears of before any engine hears of the task.
                self.unsettled.insert(id, Attempt(0));
                self.accepted += 1;
            }
            effects.extend(self.model.on_submit(self.now, id, &wish));
            let deadline = wish.deadline;
            let extras = deadline.map(|_| Arc::new(Extras { deadline, ..Extras::default() }));
            let payload = self.call(id, wish.kind);
            let Wish { kind, target, retries, .. } = wish;
            requests.push(Request { id, kind, payload, target, retries, extras });
        }
        let orders = self.ledger.on_submit(self.now, requests);
        self.carry_out(orders, effects);
    }

    pub(crate) fn cancel(&mut self, tasks: &[TaskId]) {
        let orders = self.ledger.on_cancel(tasks, "no need");
        let effects = tasks.iter().flat_map(|&id| self.model.give_up(id, cancelled())).collect();
        self.carry_out(orders, effects);
    }

    pub(crate) fn cancel_all(&mut self) {
        let orders = self.ledger.on_cancel_all("no need");
        let effects = self.model.ids().into_iter().flat_map(|id| self.model.give_up(id, cancelled())).collect();
        self.carry_out(orders, effects);
    }

    pub(crate) fn tick(&mut self, later: Duration) {
        self.now = self.now.after(later);
        let orders = self.ledger.on_tick(self.now);
        let effects = self.model.on_tick(self.now);
        self.carry_out(orders, effects);
    }

    /// The engine starts the next of what it was sent, if it has an idle slot.
    pub(crate) fn start(&mut self, engine: EngineId) {
        let sim = self.sims.get_mut(&engine).expect("the engine is there");
        if sim.running.len() >= sim.slots {
            return;
        }
        let Some(assignment) = sim.tray.pop_front() else { return };
        if let Some(task) = self.model.tasks.get(&assignment.id).filter(|_| !self.has_liars)
            && !task.is_out_of_turn
        {
            let queue = match &task.line {
                Line::Of(engines) => format!("{:p}", Arc::as_ptr(engines)),
                line => format!("{line:?}"),
            };
            let before = sim.last_started.insert(queue, task.nth);
            assert!(before < Some(task.nth), "{} starts on {engine} after one submitted later", assignment.id);
        }
        sim.running.push(assignment);
    }

    /// A task returns a value.
    pub(crate) fn finish(&mut self, engine: EngineId, nth: u8) {
        let Some(Assignment { id, attempt, payload, .. }) = self.take_running(engine, nth) else { return };
        let ran = time_of(kind_of(&payload));
        self.drop_call(id, payload);
        self.lane.push_back(outcome(id, Some(engine), attempt, Some(ran)));
    }

    /// A task fails, or is lost with a part of the engine.
    pub(crate) fn fail(&mut self, engine: EngineId, nth: u8, is_loss: bool, has_call: bool) {
        let Some(Assignment { id, attempt, payload, .. }) = self.take_running(engine, nth) else { return };
        let error = if is_loss { lost(engine, attempt) } else { failed(engine, id, attempt) };
        let payload = if has_call {
            Some(payload)
        } else {
            self.drop_call(id, payload);
            None
        };
        self.returns.push_back((engine, HandBack { id, attempt, payload, error: Some(error) }));
    }

    pub(crate) fn return_all(&mut self, engine: EngineId) {
        let tray = std::mem::take(&mut self.sims.get_mut(&engine).expect("the engine is there").tray);
        for assignment in &tray {
            // Of the others, some that were submitted later may already be on another engine.
            let mark = |task: &mut Task| task.is_out_of_turn |= !matches!(task.line, Line::One(_));
            self.model.tasks.entry(assignment.id).and_modify(mark);
        }
        self.hand_back(engine, tray.into_iter().map(unstarted).collect());
    }

    fn return_some(&mut self, engine: EngineId, mask: u8) {
        let sim = self.sims.get_mut(&engine).expect("the engine is there");
        let (back, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut sim.tray).into_iter().enumerate().partition(|(i, _)| mask & (1 << (i % 8)) != 0);
        sim.tray.extend(kept.into_iter().map(|(_, assignment)| assignment));
        for (_, assignment) in back {
            self.model.tasks.entry(assignment.id).and_modify(|task| task.is_out_of_turn = true);
            self.returns.push_back((engine, unstarted(assignment)));
        }
    }

    fn hear_revoke(&mut self) {
        let Some((engine, task)) = self.revocations.pop_front() else { return };
        let Some(sim) = self.sims.get_mut(&engine) else { return };
        if let Some(at) = sim.tray.iter().position(|assignment| assignment.id == task)
            && let Some(assignment) = sim.tray.remove(at)
        {
            // It may be a new task with the id of the one that was cancelled.
            self.model.tasks.entry(task).and_modify(|task| task.is_out_of_turn = true);
            self.returns.push_back((engine, unstarted(assignment)));
        }
    }

    fn hear_returns(&mut self, count: usize) {
        let count = count.min(self.returns.len());
        let Some(&(engine, _)) = self.returns.front() else { return };
        let is_same = |(other, _): &&(EngineId, HandBack)| *other == engine;
        let count = self.returns.iter().take(count).take_while(is_same).count();
        let batch = self.returns.drain(..count).map(|(_, back)| back).collect();
        self.hand_back(engine, batch);
    }

    pub(crate) fn hand_back(&mut self, engine: EngineId, batch: Vec<HandBack>) {
        if batch.is_empty() {
            return;
        }
        let mut effects = Vec::new();
        // Of two reports of one task the last one counts.
        for back in batch.iter().rev() {
            let HandBack { id, attempt, payload, error } = back;
            effects.extend(self.model.on_handed_back(engine, (*id, *attempt), payload.is_some(), error.clone()));
        }
        let orders = self.ledger.on_handed_back(engine, batch);
        self.carry_out(orders, effects);
    }

    pub(crate) fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let Some(settled) = self.lane.pop_front() else { return };
            self.store(settled);
        }
    }

    pub(crate) fn confirm(&mut self, count: usize) {
        let batch: Vec<SettledTask> = self.confirmations.drain(..count.min(self.confirmations.len())).collect();
        let effects = batch.iter().flat_map(|settled| self.model.on_settled(settled)).collect();
        let orders = self.ledger.on_settled(&batch);
        self.carry_out(orders, effects);
    }

    fn lie(&mut self, lie: Lie, engine: u8, task: u8, attempt: u32) {
        let engines: Vec<EngineId> = self.sims.keys().chain(&self.gone).copied().collect();
        let (Some(engine), Some(id)) = (choose(&engines, engine), choose(&self.known_ids(), task)) else { return };
        let attempt = Attempt(attempt);
        self.has_liars = true;
        let back = |payload, error| HandBack { id, attempt, payload, error };
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

    /// An engine reports an outcome of a task that it need not have.
    pub(crate) fn report_untrue(&mut self, id: TaskId, engine: EngineId, attempt: Attempt) {
        self.has_liars = true;
        self.lane.push_back(outcome(id, Some(engine), attempt, None));
    }

    /// Lets everything that is under way arrive, and every engine finish, until nothing is left.
    pub(crate) fn run_to_the_end(&mut self) {
        for _ in 0..10_000 {
            if self.model.tasks.is_empty() && self.returns.is_empty() && self.lane.is_empty() {
                self.confirm(usize::MAX);
                return;
            }
            if self.model.engines.is_empty() {
                self.join(1, true);
            }
            self.hear_revoke();
            self.hear_returns(usize::MAX);
            let engines: Vec<EngineId> = self.sims.keys().copied().collect();
            engines.into_iter().for_each(|engine| self.finish(engine, 0));
            self.publish(usize::MAX);
            self.confirm(usize::MAX);
        }
        panic!("these never settle: {:?}", self.model.tasks);
    }

    /// All engines go, and what is left is cancelled.
    pub(crate) fn tear_down(&mut self) {
        let engines: Vec<EngineId> = self.sims.keys().copied().collect();
        engines.into_iter().for_each(|engine| self.leave(engine, "the end"));
        self.cancel_all();
        self.hear_returns(usize::MAX);
        while !self.returns.is_empty() {
            self.hear_returns(usize::MAX);
        }
        self.publish(usize::MAX);
        self.confirm(usize::MAX);
    }

    /// Checks that nothing is left of all that happened.
    pub(crate) fn check_nothing_left(&mut self) {
        assert!(self.unsettled.is_empty(), "never settled: {:?}", self.unsettled);
        assert!(self.model.tasks.is_empty(), "still in the ledger: {:?}", self.model.tasks);
        let status = self.ledger.status();
        assert_eq!((status.pending, status.queued), (0, 0));
        assert!(status.engines.iter().all(|engine| engine.outstanding == 0), "{status:?}");
        assert_eq!(self.ledger.next_deadline(), None);
        assert_eq!(status.settled, self.accepted, "tasks settled against tasks accepted");
        for sim in self.sims.values_mut() {
            sim.tray.clear();
            sim.running.clear();
        }
        self.calls_dropped += take_dropped().len();
        assert_eq!(self.calls_dropped, self.calls_made, "calls dropped against calls made");
    }

    /// Does what the ledger ordered, and compares with what the model foretold.
    fn carry_out(&mut self, orders: Vec<Order>, mut foretold: Vec<Effect>) {
        assert_eq!(take_dropped(), [], "the ledger dropped calls itself");
        for order in orders {
            let effect = match order {
                Order::Run { engine, assignment } => {
                    let Assignment { id, attempt, may_retry, .. } = assignment;
                    self.model.on_run(engine, id, attempt, may_retry);
                    self.runs.push((engine, id));
                    self.sims.get_mut(&engine).expect("the engine is there").tray.push_back(assignment);
                    continue;
                }
                Order::Revoke { engine, task } => {
                    self.revocations.push_back((engine, task));
                    Effect::Revoke(engine, task)
                }
                Order::Settle { task, attempt, error } => {
                    self.store(outcome(task, None, attempt, None));
                    Effect::Settle(task, attempt, error)
                }
                Order::Expect { task, attempt } => {
                    if let Some(expected) = self.unsettled.get_mut(&task) {
                        *expected = attempt;
                    }
                    Effect::Expect(task, attempt)
                }
                Order::Discard(payload) => {
                    drop(payload);
                    self.calls_dropped += 1;
                    let dropped = take_dropped();
                    assert_eq!(dropped.len(), 1);
                    Effect::Discard(dropped[0])
                }
            };
            let at = foretold.iter().position(|other| *other == effect);
            foretold.remove(at.unwrap_or_else(|| panic!("{effect:?} is not among the foretold {foretold:?}")));
            self.effects.push(effect);
        }
        assert_eq!(foretold, [], "foretold and not ordered");
        self.check();
    }

    /// The store: the first outcome of a task wins.
    fn store(&mut self, outcome: SettledTask) {
        let expected = self.unsettled.get(&outcome.id).copied();
        let is_good = expected.is_some_and(|expected| outcome.engine.is_none() || outcome.attempt >= expected);
        if is_good {
            self.unsettled.remove(&outcome.id);
        }
        let verdict = if is_good { Verdict::First } else { Verdict::Late };
        self.confirmations.push_back(SettledTask { verdict, ..outcome });
    }

    fn check(&mut self) {
        self.model.on_event_over();
        assert_eq!(self.ledger.status(), self.model.status());
        assert_eq!(self.ledger.pending(), self.model.status().pending);
        assert_eq!(self.ledger.next_deadline(), self.model.next_deadline());
        if self.has_liars {
            return;
        }
        for (&id, sim) in &self.sims {
            let under_way = self.lane.iter().chain(&self.confirmations).filter(|outcome| outcome.engine == Some(id));
            let back = self.returns.iter().filter(|(engine, _)| *engine == id);
            let has = sim.tray.len() + sim.running.len() + under_way.count() + back.count();
            assert_eq!(self.model.outstanding(id) as usize, has, "what engine {id} has, and what it is held to have");
        }
    }

    fn take_running(&mut self, engine: EngineId, nth: u8) -> Option<Assignment> {
        if self.sims[&engine].running.is_empty() {
            self.start(engine);
        }
        let running = &mut self.sims.get_mut(&engine).expect("the engine is there").running;
        (!running.is_empty()).then(|| running.remove(usize::from(nth) % running.len()))
    }

    fn call(&mut self, task: TaskId, kind: &'static TaskKind) -> Payload {
        self.calls_made += 1;
        Payload::Typed(Box::new(Call { task, kind }))
    }

    fn drop_call(&mut self, id: TaskId, payload: Payload) {
        drop(payload);
        self.calls_dropped += 1;
        assert_eq!(take_dropped(), [id], "an engine gets a task's own call");
    }

    fn with_engine(&mut self, engine: u8, act: impl FnOnce(&mut Self, EngineId)) {
        let engines: Vec<EngineId> = self.sims.keys().copied().collect();
        if let Some(engine) = choose(&engines, engine) {
            act(self, engine);
        }
    }

    /// Tasks in the ledger, and a few that were there once.
    fn known_ids(&self) -> Vec<TaskId> {
        let past = (0..self.next_seq).rev().take(4).map(|seq| TaskId { client: 7, seq });
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

/// A task that asks for nothing special.
pub(crate) fn wish(kind: &'static TaskKind, target: Target) -> Wish {
    Wish { kind, target, retries: Retries::default(), deadline: None }
}

pub(crate) fn lost(engine: EngineId, attempt: Attempt) -> TaskError {
    TaskError::EngineLost { engine, attempt, cause: "its process died".into() }
}

pub(crate) fn failed(engine: EngineId, task: TaskId, attempt: Attempt) -> TaskError {
    let place = Box::new(Where { task, name: "task", engine, attempt });
    TaskError::Failed { place, text: "no luck".into() }
}

pub(crate) fn cancelled() -> TaskError {
    TaskError::Cancelled { reason: "no need".into() }
}

fn outcome(id: TaskId, engine: Option<EngineId>, attempt: Attempt, ran: Option<Duration>) -> SettledTask {
    // The verdict is the store's to give.
    SettledTask { id, engine, attempt, ran, verdict: Verdict::Late }
}

fn unstarted(assignment: Assignment) -> HandBack {
    let Assignment { id, attempt, payload, .. } = assignment;
    HandBack { id, attempt, payload: Some(payload), error: None }
}

fn kind_of(payload: &Payload) -> &'static TaskKind {
    match payload {
        Payload::Typed(task) => task.kind(),
        Payload::Wire(_) => unreachable!("these tests make no encoded calls"),
    }
}

fn choose<T: Clone>(among: &[T], nth: u8) -> Option<T> {
    (!among.is_empty()).then(|| among[usize::from(nth) % among.len()].clone())
}
