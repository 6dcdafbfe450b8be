//! The wire: how messages become bytes between processes.
//!
//! ```text
//! stream   = frame*
//! frame    = length u32 | lane u8 | 0 u8 | 0 u16 | `length` bytes, at most 1 MiB, of what is said on the lane
//! lane     = message*
//! message  = length of the header u32 | number of buffers u32 | length of each u32 | header | buffers
//! ```
//!
//! All numbers are little-endian. A lane is cut into frames wherever it suits the writer: many small messages share
//! one, a large buffer takes many. There are two lanes, and the control lane goes first: a cancel waits for at most
//! one frame of bulk, whatever is under way there. The header is postcard; buffers are never copied into it.

pub mod frame;
pub mod outgoing;
pub mod incoming;
pub mod session;
pub mod retained;
pub mod lasting;
mod connection;
pub mod pump;
pub mod handshake;
pub mod opening;
pub mod protocol;
pub mod clients;
pub mod hosts;
