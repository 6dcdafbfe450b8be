//! The model's judgement of what is the ledger's choice: where a task runs, and what is left undone.

use callboard::task::{Attempt, EngineId, TaskId};

use super::{Line, Model, Place, Task};

impl Model {
    /// Judges where the ledger sends a task.
    pub(crate) fn on_run(&mut self, to: EngineId, id: TaskId, attempt: Attempt, may_retry: bool) {
        let cost_ns = self.cost_ns(self.tasks[&id].kind);
        let (outstanding, backlog_ns) = (self.outstanding(to), self.backlog_ns_of(to));
        let engine = self.engines.get(&to).expect("a task goes to an engine that is there");
        let task = &self.tasks[&id];
        assert_eq!(task.place, Place::Queued, "{id} is sent while it is elsewhere");
        assert!(!self.is_held(id), "{id} is sent while its client takes nothing");
        assert!(self.may_run(&task.line, to), "{id} of {:?} is sent to engine {to}", task.line);
        assert!(task.kind.portable || engine.is_local, "a closure leaves the process");
        assert_eq!(attempt.0, task.starts + 1, "attempts of {id} are counted by starts");
        assert!(attempt.0 <= 1 + u32::from(task.retries.errors.max(task.retries.losses)), "{id} starts too often");
        let may = task.used.errors < task.retries.errors && task.has_attempts_left();
        assert_eq!(may_retry, may, "whether {id} may be handed back after an error");

        assert!(engine.retiring.is_none(), "{id} is sent to engine {to}, which is to go");
        let is_idle = outstanding < engine.slots;
        let is_short = cost_ns < self.backlog_ns;
        let has_room =
            outstanding < self.outstanding_max && backlog_ns + cost_ns <= self.backlog_ns * u64::from(engine.slots);
        assert!(is_idle || is_short, "{id} is unknown or long, and engine {to} has no idle slot");
        assert!(is_idle || has_room, "engine {to} has {outstanding} tasks of {backlog_ns} ns, and gets {cost_ns} ns");
        let gets_its_turn = self.refilled.contains(&to) || !engine.is_draining || is_idle;
        assert!(gets_its_turn, "engine {to} gets {id} past a task that waits for an idle slot");

        let task = self.task_mut(id);
        (task.starts, task.place, task.cost_ns) = (attempt.0, Place::At(to), cost_ns);
    }

    /// Judges whether an engine may go.
    pub(crate) fn on_dismiss(&mut self, engine: EngineId) {
        assert_eq!(self.outstanding(engine), 0, "engine {engine} is dismissed with tasks");
        assert!(self.is_retiring(engine), "engine {engine} is dismissed unasked");
        self.engines.entry(engine).and_modify(|engine| engine.is_dismissed = true);
    }

    /// Judges what the ledger left undone after an event.
    pub(crate) fn on_event_over(&mut self) {
        let engines: Vec<EngineId> = self.engines.keys().copied().collect();
        for engine in engines {
            if self.is_retiring(engine) {
                let is_due = self.outstanding(engine) == 0;
                assert_eq!(self.engines[&engine].is_dismissed, is_due, "whether engine {engine} was dismissed");
                continue;
            }
            let is_bound = |task: &Task| matches!(task.line, Line::One(_));
            let waits = |task: &Task| task.place == Place::Queued && self.may_run(&task.line, engine);
            // What is bound to an engine waits for what is before it, which may be held.
            let stands = self.tasks.iter().any(|(&id, task)| waits(task) && is_bound(task) && self.is_held(id));
            let may_start = |id, task: &Task| waits(task) && !self.is_held(id) && !(stands && is_bound(task));
            let waiting = self.tasks.iter().find(|&(id, task)| may_start(*id, task));
            let is_idle = self.outstanding(engine) < self.engines[&engine].slots;
            assert!(!is_idle || waiting.is_none(), "engine {engine} is idle while {:?} waits", waiting.map(|w| w.0));
            let (is_waited_for, was_refilled) = (waiting.is_some(), self.refilled.contains(&engine));
            let engine = self.engines.get_mut(&engine).expect("it was just found");
            engine.is_draining = is_waited_for && (was_refilled || engine.is_draining);
        }
        self.refilled.clear();
    }
}
