//! What the ledger is to do, written as plainly as can be: a table of tasks that is searched from end to end.
//!
//! The model foretells every order but `Run`. Where a task runs is the ledger's choice; the model judges it.

mod cast;
mod judge;
pub(crate) mod script;
mod world;

pub(crate) use cast::{CLOSURE, KINDS, LONG, SHORT, TINY, cancelled, lost, wish};
pub(crate) use world::World;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use callboard::ledger::{EngineStatus, QueueStatus, SettledTask};
use callboard::task::{Attempt, EngineId, Moment, Retries, Target, TaskId, TaskKind};
use callboard::{Limits, TaskError};

/// Every order but `Run`. A discarded call is told by the task that it was for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Revoke(EngineId, TaskId),
    Settle(TaskId, Attempt, TaskError),
    Expect(TaskId, Attempt),
    Discard(TaskId),
}

/// The queue that a task belongs to.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Any,
    Local,
    One(EngineId),
    Of(Arc<[EngineId]>),
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Queued,
    /// Sent to this engine, which has not returned it.
    At(EngineId),
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) kind: &'static TaskKind,
    pub(crate) line: Line,
    pub(crate) place: Place,
    retries: Retries,
    used: Retries,
    pub(crate) starts: u32,
    /// An outcome was ordered: whatever comes, there is no other attempt.
    is_ended: bool,
    /// The store confirmed the first outcome.
    is_confirmed: bool,
    due: Option<(Moment, Duration)>,
    cost_ns: u64,
    /// Its place in the order of all submissions.
    pub(crate) nth: u64,
    /// It went back to its queue in a way that need not keep the order of submission.
    pub(crate) is_out_of_turn: bool,
}

#[derive(Debug)]
pub(crate) struct Engine {
    slots: u32,
    settled: u64,
    pub(crate) is_local: bool,
    /// Something that it may run waits, and did when it last got a chance to take it.
    is_draining: bool,
    /// Why it is to go, if it is.
    retiring: Option<String>,
    /// It was told to go, having nothing left.
    is_dismissed: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) engines: BTreeMap<EngineId, Engine>,
    /// What is known of each kind: in these tests all calls of one kind take the same time.
    measured_ns: BTreeMap<u64, u64>,
    /// Clients that do not take what their tasks return.
    pub(crate) held: BTreeSet<u64>,
    /// Whose a view is, by its address: of whoever aimed by it first.
    owners: BTreeMap<usize, u64>,
    /// Engines that returned something, or came, in the present event.
    refilled: BTreeSet<EngineId>,
    backlog_ns: u64,
    outstanding_max: u32,
    settled: u64,
    late: u64,
    submitted: u64,
}

/// What is asked for in one submission.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) kind: &'static TaskKind,
    pub(crate) target: Target,
    pub(crate) retries: Retries,
    pub(crate) deadline: Option<Duration>,
}

impl Model {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            tasks: BTreeMap::new(),
            engines: BTreeMap::new(),
            measured_ns: BTreeMap::new(),
            held: BTreeSet::new(),
            owners: BTreeMap::new(),
            refilled: BTreeSet::new(),
            backlog_ns: limits.engine_backlog_us.saturating_mul(1_000).min(u32::MAX.into()),
            outstanding_max: limits.engine_outstanding_max,
            settled: 0,
            late: 0,
            submitted: 0,
        }
    }

    pub(crate) fn on_join(&mut self, id: EngineId, slots: u32, is_local: bool) {
        let is_new = self
            .engines
            .insert(id, Engine { slots, is_local, is_draining: false, retiring: None, is_dismissed: false, settled: 0 })
            .is_none();
        assert!(is_new, "engine {id} has an id that was given before");
        self.refilled.insert(id);
    }

    pub(crate) fn on_leave(&mut self, gone: EngineId, cause: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.engines.remove(&gone).is_none() {
            return effects;
        }
        for id in self.ids() {
            let task = &self.tasks[&id];
            let is_with_it = task.place == Place::At(gone);
            let is_stranded = task.place == Place::Queued && !self.has_a_future(&task.line);
            if !is_with_it && !is_stranded {
                continue;
            }
            let attempt = Attempt(task.starts);
            let is_over = task.is_ended || task.is_confirmed;
            self.set_place(id, Place::Nowhere);
            if is_over {
                self.forget_if_over(id);
                continue;
            }
            effects.extend(is_stranded.then_some(Effect::Discard(id)));
            effects.push(self.end(id, TaskError::EngineLost { engine: gone, attempt, cause: cause.into() }));
        }
        effects
    }

    /// An engine is to go. What waits for it alone is lost; the rest is its own to hand back.
    pub(crate) fn on_retire(&mut self, engine: EngineId, cause: &str) -> Vec<Effect> {
        let Some(retiring) = self.engines.get_mut(&engine) else { return Vec::new() };
        retiring.retiring = Some(cause.into());
        self.run_down(engine)
    }

    pub(crate) fn is_retiring(&self, engine: EngineId) -> bool {
        self.engines.get(&engine).is_some_and(|engine| engine.retiring.is_some())
    }

    /// What waits for an engine that is to go, and for no other, is lost.
    pub(crate) fn run_down(&mut self, engine: EngineId) -> Vec<Effect> {
        let Some(cause) = self.engines.get(&engine).and_then(|engine| engine.retiring.clone()) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        for id in self.ids() {
            let task = &self.tasks[&id];
            if task.place != Place::Queued || !matches!(task.line, Line::One(one) if one == engine) {
                continue;
            }
            let attempt = Attempt(task.starts);
            self.set_place(id, Place::Nowhere);
            effects.push(Effect::Discard(id));
            effects.push(self.end(id, TaskError::EngineLost { engine, attempt, cause: (*cause).into() }));
        }
        effects
    }

    pub(crate) fn on_submit(&mut self, now: Moment, id: TaskId, wish: &Wish) -> Vec<Effect> {
        if self.tasks.contains_key(&id) {
            return vec![Effect::Discard(id)];
        }
        if let Target::Of(engines) = &wish.target {
            self.owners.entry(engines.as_ptr() as usize).or_insert(id.client);
        }
        let line = self.line_for(wish);
        self.submitted += 1;
        let task = Task {
            kind: wish.kind,
            line: line.clone().unwrap_or(Line::Refused),
            place: Place::Queued,
            retries: wish.retries,
            used: Retries::default(),
            starts: 0,
            is_ended: false,
            is_confirmed: false,
            due: wish.deadline.map(|deadline| (now.after(deadline), deadline)),
            cost_ns: 0,
            nth: self.submitted,
            is_out_of_turn: false,
        };
        self.tasks.insert(id, task);
        match line {
            Ok(_) => Vec::new(),
            Err(error) => self.give_up(id, error),
        }
    }

    /// Somebody does not want the task any more.
    pub(crate) fn give_up(&mut self, id: TaskId, error: TaskError) -> Vec<Effect> {
        let Some(task) = self.tasks.get(&id) else { return Vec::new() };
        if task.is_ended || task.is_confirmed {
            return Vec::new();
        }
        let with_the_call = match task.place {
            Place::Queued => Some(Effect::Discard(id)),
            Place::At(engine) => Some(Effect::Revoke(engine, id)),
            Place::Nowhere => None,
        };
        if task.place == Place::Queued {
            self.set_place(id, Place::Nowhere);
        }
        with_the_call.into_iter().chain([self.end(id, error)]).collect()
    }

    pub(crate) fn on_tick(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        for id in self.ids() {
            let task = self.task_mut(id);
            if let Some((_, deadline)) = task.due.take_if(|(due, _)| *due <= now) {
                effects.extend(self.give_up(id, TaskError::TimedOut { deadline }));
            }
        }
        effects
    }

    /// An engine gives a task back, with or without its call, started (then with an error) or not.
    pub(crate) fn on_handed_back(
        &mut self,
        engine: EngineId,
        (id, attempt): (TaskId, Attempt),
        has_call: bool,
        error: Option<TaskError>,
    ) -> Vec<Effect> {
        let discard = || has_call.then_some(Effect::Discard(id)).into_iter().collect();
        self.refilled.insert(engine);
        if !self.has(engine, id, attempt) {
            return discard();
        }
        self.set_place(id, Place::Nowhere);
        let task = self.task_mut(id);
        if task.is_ended || task.is_confirmed {
            self.forget_if_over(id);
            return discard();
        }
        let Some(error) = error else {
            if !has_call {
                let cause = "it lost the call".into();
                return vec![self.end(id, TaskError::EngineLost { engine, attempt, cause })];
            }
            task.starts -= 1;
            self.set_place(id, Place::Queued);
            return Vec::new();
        };
        let is_loss = matches!(error, TaskError::EngineLost { .. });
        let may = if is_loss { task.used.losses < task.retries.losses } else { task.used.errors < task.retries.errors };
        if !has_call || !may || !task.has_attempts_left() {
            return discard().into_iter().chain([self.end(id, error)]).collect();
        }
        *(if is_loss { &mut task.used.losses } else { &mut task.used.errors }) += 1;
        task.is_out_of_turn = true;
        let next = Attempt(task.starts + 1);
        self.set_place(id, Place::Queued);
        vec![Effect::Expect(id, next)]
    }

    pub(crate) fn on_settled(&mut self, settled: &SettledTask) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (id, is_first) = (settled.id, settled.won == 1);
        self.late += u64::from(!is_first);
        if let Some(engine) = settled.engine.and_then(|engine| self.engines.get_mut(&engine)) {
            engine.settled += u64::from(is_first);
        }
        let Some(task) = self.tasks.get(&id) else { return effects };
        let (kind, is_over) = (task.kind, task.is_ended || task.is_confirmed);
        let from = settled.engine.filter(|&engine| self.has(engine, id, settled.attempt));
        // A task that runs and was not settled before has no late outcome: that one is another task's, which
        // had the same id.
        if let Some(engine) = from.filter(|_| is_first || is_over) {
            self.refilled.insert(engine);
            self.set_place(id, Place::Nowhere);
            if let Some(ran) = settled.ran {
                self.measured_ns.insert(kind.key, ran.as_nanos() as u64);
            }
        }
        if is_first {
            self.task_mut(id).is_confirmed = true;
            self.settled += 1;
            if self.tasks[&id].place == Place::Queued {
                self.set_place(id, Place::Nowhere);
                effects.push(Effect::Discard(id));
            }
        }
        self.forget_if_over(id);
        effects
    }

    /// The one engine that may run what is in this line, if there is no other.
    fn only_engine_of(&self, line: &Line) -> Option<EngineId> {
        match line {
            Line::One(one) => Some(*one),
            Line::Of(engines) => {
                let mut there = engines.iter().filter(|engine| self.engines.contains_key(engine));
                let first = there.next().copied();
                first.filter(|first| there.all(|other| other == first))
            }
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> QueueStatus {
        let queued = |line: &dyn Fn(&Line) -> bool| {
            self.tasks.values().filter(|task| task.place == Place::Queued && line(&task.line)).count()
        };
        let engines = self.engines.iter().map(|(&id, engine)| EngineStatus {
            is_local: engine.is_local,
            id,
            slots: engine.slots,
            outstanding: self.outstanding(id),
            queued: queued(&|line| self.only_engine_of(line) == Some(id)),
            settled: engine.settled,
            up: Duration::ZERO,
        });
        QueueStatus {
            pending: self.tasks.values().filter(|task| !task.is_confirmed).count(),
            queued: queued(&|_| true),
            engines: engines.collect(),
            settled: self.settled,
            late_outcomes: self.late,
            ..QueueStatus::default()
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.tasks.values().filter_map(|task| task.due).map(|(due, _)| due).min()
    }

    pub(crate) fn outstanding(&self, engine: EngineId) -> u32 {
        self.tasks.values().filter(|task| task.place == Place::At(engine)).count() as u32
    }

    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.tasks.keys().copied().collect()
    }

    fn line_for(&self, wish: &Wish) -> Result<Line, TaskError> {
        let must_stay = !wish.kind.portable;
        let gone =
            |engine| TaskError::EngineLost { engine, attempt: Attempt(0), cause: "it has left the cluster".into() };
        let line = match &wish.target {
            Target::Any if must_stay => Line::Local,
            Target::Any => Line::Any,
            Target::One(engine) => Line::One(*engine),
            Target::Of(engines) if engines.is_empty() => return Err(TaskError::NoEngines),
            Target::Of(engines) => Line::Of(engines.clone()),
        };
        let is_going = matches!(line, Line::One(engine) if self.is_retiring(engine));
        if is_going || !self.has_a_future(&line) {
            return Err(match &line {
                Line::One(engine) => gone(*engine),
                Line::Of(engines) => gone(engines[0]),
                _ => TaskError::NotPortable,
            });
        }
        let is_abroad = |(id, engine): (&EngineId, &Engine)| self.may_run(&line, *id) && !engine.is_local;
        if must_stay && self.engines.iter().any(is_abroad) {
            return Err(TaskError::NotPortable);
        }
        Ok(line)
    }

    fn may_run(&self, line: &Line, engine: EngineId) -> bool {
        match line {
            Line::Any => true,
            Line::Local => self.engines[&engine].is_local,
            Line::One(one) => *one == engine,
            Line::Of(engines) => engines.contains(&engine),
            Line::Refused => false,
        }
    }

    /// Whether a task that waits is to wait on, because its client takes nothing.
    fn is_held(&self, id: TaskId) -> bool {
        match &self.tasks[&id].line {
            Line::Any => self.held.contains(&id.client),
            Line::Of(engines) => self.held.contains(&self.owners[&(engines.as_ptr() as usize)]),
            Line::One(_) => self.held.contains(&id.client),
            Line::Local | Line::Refused => false,
        }
    }

    /// Whether the tasks of a queue may wait: any engine may yet come, one that is gone does not come back.
    fn has_a_future(&self, line: &Line) -> bool {
        matches!(line, Line::Any) || self.engines.keys().any(|&engine| self.may_run(line, engine))
    }

    /// Whether an engine has this attempt, as far as the ledger has heard.
    fn has(&self, engine: EngineId, id: TaskId, attempt: Attempt) -> bool {
        self.tasks.get(&id).is_some_and(|task| task.place == Place::At(engine) && task.starts == attempt.0)
    }

    fn cost_ns(&self, kind: &TaskKind) -> u64 {
        self.measured_ns.get(&kind.key).copied().unwrap_or(self.backlog_ns)
    }

    fn backlog_ns_of(&self, engine: EngineId) -> u64 {
        self.tasks.values().filter(|task| task.place == Place::At(engine)).map(|task| task.cost_ns).sum()
    }

    fn end(&mut self, id: TaskId, error: TaskError) -> Effect {
        let task = self.task_mut(id);
        task.is_ended = true;
        Effect::Settle(id, Attempt(task.starts), error)
    }

    fn forget_if_over(&mut self, id: TaskId) {
        if self.tasks[&id].is_confirmed && self.tasks[&id].place == Place::Nowhere {
            self.tasks.remove(&id);
        }
    }

    fn set_place(&mut self, id: TaskId, place: Place) {
        self.task_mut(id).place = place;
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(&id).expect("the task is in the table")
    }
}

impl Task {
    fn has_attempts_left(&self) -> bool {
        self.used.errors + self.used.losses < self.retries.errors.max(self.retries.losses)
    }
}
