//! One attempt: the only place where a task's own code is called. What it does becomes an outcome.
//!
//! Engines come here with what the scheduler sent them, executors with what their own threads took.

use crate::catch::user_code;
use crate::error::{Place, TaskError};
use crate::task::{ErasedTask, Outcome, TaskContext};

/// Runs a task here and now. A panic is an outcome as any other.
pub(crate) fn make(task: Box<dyn ErasedTask>, cx: &TaskContext) -> Outcome {
    let name = task.kind().short_name();
    let place = || Box::new(Place { task: cx.task, name, engine: cx.engine, attempt: cx.attempt });
    match user_code(move || task.run(cx)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(TaskError::Failed { place: place(), text: failure.into_text().into() }),
        Err(message) => Err(TaskError::Panicked { place: place(), message }),
    }
}
