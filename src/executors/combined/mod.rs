//! Executors around executors: each changes one thing about how the one inside is asked, and is an executor itself.
//!
//! A combinator makes results of its own, and hands each call on with something to be done with its outcome ([`relay`]). So
//! a cancel goes through to whoever runs the task, and nothing waits on a thread: what is to happen later is with the
//! [`timer`] of the process.

mod relay;
mod inside;
mod timer;

mod limit;
mod time_limit;
mod backoff;
mod retry;
mod fallback;

pub use backoff::Backoff;
pub use fallback::WithFallback;
pub use limit::Limited;
pub use retry::{RetryPolicy, Retrying};
pub use time_limit::TimeLimited;
