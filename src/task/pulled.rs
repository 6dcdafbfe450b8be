//! A value that engines keep: as itself, shared by all who look, or encoded, with the name of its type.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Blob, blob};

/// A value that several may look at: of [`TaskContext::pushed`](super::TaskContext::pushed) and of a view's `pull`.
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
pub struct Pulled<T>(pub(super) Arc<Pushed<T>>);

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
    pub(super) is: Cow<'a, str>,
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

/// What can be pushed to engines and pulled from them: any type that can be encoded and shared.
pub trait Pushable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Pushable for T {}

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

pub(super) fn check_type(is: &str, wanted: &str) -> Result<(), String> {
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

    pub(super) fn read<T: Pushable>(self) -> Result<Pulled<T>, String> {
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
