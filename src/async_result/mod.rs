//! What a caller holds while a task is elsewhere.

mod sync;
mod handover;
mod held;
mod blocking;
mod brief;
mod one;
mod origin;
mod promised;
mod single;
mod state;
mod cancel_on_drop;
mod intervals;
mod part;
mod many;
mod map;
mod map_values;
mod callbacks;
mod map_iter;
mod accounts;
mod interactive;
mod join;
mod reply;
mod awaitable;
mod until;
mod wait;
mod as_completed;

pub use as_completed::{AsCompleted, AsCompletedStream, as_completed};
pub use awaitable::Awaitable;
pub(crate) use blocking::{block_on, may_block};
pub use cancel_on_drop::CancelOnDrop;
pub(crate) use many::Many;
pub use map::AsyncMapResult;
pub use map_iter::{AsCompletedItems, AsCompletedItemsStream, IntoIter, Iter, ResultStream};
pub(crate) use one::{One, decode_value, not_decodable};
pub(crate) use origin::Origin;
#[cfg(all(unix, feature = "dask"))]
pub(crate) use promised::OnCancel;
pub(crate) use promised::Promised;
pub use reply::Reply;
pub use single::AsyncResult;
pub use wait::{ReturnWhen, Waited, Waiting, wait};
