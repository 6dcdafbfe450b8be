//! What an engine keeps between tasks: values under names, pushed there by views or left there by tasks.
//!
//! Each client has names of its own. In one process nothing is copied: all engines share what was pushed to
//! them. Values that came as bytes are read by the first who asks, and then shared too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use parking_lot::Mutex;

use super::pulled::check_type;
use super::{Pulled, Pushable, Shared, TaskContext, TaskFailure};
use crate::catch;
use crate::limits::PUSHED_NAMES_MAX;

/// The values of one engine.
#[derive(Default)]
pub(crate) struct Namespace {
    values: Mutex<HashMap<(u64, String), Shared>>,
}

impl Namespace {
    pub(super) fn put(&self, client: u64, name: String, value: Shared) -> Result<(), TaskFailure> {
        let old = {
            let mut values = self.values.lock();
            let is_full = values.len() >= PUSHED_NAMES_MAX;
            match values.entry((client, name)) {
                Entry::Occupied(mut entry) => Some(entry.insert(value)),
                Entry::Vacant(_) if is_full => {
                    let text = format!("{PUSHED_NAMES_MAX} names are taken on this engine; clear some");
                    return Err(TaskFailure::new(text));
                }
                Entry::Vacant(entry) => {
                    entry.insert(value);
                    None
                }
            }
        };
        // Outside the lock: its `Drop` is code of the user's.
        catch::discard(old);
        Ok(())
    }

    fn find(&self, client: u64, name: &str) -> Result<Shared, TaskFailure> {
        let found = self.values.lock().get(&(client, name.to_string())).cloned();
        found.ok_or_else(|| TaskFailure::new(format!("nothing is called {name:?} on this engine; push it first")))
    }

    /// Returns what is under a name, to be read elsewhere as the type of this name.
    pub(super) fn find_as(&self, wanted: &str, client: u64, name: &str) -> Result<Shared, TaskFailure> {
        let shared = self.find(client, name)?;
        let is = match &shared {
            Shared::Typed(value) => (**value).type_name(),
            Shared::Wire(traveling) => &traveling.is,
        };
        check_type(is, wanted).map_err(|reason| of_another_type(name, &reason))?;
        Ok(shared)
    }

    fn get<T: Pushable>(&self, client: u64, name: &str) -> Result<Pulled<T>, TaskFailure> {
        let shared = self.find(client, name)?;
        let is_encoded = matches!(shared, Shared::Wire(_));
        let pulled = shared.read::<T>().map_err(|reason| of_another_type(name, &reason))?;
        if is_encoded {
            self.put(client, name.to_string(), Shared::Typed(pulled.0.clone()))?;
        }
        Ok(pulled)
    }

    pub(super) fn clear(&self, client: u64) {
        let mut values = self.values.lock();
        let cleared: Vec<Shared> =
            values.extract_if(|(owner, _), _| *owner == client).map(|(_, value)| value).collect();
        drop(values);
        cleared.into_iter().for_each(catch::discard);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        std::mem::take(self.values.get_mut()).into_values().for_each(catch::discard);
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({} names)", self.values.lock().len())
    }
}

fn of_another_type(name: &str, reason: &str) -> TaskFailure {
    TaskFailure::new(format!("{name:?}: {reason}"))
}

impl TaskContext {
    /// Returns what was pushed to this engine under a name, by a view of the client that submitted this task
    /// or by another of its tasks.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// #[task]
    /// fn dot(cx: &TaskContext, x: Vec<f64>) -> Result<f64, TaskFailure> {
    ///     let weights = cx.pushed::<Vec<f64>>("weights")?;
    ///     Ok(weights.iter().zip(x).map(|(w, x)| w * x).sum())
    /// }
    ///
    /// let cluster = Cluster::threads(2).start()?;
    /// let dv = cluster.client().all();
    /// dv.push("weights", vec![1.0, 10.0]).wait()?;
    /// assert_eq!(dv.apply(dot(vec![3.0, 4.0])).get()?, [43.0, 43.0]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// If nothing has the name, or what has it is of another type.
    pub fn pushed<T: Pushable>(&self, name: &str) -> Result<Pulled<T>, TaskFailure> {
        self.namespace.get(self.task.client, name)
    }

    /// Keeps a value on this engine under a name, for later tasks of the same client and for `pull`.
    ///
    /// # Errors
    /// If too many names are taken.
    pub fn push<T: Pushable>(&self, name: impl Into<String>, value: T) -> Result<(), TaskFailure> {
        self.namespace.put(self.task.client, name.into(), Shared::of(value))
    }
}
