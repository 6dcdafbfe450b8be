//! The trait that makes a value a task, and how a task says that it failed.

use std::error::Error;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{TaskContext, TaskKind, fingerprint, key_of};

/// A call that an engine can make: a typed message whose answer is [`Output`](Task::Output).
///
/// Usually written by [`#[task]`](macro@crate::task) on a function. By hand it is the same:
///
/// ```
/// use callboard::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Scale { by: f64, values: Vec<f64> }
///
/// impl Task for Scale {
///     type Output = Vec<f64>;
///     const NAME: &'static str = "doc::Scale";
///     fn run(self, _: &TaskContext) -> Result<Vec<f64>, TaskFailure> {
///         Ok(self.values.into_iter().map(|v| v * self.by).collect())
///     }
/// }
/// callboard::register_task!(Scale);
///
/// let task = Scale { by: 2.0, values: vec![1.0, 2.0] };
/// assert_eq!(task.run(&TaskContext::here()).unwrap(), [2.0, 4.0]);
/// ```
pub trait Task: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// What the task returns when it succeeds.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Name of the function, the same in every program that shares it.
    const NAME: &'static str;
    /// Version of the function; raise it when the meaning of the arguments changes.
    const VERSION: u32 = 1;
    /// Arguments and result as written; part of the fingerprint.
    const SIGNATURE: &'static str = "";
    /// What two programs compare to know that they mean the same function.
    const FINGERPRINT: u64 = fingerprint(Self::NAME, Self::VERSION, Self::SIGNATURE);
    /// Whether running it twice is as good as running it once: lets a load-balanced task start again
    /// when its engine is lost.
    const IDEMPOTENT: bool = false;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever the work reports; `?` turns any error type into a [`TaskFailure`]. A panic is caught by
    /// the engine and settles the task as `TaskError::Panicked`.
    fn run(self, cx: &TaskContext) -> Result<Self::Output, TaskFailure>;

    /// Returns about how many bytes the call holds, for the limit on pending bytes.
    fn size_hint(&self) -> usize {
        size_of_val(self)
    }

    /// Returns what is known of the function: the constants above in one value.
    fn kind() -> &'static TaskKind {
        const {
            &TaskKind {
                name: Self::NAME,
                version: Self::VERSION,
                key: key_of(Self::NAME, Self::VERSION),
                fingerprint: Self::FINGERPRINT,
                idempotent: Self::IDEMPOTENT,
                portable: true,
            }
        }
    }
}

/// Why a task's own code gave up: the text of an error and of its causes.
///
/// Made from any error by `?`; exists only inside a task, outside it is a `TaskError::Failed`.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn parse(text: String) -> Result<i64, TaskFailure> {
///     if text.is_empty() {
///         return Err(TaskFailure::new("there is nothing to parse"));
///     }
///     Ok(text.parse()?) // any error
/// }
///
/// let cluster = Cluster::threads(1).start()?;
/// let parsed = cluster.client().load_balanced().apply(parse("7x".into())).get();
/// assert!(matches!(parsed, Err(TaskError::Failed { text, .. }) if &*text == "invalid digit found in string"));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    text: String,
}

impl TaskFailure {
    /// Makes a failure from a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Returns the text: the error, then each cause, separated by `: `.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for TaskFailure {
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Many error types already print their cause; once is enough.
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        Self { text }
    }
}

/// A return type that may fail: how `#[task]` finds the output behind any spelling of `Result`.
pub trait ResultLike {
    /// The type of success.
    type Ok;
    /// Turns the error, if it is one, into a failure.
    ///
    /// # Errors
    /// The error that the task returned.
    fn into_task_result(self) -> Result<Self::Ok, TaskFailure>;
}

impl<T, E: Into<TaskFailure>> ResultLike for Result<T, E> {
    type Ok = T;
    fn into_task_result(self) -> Result<T, TaskFailure> {
        self.map_err(Into::into)
    }
}
