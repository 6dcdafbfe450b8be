//! What actors say to each other: plain data, in the order in which one task meets it.
//!
//! ```text
//!   caller            Scheduler            Engine            ResultStore         Callbacks
//!     |    Submit         |                   |                   |                  |
//!     |------------------>|  Watch            |                   |                  |
//!     |                   |-------------------------------------->|                  |
//!     |                   |  Run              |                   |                  |
//!     |                   |------------------>|  Finished         |                  |
//!     |                   |                   |------------------>|  Dispatch        |
//!     |   the waiter of the AsyncResult is settled                |----------------->|
//!     |<----------------------------------------------------------|                  |  TaskDone
//!     |                   |  Settled          |                   |                  |-----> subscribers
//!     |                   |<--------------------------------------|                  |
//!     |    Cancel         |                   |                   |
//!     |------------------>|  Revoke           |                   |
//!     |                   |------------------>|                   |
//!     |                   |  HandedBack       |                   |
//!     |                   |<------------------|                   |
//! ```
//!
//! Every message about tasks carries a batch: a hop costs more than a task that does nothing.

mod submit;
mod watch;
mod run;
mod finished;
mod join;
mod done;
mod control;

pub use control::{AwaitSettled, FetchKept, GetRecord, GetRecords, GetStatus, Kept, Pending, Purge, Stop, TakeIn};
pub use done::{Callback, Discard, Dispatch, TaskDone};
pub use finished::{Completion, Finished, HandedBack, Settled};
pub use join::{EngineAddress, EngineEvent, Join, Leave, Retire, Subscribe};
pub use run::{Recall, Revoke, Run, StopEngine};
pub use submit::{Cancel, Submission, Submit};
pub use watch::{Aftermath, Expect, MoreCallbacks, Settle, Waiter, Watch, Watched};
