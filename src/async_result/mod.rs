//! What a caller holds while a task is elsewhere.

mod sync;
mod handover;
mod blocking;
mod single;
mod many;
mod reply;

pub use single::AsyncResult;
pub use many::AsyncMapResult;
pub use reply::Reply;
pub(crate) use blocking::{block_on, may_block};
pub(crate) use many::Many;
pub(crate) use single::{One, decode_value, not_decodable};
