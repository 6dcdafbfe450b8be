//! What a caller holds while a task is elsewhere.

mod sync;
mod handover;
mod held;
mod blocking;
mod one;
mod single;
mod cancel_on_drop;
mod many;
mod map;
mod map_iter;
mod interactive;
mod reply;

pub(crate) use blocking::{block_on, may_block};
pub use cancel_on_drop::CancelOnDrop;
pub(crate) use many::Many;
pub use map::AsyncMapResult;
pub use map_iter::{AsCompletedItems, IntoIter, Iter, MapStream};
pub(crate) use one::{One, decode_value, not_decodable};
pub use reply::Reply;
pub use single::AsyncResult;
