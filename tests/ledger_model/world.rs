//! Everybody around the ledger: callers, engines, and the result store, as `src/actors` plays them.
//!
//! The scheduler's own messages to the store arrive at once, as they do on one arbiter. What engines report
//! waits in a lane until the store takes it; what the store confirms waits until the ledger hears it; what an
//! engine hands back is under way for a while. So each pair of events comes in both orders.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use callboard::Limits;
use callboard::ledger::{Assignment, EngineOffer, HandBack, Ledger, Order, Request, SettledTask};
use callboard::task::{Attempt, EngineId, Extras, Moment, Payload, Span, TaskId, TaskKind};

use super::cast::{Call, cancelled, failed, kind_of, lost, outcome, take_dropped, time_of};
use super::{Effect, Line, Model, Task, Wish};

/// An engine, which starts what it is sent in that order.
#[derive(Debug)]
pub(super) struct Sim {
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
    pub(super) sims: BTreeMap<EngineId, Sim>,
    pub(super) gone: Vec<EngineId>,
    pub(super) views: Vec<Arc<[EngineId]>>,
    /// The store: unsettled tasks, and the attempt that is expected.
    unsettled: BTreeMap<TaskId, Attempt>,
    lane: VecDeque<SettledTask>,
    confirmations: VecDeque<SettledTask>,
    returns: VecDeque<(EngineId, HandBack)>,
    revocations: VecDeque<(EngineId, TaskId)>,
    /// Engines that are to hand back what they have not started.
    recalls: VecDeque<EngineId>,
    dismissals: VecDeque<EngineId>,
    /// A task's id stands for one call, however often it is submitted.
    pub(super) kinds: BTreeMap<TaskId, &'static TaskKind>,
    /// `Run` orders since the test last took them.
    pub(crate) runs: Vec<(EngineId, TaskId)>,
    /// All other orders since then.
    pub(crate) effects: Vec<Effect>,
    /// The tasks that were submitted, in order.
    pub(super) submitted: Vec<TaskId>,
    accepted: u64,
    calls_made: usize,
    calls_dropped: usize,
    /// Whether some engine lies. Then what the ledger believes need not be so.
    pub(super) has_liars: bool,
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
            recalls: VecDeque::new(),
            dismissals: VecDeque::new(),
            kinds: BTreeMap::new(),
            runs: Vec::new(),
            effects: Vec::new(),
            submitted: Vec::new(),
            accepted: 0,
            calls_made: 0,
            calls_dropped: 0,
            has_liars: false,
        }
    }

    pub(crate) fn join(&mut self, slots: u32, is_local: bool) -> EngineId {
        let (id, orders) = self.ledger.on_join(EngineOffer { slots, is_local, tasks: None });
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

    /// The engine is to go, in good order.
    pub(crate) fn retire(&mut self, engine: EngineId) {
        let orders = self.ledger.on_retire(engine, "it is not needed");
        let effects = self.model.on_retire(engine, "it is not needed");
        self.carry_out(orders, effects);
    }

    /// An engine hears that it is to hand back what it has not started.
    pub(crate) fn hold(&mut self, client: u64) {
        self.ledger.on_held(client);
        self.model.held.insert(client);
        self.check();
    }

    pub(crate) fn release(&mut self, client: u64) {
        self.model.held.remove(&client);
        let orders = self.ledger.on_released(client);
        self.carry_out(orders, Vec::new());
    }

    pub(super) fn hear_recall(&mut self) {
        let Some(engine) = self.recalls.pop_front() else { return };
        if self.sims.contains_key(&engine) {
            self.return_some(engine, u8::MAX);
        }
    }

    /// An engine hears that it may go, and goes.
    pub(crate) fn hear_dismissal(&mut self) {
        let Some(engine) = self.dismissals.pop_front() else { return };
        let Some(sim) = self.sims.get(&engine) else { return };
        let is_idle = sim.tray.is_empty() && sim.running.is_empty();
        assert!(is_idle || self.has_liars, "engine {engine} goes with what it has: {sim:?}");
        self.leave(engine, "it is not needed");
    }

    pub(crate) fn submit(&mut self, wishes: Vec<Wish>) -> Vec<TaskId> {
        self.submit_of(7, wishes)
    }

    pub(crate) fn submit_of(&mut self, client: u64, wishes: Vec<Wish>) -> Vec<TaskId> {
        let seqs = self.submitted.len() as u64..;
        let batch: Vec<(TaskId, Wish)> = seqs.zip(wishes).map(|(seq, wish)| (TaskId { client, seq }, wish)).collect();
        let ids: Vec<TaskId> = batch.iter().map(|(id, _)| *id).collect();
        self.submitted.extend(&ids);
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
        let spans: Vec<Span> = tasks.iter().map(|&task| task.into()).collect();
        let orders = self.ledger.on_cancel(&spans, "no need");
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
                // What may run anywhere is in turn with that of other clients.
                Line::Any => format!("any of {}", assignment.id.client),
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
        self.returns
            .push_back((engine, HandBack { id, count: 1, attempt, payload, error: Some(error), printed: None }));
    }

    pub(crate) fn return_all(&mut self, engine: EngineId) {
        let tray = std::mem::take(&mut self.sims.get_mut(&engine).expect("the engine is there").tray);
        for assignment in &tray {
            // Of the others, some that were submitted later may already be on another engine.
            let mark = |task: &mut Task| task.is_out_of_turn |= !matches!(task.line, Line::One(_));
            self.model.tasks.entry(assignment.id).and_modify(mark);
        }
        self.hand_back(engine, tray.into_iter().map(HandBack::unstarted).collect());
    }

    pub(super) fn return_some(&mut self, engine: EngineId, mask: u8) {
        let sim = self.sims.get_mut(&engine).expect("the engine is there");
        let (back, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut sim.tray).into_iter().enumerate().partition(|(i, _)| mask & (1 << (i % 8)) != 0);
        sim.tray.extend(kept.into_iter().map(|(_, assignment)| assignment));
        for (_, assignment) in back {
            self.model.tasks.entry(assignment.id).and_modify(|task| task.is_out_of_turn = true);
            self.returns.push_back((engine, HandBack::unstarted(assignment)));
        }
    }

    pub(super) fn hear_revoke(&mut self) {
        let Some((engine, task)) = self.revocations.pop_front() else { return };
        let Some(sim) = self.sims.get_mut(&engine) else { return };
        if let Some(at) = sim.tray.iter().position(|assignment| assignment.id == task)
            && let Some(assignment) = sim.tray.remove(at)
        {
            // It may be a new task with the id of the one that was cancelled.
            self.model.tasks.entry(task).and_modify(|task| task.is_out_of_turn = true);
            self.returns.push_back((engine, HandBack::unstarted(assignment)));
        }
    }

    pub(crate) fn hear_returns(&mut self, count: usize) {
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
            let HandBack { id, attempt, payload, error, .. } = back;
            effects.extend(self.model.on_handed_back(engine, (*id, *attempt), payload.is_some(), error.clone()));
        }
        effects.extend(self.model.run_down(engine));
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

    /// An engine reports an outcome of a task that it need not have.
    pub(crate) fn report_untrue(&mut self, id: TaskId, engine: EngineId, attempt: Attempt) {
        self.has_liars = true;
        self.lane.push_back(outcome(id, Some(engine), attempt, None));
    }

    /// Lets everything that is under way arrive, and every engine finish, until nothing is left.
    pub(crate) fn run_to_the_end(&mut self) {
        self.model.held.clone().into_iter().for_each(|client| self.release(client));
        for _ in 0..10_000 {
            if self.model.tasks.is_empty() && self.returns.is_empty() && self.lane.is_empty() {
                self.confirm(usize::MAX);
                return;
            }
            if self.model.engines.keys().all(|&engine| self.model.is_retiring(engine)) {
                self.join(1, true);
            }
            self.hear_recall();
            self.hear_dismissal();
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
                Order::Settle { tasks: Span { first: task, count: 1 }, attempt, error, .. } => {
                    self.store(outcome(task, None, attempt, None));
                    Effect::Settle(task, attempt, error)
                }
                Order::Expect { tasks: Span { first: task, count: 1 }, attempt } => {
                    if let Some(expected) = self.unsettled.get_mut(&task) {
                        *expected = attempt;
                    }
                    Effect::Expect(task, attempt)
                }
                Order::Recall { engine } => {
                    assert!(self.model.is_retiring(engine), "nobody looks");
                    self.recalls.push_back(engine);
                    continue;
                }
                Order::Dismiss { engine, .. } => {
                    self.model.on_dismiss(engine);
                    self.dismissals.push_back(engine);
                    continue;
                }
                Order::Settle { .. } | Order::Expect { .. } => unreachable!("each task is alone"),
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
        self.confirmations.push_back(SettledTask { won: u32::from(is_good), ..outcome });
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

    pub(super) fn call(&mut self, task: TaskId, kind: &'static TaskKind) -> Payload {
        self.calls_made += 1;
        Payload::Typed(Box::new(Call { task, kind }))
    }

    fn drop_call(&mut self, id: TaskId, payload: Payload) {
        drop(payload);
        self.calls_dropped += 1;
        assert_eq!(take_dropped(), [id], "an engine gets a task's own call");
    }
}
