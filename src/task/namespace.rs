//! What an engine keeps between tasks: values under names, pushed there by views or left there by tasks.
//!
//! Each client has names of its own. In one process nothing is copied: all engines share what was pushed to
//! them. Values that came as bytes are read by the first who asks, and then shared too.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Blob, TaskContext, TaskFailure, blob};
use crate::catch;
use crate::limits::PUSHED_NAMES_MAX;

/// The values of one engine.
#[derive(Default)]
pub(crate) struct Namespace {
    values: Mutex<HashMap<(u64, String), Shared>>,
}

/// A value that several may look at: of [`TaskContext::pushed`] and of a view's `pull`.
///
/// ```
/// use callboard::prelude::*;
///
/// let cluster = Cluster::threads(2).start()?;
/// let rc = cluster.client();
/// rc.all().push("weights", vec![1.0, 2.0]).wait()?;
/// let weights = rc.engine(0)?.pull::<Vec<f64>>("weights").get()?;
/// assert_eq!(weights[1], 2.0); // as a reference to the value
/// assert_eq!(weights.into_inner(), [1.0, 2.0]); // or the value itself
/// # Ok::<(), callboard::Error>(())
/// ```
pub struct Pulled<T>(Arc<Pushed<T>>);

/// A value that was pushed.
pub(crate) struct Pushed<T> {
    value: T,
    /// As it travels, once it was: to several engines it is encoded once.
    encoded: OnceLock<Bytes>,
}

/// A value without its type: as itself, or encoded.
#[derive(Clone)]
pub(crate) enum Shared {
    Typed(Arc<dyn Encode>),
    Wire(Traveling<'static>),
}

/// A value on its way, with the name of its type, by which it is not taken for one of another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Traveling<'a> {
    is: Cow<'a, str>,
    bytes: Blob,
}

/// Anything that can be pushed.
pub(crate) trait Encode: Any + Send + Sync {
    fn encode(&self) -> Result<Bytes, postcard::Error>;
    /// Encodes the value, and keeps that for the next who asks.
    fn encode_once(&self) -> Result<Bytes, postcard::Error>;
    fn type_name(&self) -> &'static str;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
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

/// What can be pushed to engines and pulled from them: any type that can be encoded and shared.
pub trait Pushable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Pushable for T {}

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

impl<T> Pulled<T> {
    fn of(value: T) -> Self {
        Self(Arc::new(Pushed { value, encoded: OnceLock::new() }))
    }
}

impl<T: Clone> Pulled<T> {
    /// Returns the value itself; a copy if others look at it.
    pub fn into_inner(self) -> T {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.value.clone(), |pushed| pushed.value)
    }
}

impl<T> Deref for Pulled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Pulled<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Pulled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Pulled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

/// As bytes of its own, so that an engine can pass it on without knowing its type.
impl<T: Serialize> Serialize for Pulled<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.to_bytes().map_err(serde::ser::Error::custom)?;
        Traveling::of(type_name::<T>(), bytes).serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Pulled<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Traveling::deserialize(deserializer)?.read().map_err(D::Error::custom)
    }
}

impl<'a> Traveling<'a> {
    fn of(is: &'a str, bytes: Bytes) -> Self {
        Self { is: is.into(), bytes: bytes.into() }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<Pulled<T>, String> {
        check_type(&self.is, type_name::<T>())?;
        match postcard::take_from_bytes(&self.bytes) {
            Ok((value, [])) => Ok(Pulled::of(value)),
            Ok((_, rest)) => Err(format!("{} bytes too many for a {}", rest.len(), type_name::<T>())),
            Err(error) => Err(format!("it cannot be read as a {}: {error}", type_name::<T>())),
        }
    }
}

fn check_type(is: &str, wanted: &str) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("it is a {is}, and not a {wanted}")) }
}

impl Shared {
    /// Serializes it for one of several engines that are to have it.
    pub(super) fn serialize_once<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Typed(value) => {
                let bytes = value.encode_once().map_err(serde::ser::Error::custom)?;
                Traveling::of((**value).type_name(), bytes).serialize(serializer)
            }
            Self::Wire(_) => self.serialize(serializer),
        }
    }

    pub(crate) fn of<T: Pushable>(value: T) -> Self {
        Self::Typed(Pulled::of(value).0)
    }

    fn read<T: Pushable>(self) -> Result<Pulled<T>, String> {
        match self {
            Self::Typed(value) => {
                let is = (*value).type_name();
                let value = value.into_any().downcast::<Pushed<T>>();
                value.map(Pulled).map_err(|_| format!("it is a {is}, and not a {}", type_name::<T>()))
            }
            Self::Wire(traveling) => traveling.read(),
        }
    }
}

impl<T: Serialize> Pushed<T> {
    fn to_bytes(&self) -> Result<Bytes, postcard::Error> {
        blob::whole(|| postcard::to_stdvec(&self.value)).map(Bytes::from)
    }
}

impl<T: Pushable> Encode for Pushed<T> {
    fn encode(&self) -> Result<Bytes, postcard::Error> {
        self.to_bytes()
    }

    fn encode_once(&self) -> Result<Bytes, postcard::Error> {
        if let Some(encoded) = self.encoded.get() {
            return Ok(encoded.clone());
        }
        let encoded = self.encode()?;
        Ok(self.encoded.get_or_init(|| encoded).clone())
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Typed(value) => {
                // The trait object's own type, not that of the `Arc` around it.
                let bytes = (**value).encode().map_err(serde::ser::Error::custom)?;
                Traveling::of((**value).type_name(), bytes).serialize(serializer)
            }
            Self::Wire(traveling) => traveling.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Traveling::deserialize(deserializer).map(Self::Wire)
    }
}
