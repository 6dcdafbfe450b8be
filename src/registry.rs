//! Which tasks this program contains: from a name on the wire to a call that can be run.
//!
//! In one process nothing is looked up here; the registry is for calls that arrive as bytes.

use std::collections::HashMap;

use crate::error::Error;
#[cfg(feature = "remote")]
use crate::task::TaskTable;
use crate::task::{EncodedCalls, ErasedTask, Task, TaskKind, Typed, WireCall, beside_from};

/// One task of this program: what [`register_task!`](crate::register_task) writes down.
///
/// ```
/// use callboard::{Registration, Registry, Task, TaskContext, TaskFailure, register_task};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Half(f64);
///
/// impl Task for Half {
///     type Output = f64;
///     const NAME: &'static str = "doc::half";
///     fn run(self, _: &TaskContext) -> Result<f64, TaskFailure> { Ok(self.0 / 2.0) }
/// }
///
/// register_task!(Half); // as `#[task]` does by itself
/// assert!(Registry::auto()?.kind(Half::kind().key).is_some());
/// assert!(format!("{:?}", Registration::of::<Half>(file!(), line!())).starts_with("doc::half at "));
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct Registration {
    kind: fn() -> &'static TaskKind,
    decode: fn(&WireCall) -> Result<Box<dyn ErasedTask>, postcard::Error>,
    file: &'static str,
    line: u32,
}

inventory::collect!(Registration);

impl Registration {
    /// Describes the task `T`, written at `file:line`.
    pub const fn of<T: Task>(file: &'static str, line: u32) -> Self {
        Self { kind: T::kind, decode: decode::<T>, file, line }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", (self.kind)().name, self.place())
    }
}

impl Clone for Registration {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Registration {}

fn decode<T: Task>(call: &WireCall) -> Result<Box<dyn ErasedTask>, postcard::Error> {
    if call.count != 1 {
        return Ok(Box::new(EncodedCalls::<T>::read(call)?));
    }
    let (task, rest) = beside_from(&call.blobs, || postcard::take_from_bytes::<T>(&call.inline))?;
    if !rest.is_empty() {
        return Err(postcard::Error::DeserializeBadEncoding);
    }
    Ok(Box::new(Typed(task)))
}

/// The tasks that an engine can find by name.
///
/// ```
/// use callboard::{Registry, Task, prelude::*};
/// #[task(name = "doc::square")]
/// fn square(x: u64) -> u64 { x * x }
///
/// let registry = Registry::auto()?; // every task that is linked into this program
/// assert_eq!(registry.kind(square::kind().key), Some(square::kind()));
/// let only_this = Registry::new().with::<square>()?;
/// assert_eq!(only_this.kinds(), [square::kind()]);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct Registry {
    tasks: HashMap<u64, Registration>,
}

impl Registry {
    /// Makes a registry without any task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a registry of every task that is linked into this program.
    ///
    /// A crate that is only named in `Cargo.toml` is not linked; `use my_tasks as _;` links it.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`] if two have the same name and version.
    pub fn auto() -> Result<Self, Error> {
        inventory::iter::<Registration>().try_fold(Self::new(), |registry, task| registry.add(*task))
    }

    /// Adds one task.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`] if another of the same name and version is there already.
    #[track_caller]
    pub fn with<T: Task>(self) -> Result<Self, Error> {
        let caller = std::panic::Location::caller();
        self.add(Registration::of::<T>(caller.file(), caller.line()))
    }

    /// Returns what is known of the task with this key.
    pub fn kind(&self, key: u64) -> Option<&'static TaskKind> {
        self.tasks.get(&key).map(|task| (task.kind)())
    }

    /// Returns the tasks, sorted by name.
    pub fn kinds(&self) -> Vec<&'static TaskKind> {
        let mut kinds: Vec<_> = self.tasks.values().map(|task| (task.kind)()).collect();
        kinds.sort_by_key(|kind| (kind.name, kind.version));
        kinds
    }

    /// Turns an encoded call into one that can be run; `None` if this program has no such task.
    ///
    /// Runs the user's `Deserialize`.
    pub fn decode(&self, call: &WireCall) -> Option<Result<Box<dyn ErasedTask>, postcard::Error>> {
        self.tasks.get(&call.key).map(|task| (task.decode)(call))
    }

    /// Returns the tasks, as another program needs to know them.
    #[cfg(feature = "remote")]
    pub(crate) fn table(&self) -> TaskTable {
        TaskTable::of(self.tasks.values().map(|task| (task.kind)()))
    }

    /// Returns a number that stands for the program, as far as its tasks go: their functions, and this crate.
    #[cfg(feature = "remote")]
    pub(crate) fn build(&self) -> u64 {
        let version = crate::task::key_of(env!("CARGO_PKG_VERSION"), 0);
        self.tasks.values().fold(version, |build, task| build ^ (task.kind)().fingerprint)
    }

    fn add(mut self, task: Registration) -> Result<Self, Error> {
        let kind = (task.kind)();
        if let Some(first) = self.tasks.insert(kind.key, task) {
            return Err(Error::DuplicateTask {
                name: kind.name,
                version: kind.version,
                first: first.place(),
                second: task.place(),
            });
        }
        Ok(self)
    }
}

/// Registers a type that implements [`Task`] by hand, so that engines find it by name.
///
/// `#[task]` does this by itself.
#[macro_export]
macro_rules! register_task {
    ($task:ty) => {
        $crate::__private::inventory::submit! {
            $crate::Registration::of::<$task>(::core::file!(), ::core::line!())
        }
    };
}
