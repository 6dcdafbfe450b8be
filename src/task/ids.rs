//! Who is who: tasks, attempts, engines, and the moments at which things happen to them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

/// The name of one task: made by the client that submits it, unique over all clients and restarts.
///
/// ```
/// use callboard::prelude::*;
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let cluster = Cluster::threads(1).start()?;
/// let rc = cluster.client();
/// let ar = rc.load_balanced().with().keep().apply(square(4));
/// let id = ar.id();
/// drop(ar);
/// assert_eq!(rc.fetch::<u64>(id).get()?, 16);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The client that submitted the task; drawn at random when the client is made.
    pub client: u64,
    /// The client's own count, from 0.
    pub seq: u64,
}

/// Draws a number for somebody who is to be told from all others, also after a restart and where they know nothing of each
/// other: a client, a cluster.
pub(crate) fn drawn() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

impl TaskId {
    /// Returns the hash by which tables find the task.
    ///
    /// A client counts its tasks up, and they settle in about that order. So the low bits, which choose the
    /// place, are the count itself: neighbours in time are neighbours in memory, and a table of a million
    /// tasks is walked and not jumped about in. The high bits, which tell neighbours apart, are well mixed.
    pub(crate) fn table_hash(self) -> u64 {
        const TAG: u64 = 0xfe << 56;
        let place = self.seq.wrapping_add(self.client);
        (place & !TAG) | (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) & TAG)
    }
}

impl TaskId {
    /// Returns the id of the client's `n`th task after this one.
    #[must_use]
    pub fn plus(self, n: u32) -> Self {
        Self { seq: self.seq.wrapping_add(n.into()), ..self }
    }
}

/// A run of tasks of one client: `count` of them, counted up from `first`. The items of a map are one.
///
/// ```
/// use callboard::task::{Span, TaskId};
///
/// let id = |seq| TaskId { client: 7, seq };
/// let items = Span { first: id(10), count: 5 };
/// assert!(items.contains(id(14)) && !items.contains(id(15)));
/// assert_eq!(items.common(Span { first: id(13), count: 9 }), Some(Span { first: id(13), count: 2 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first task.
    pub first: TaskId,
    /// How many tasks it is, at least 1.
    pub count: u32,
}

impl Span {
    /// Returns the last task.
    pub fn last(self) -> TaskId {
        self.first.plus(self.count.saturating_sub(1))
    }

    /// Returns whether the task is one of these.
    pub fn contains(self, task: TaskId) -> bool {
        self.first <= task && task <= self.last()
    }

    /// Returns the tasks that are in both.
    pub fn common(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last().min(other.last()));
        // Of another client there is nothing in common: `first` is of the later, `last` of the earlier.
        (first <= last).then(|| Self { first, count: (last.seq - first.seq) as u32 + 1 })
    }
}

impl From<TaskId> for Span {
    fn from(task: TaskId) -> Self {
        Self { first: task, count: 1 }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.client >> 32, self.seq)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// The name of one engine, given by the scheduler when it joins and never given again.
///
/// Because it is never given again it also tells incarnations apart: an engine that was lost and comes
/// back is another engine.
///
/// ```
/// use callboard::{EngineId, prelude::*};
///
/// let cluster = Cluster::threads(2).start()?;
/// assert_eq!(cluster.client().ids(), [EngineId(0), EngineId(1)]);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineId(pub u32);

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which execution of a task this is: 1 for the first, 0 where it never started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment on the monotonic clock of this process, in nanoseconds since the crate was first used.
///
/// Everything below the actors gets the present moment as a parameter, so that it can be tested and
/// simulated with a clock of the test's own.
///
/// ```
/// use callboard::Moment;
/// use std::time::Duration;
///
/// let earlier = Moment::from_nanos(1_000);
/// let later = earlier.after(Duration::from_micros(2));
/// assert_eq!((later.as_nanos(), later.since(earlier)), (3_000, Duration::from_micros(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// The first moment there is.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Makes the moment so many nanoseconds after the first.
    pub fn from_nanos(nanos: u64) -> Self {
        // Counted from 1, so that no moment at all needs no further byte.
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Reads the clock.
    pub fn now() -> Self {
        Self::from_nanos(nanos(epoch().0.elapsed()))
    }

    /// Returns the moment `later` after this one.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }

    /// Returns the moment `earlier` before this one, at most the first.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(nanos(earlier)))
    }

    /// Returns the nanoseconds since the first moment.
    pub fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Returns the time from `earlier` to this moment, zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// Returns the wall-clock time of this moment, as the wall clock stood when the crate was first used.
    ///
    /// For people and logs; nothing in the crate decides by it.
    pub fn to_system_time(self) -> SystemTime {
        epoch().1 + Duration::from_nanos(self.as_nanos())
    }
}

/// Saturates a duration into nanoseconds (584 years).
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn epoch() -> &'static (Instant, SystemTime) {
    static EPOCH: std::sync::OnceLock<(Instant, SystemTime)> = std::sync::OnceLock::new();
    EPOCH.get_or_init(|| (Instant::now(), SystemTime::now()))
}
