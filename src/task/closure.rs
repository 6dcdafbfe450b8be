//! Closures as tasks: run within this process, once, and never encoded.

use std::any::Any;
use std::fmt;

use super::{ErasedTask, ErasedValue, TaskContext, TaskFailure, TaskKind, Typed, Value, WireCall, WireValue};

/// A plain closure as a task: runs on engines of this process, once.
///
/// ```
/// use callboard::task::{Closure, ErasedTask};
///
/// let call = Closure(|| 49);
/// assert!(!call.kind().portable && call.try_clone().is_none());
/// ```
pub struct Closure<F>(pub F);

impl<F> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

/// The kind of every closure.
static CLOSURE: TaskKind = TaskKind {
    name: "closure",
    version: 1,
    key: super::key_of("closure", 1),
    fingerprint: super::fingerprint("closure", 1, ""),
    idempotent: false,
    portable: false,
};

/// The value of a closure, which need not be one that can be encoded.
struct ClosureValue<R>(R);

impl<F, R> ErasedTask for Closure<F>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    fn kind(&self) -> &'static TaskKind {
        &CLOSURE
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Ok(Value::Typed(Box::new(ClosureValue((self.0)()))))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        None
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<F>()
    }
}

impl<R: Send + 'static> ErasedValue for ClosureValue<R> {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        std::mem::needs_drop::<R>()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        Box::new(Typed(self.0))
    }
}
