//! Ending a task by force: its engine's process is killed, where it is known that this is what it runs.

use std::time::Duration;

use actix::prelude::*;

use super::fate::Begun;
use super::gateway::Gateway;
use crate::task::TaskId;

/// How long after a look whether a task runs that is to be ended the next one is.
const FORCE_LOOK: Duration = Duration::from_millis(10);

impl Gateway {
    /// Ends tasks that run, with the engine's process. Those that have not begun are given up as any other.
    pub(super) fn end_by_force(&mut self, mut tasks: Vec<TaskId>, ctx: &mut Context<Self>) {
        tasks.retain(|task| self.sent.has(*task));
        let begun = self.parts.process.begun();
        if begun == Begun::Unknown {
            // Of an engine elsewhere nobody knows whether it is at one of them.
            return;
        }
        let last = self.sent.last_begun(begun);
        if let Some(running) = last.filter(|(task, _)| tasks.contains(task)) {
            *self.parts.fate.killed_for.lock() = Some(running);
            self.parts.process.kill();
        } else if !tasks.is_empty() {
            // They were revoked, and one may have begun before the engine heard of it. Items that were sent with others are not
            // waited for: they would cost these their engine.
            tasks.retain(|task| self.sent.is_alone(*task));
            ctx.run_later(FORCE_LOOK, |gateway, ctx| gateway.end_by_force(tasks, ctx));
        }
    }
}
