//! What a caller holds while a task is elsewhere.

mod sync;
mod handover;
mod held;
mod blocking;
mod single;
mod many;
mod reply;

pub(crate) use blocking::{block_on, may_block};
pub use many::AsyncMapResult;
pub(crate) use many::Many;
pub use reply::Reply;
pub use single::{AsyncResult, CancelOnDrop};
pub(crate) use single::{One, decode_value, not_decodable};
