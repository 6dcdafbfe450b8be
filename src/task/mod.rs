//! The nouns of a task, in the order it meets them: what it is called, what the user writes, what travels.

mod ids;
mod kind;
mod call;
mod context;
mod size;
mod blob;
mod options;
mod payload;
mod erased;
mod closure;
mod chunk;
mod encoded;
mod namespace;
mod pulled;
mod push_pull;
mod record;
mod state;
mod printed;
mod table;

pub use blob::Blob;
pub(crate) use blob::{beside, beside_from, check_size, put_beside};
pub use call::{ResultLike, Task, TaskFailure};
pub(crate) use chunk::ChunkValue;
pub use chunk::{Chunk, ChunkRest, ChunkRun, ItemEvents};
pub use closure::Closure;
pub(crate) use context::CancelFlag;
pub use context::TaskContext;
pub(crate) use encoded::{EncodedCalls, EncodedValues};
#[cfg(feature = "remote")]
pub(crate) use encoded::{ItemWriter, Relayed};
pub use erased::{ErasedTask, ErasedValue, Typed};
pub(crate) use ids::drawn;
pub use ids::{Attempt, EngineId, Moment, Span, TaskId};
pub use kind::{TaskKind, fingerprint, key_of};
pub(crate) use namespace::Namespace;
pub use options::{Extras, Retries, Target};
pub use payload::{Payload, Value, WireCall, WireValue};
#[cfg(feature = "remote")]
pub(crate) use printed::last_words;
pub use printed::{Printed, Stream};
pub(crate) use pulled::Shared;
pub use pulled::{Pulled, Pushable};
pub(crate) use push_pull::{Clear, Pull, Push};
pub use record::{Outcome, Record, Run, Status};
pub use size::{HeapBytes, Unknown as UnknownHeapBytes};
pub use state::TaskState;
pub use table::{Lack, TaskTable};
