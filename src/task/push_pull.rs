//! The tasks behind `push`, `pull`, `scatter`, `gather` and `clear`.

use serde::{Deserialize, Serialize};

use super::pulled::{Pulled, Pushable, Shared};
use super::{Task, TaskContext, TaskFailure};

/// Keeps a value under a name: the task behind `push` and `scatter`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Push {
    pub(crate) name: String,
    #[serde(serialize_with = "Shared::serialize_once")]
    pub(crate) value: Shared,
}

impl Task for Push {
    type Output = ();
    const NAME: &'static str = "callboard::push";

    fn run(self, cx: &TaskContext) -> Result<(), TaskFailure> {
        cx.namespace.put(cx.task.client, self.name, self.value)
    }
}

crate::register_task!(Push);

/// Returns the value under a name: the task behind `pull` and `gather`, where its type is known.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pull<T> {
    name: String,
    /// The name of the type.
    wanted: String,
    #[serde(skip)]
    value: std::marker::PhantomData<fn() -> T>,
}

impl<T> Pull<T> {
    pub(crate) fn new(name: String) -> Self {
        Self { name, wanted: std::any::type_name::<T>().to_string(), value: std::marker::PhantomData }
    }
}

impl<T> Clone for Pull<T> {
    fn clone(&self) -> Self {
        Self::new(self.name.clone())
    }
}

impl<T: Pushable> Task for Pull<T> {
    type Output = Pulled<T>;
    const NAME: &'static str = PULL;
    const IDEMPOTENT: bool = true;

    fn run(self, cx: &TaskContext) -> Result<Pulled<T>, TaskFailure> {
        cx.pushed(&self.name)
    }
}

const PULL: &str = "callboard::pull";

/// The same on an engine that does not know the type: it passes the value on as it is, encoded.
#[derive(Clone, Serialize, Deserialize)]
struct PullAny {
    name: String,
    wanted: String,
}

impl Task for PullAny {
    type Output = Shared;
    const NAME: &'static str = PULL;
    const IDEMPOTENT: bool = true;

    fn run(self, cx: &TaskContext) -> Result<Shared, TaskFailure> {
        cx.namespace.find_as(&self.wanted, cx.task.client, &self.name)
    }
}

crate::register_task!(PullAny);

/// Forgets what a client pushed to an engine.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Clear;

impl Task for Clear {
    type Output = ();
    const NAME: &'static str = "callboard::clear";
    const IDEMPOTENT: bool = true;

    fn run(self, cx: &TaskContext) -> Result<(), TaskFailure> {
        cx.namespace.clear(cx.task.client);
        Ok(())
    }
}

crate::register_task!(Clear);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PUSHED_NAMES_MAX;
    use crate::registry::Registry;
    use crate::task::{ErasedTask, Typed, Value, WireValue};

    /// Has a call made as an engine of another process does: everything passes through bytes.
    fn over_the_wire<T: Task>(task: T, cx: &TaskContext) -> Result<WireValue, TaskFailure> {
        let call = Typed(task).encode().unwrap().unwrap();
        let registry = Registry::auto().unwrap();
        let Value::Typed(value) = registry.decode(&call).unwrap().unwrap().run(cx)? else { unreachable!() };
        Ok(value.encode().unwrap().unwrap())
    }

    #[test]
    fn what_is_pushed_over_the_wire_is_pulled_over_the_wire_and_read_by_tasks() {
        let cx = TaskContext::here();
        let value = vec![(1_u8, "one".to_string()), (2, "two".to_string())];
        over_the_wire(Push { name: "a".into(), value: Shared::of(value.clone()) }, &cx).unwrap();
        // Passed on as it came, by an engine that does not know the type.
        for _ in 0..2 {
            let pulled = over_the_wire(Pull::<Vec<(u8, String)>>::new("a".into()), &cx).unwrap();
            let pulled: Pulled<Vec<(u8, String)>> = postcard::from_bytes(&pulled.inline).unwrap();
            assert_eq!(*pulled, value);
            // The second time it has been read, and is encoded anew.
            assert_eq!(*cx.pushed::<Vec<(u8, String)>>("a").unwrap(), value);
        }
    }

    #[test]
    fn a_wrong_name_and_a_wrong_type_are_named() {
        let cx = TaskContext::here();
        let text = |failure: TaskFailure| failure.text().to_string();
        assert_eq!(text(cx.pushed::<u8>("a").unwrap_err()), "nothing is called \"a\" on this engine; push it first");
        cx.push("a", 1_u32).unwrap();
        assert_eq!(text(cx.pushed::<String>("a").unwrap_err()), "\"a\": it is a u32, and not a alloc::string::String");
        cx.push("a", String::from("text")).unwrap();
        assert_eq!(*cx.pushed::<String>("a").unwrap(), "text");
        // The same of what came as bytes, which might be read as another type.
        over_the_wire(Push { name: "b".into(), value: Shared::of(1_u32) }, &cx).unwrap();
        let told = "\"b\": it is a u32, and not a u8";
        assert_eq!(text(over_the_wire(Pull::<u8>::new("b".into()), &cx).unwrap_err()), told);
        assert_eq!(text(cx.pushed::<u8>("b").unwrap_err()), told);
        assert_eq!(*cx.pushed::<u32>("b").unwrap(), 1);
        assert_eq!(text(over_the_wire(Pull::<u8>::new("b".into()), &cx).unwrap_err()), told);
    }

    #[test]
    fn names_are_bounded_and_clients_do_not_meet() {
        let mut cx = TaskContext::here();
        for name in 0..PUSHED_NAMES_MAX {
            cx.push(name.to_string(), name).unwrap();
        }
        assert!(cx.push("one more", 0).unwrap_err().text().contains("clear some"));
        cx.push("7", 70_usize).unwrap();
        assert_eq!(*cx.pushed::<usize>("7").unwrap(), 70);
        cx.task.client = 1;
        assert!(cx.pushed::<usize>("7").is_err());
        Clear.run(&cx).unwrap();
        cx.task.client = 0;
        assert_eq!(*cx.pushed::<usize>("8").unwrap(), 8);
        Clear.run(&cx).unwrap();
        assert!(cx.pushed::<usize>("8").is_err());
        cx.push("one more", 0).unwrap();
    }
}
