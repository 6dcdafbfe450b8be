//! One attempt: the only place where a task's own code is called. What it does becomes an outcome.
//!
//! Engines come here with what the scheduler sent them, executors with what their own threads took.

use crate::catch::user_code;
use crate::error::{Place, TaskError};
use crate::task::{ChunkRun, ErasedTask, ItemEvents, Outcome, TaskContext, TaskFailure};

/// Runs a task here and now. A panic is an outcome as any other.
pub(crate) fn make(task: Box<dyn ErasedTask>, cx: &TaskContext) -> Outcome {
    let name = task.kind().short_name();
    match user_code(move || span(name, cx).in_scope(|| task.run(cx))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(failed(name, cx, failure)),
        Err(message) => Err(panicked(name, cx, message)),
    }
}

/// Runs the items of a map, one after the other. A panic is the outcome of one of them. `begins` is called before each
/// that came from another process.
pub(crate) fn make_each(
    chunk: &mut dyn ChunkRun,
    name: &'static str,
    cx: &mut TaskContext,
    begins: &dyn Fn(&TaskContext),
) {
    let events = Events { name, begins };
    while let Err(message) = user_code(|| span(name, cx).in_scope(|| chunk.run(cx, &events))) {
        let error = panicked(name, cx, message);
        chunk.on_panic(cx, error);
    }
}

struct Events<'a> {
    name: &'static str,
    begins: &'a dyn Fn(&TaskContext),
}

impl ItemEvents for Events<'_> {
    fn begins(&self, cx: &TaskContext) {
        (self.begins)(cx);
    }

    fn failed(&self, cx: &TaskContext, failure: TaskFailure) -> TaskError {
        failed(self.name, cx, failure)
    }
}

/// What a task's code tells by `tracing` is told with this: of a map, with its first item's.
fn span(name: &'static str, cx: &TaskContext) -> tracing::Span {
    // Made where somebody wants it; else it costs a look.
    tracing::debug_span!("task", name, id = %cx.task, attempt = %cx.attempt, engine = cx.engine.map(tracing::field::display))
}

fn failed(name: &'static str, cx: &TaskContext, failure: TaskFailure) -> TaskError {
    TaskError::Failed { place: place(name, cx), text: failure.into_text().into() }
}

fn panicked(name: &'static str, cx: &TaskContext, message: Box<str>) -> TaskError {
    TaskError::Panicked { place: place(name, cx), message }
}

fn place(name: &'static str, cx: &TaskContext) -> Box<Place> {
    Box::new(Place { task: cx.task, name, engine: cx.engine, attempt: cx.attempt })
}
