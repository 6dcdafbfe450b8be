//! Tasks to try a cluster with. Every program that links this crate's command line has them, under the same names.
//!
//! ```no_run
//! use callboard::cli::demo::{getpid, norm};
//! use callboard::prelude::*;
//!
//! // callboard cluster start -n 4 --daemonize
//! let rc = Client::connect_to("default").get()?;
//! println!("{:?}", rc.all().apply(getpid()).get()?);
//! let norms: Vec<f64> = rc.load_balanced().map(norm, 1..=100).get()?;
//! # Ok::<(), callboard::Error>(())
//! ```

use std::time::Duration;

use callboard_macros::task;

/// Computes the 2-norm of the numbers from 0 to `n`, without `n`. Its name on the wire is `callboard::demo::norm`.
///
/// ```
/// assert_eq!(callboard::cli::demo::norm(3).call(), 5.0_f64.sqrt());
/// ```
#[task(name = "callboard::demo::norm", idempotent)]
pub fn norm(n: u64) -> f64 {
    (0..n).map(|x| (x as f64).powi(2)).sum::<f64>().sqrt()
}

/// Sleeps for so many seconds, and returns them; until it is cancelled. Fails for what is no time. Its name on the wire is
/// `callboard::demo::sleep`.
///
/// ```
/// use callboard::cli::demo::sleep;
/// use callboard::prelude::*;
///
/// let cluster = Cluster::threads(1).start()?;
/// let view = cluster.client().load_balanced();
/// assert_eq!(view.apply(sleep(0.01)).get(), Ok(0.01));
/// assert!(matches!(view.apply(sleep(-1.0)).get(), Err(TaskError::Failed { .. })));
/// # Ok::<(), callboard::Error>(())
/// ```
#[task(name = "callboard::demo::sleep", idempotent)]
pub async fn sleep(seconds: f64) -> Result<f64, std::time::TryFromFloatSecsError> {
    tokio::time::sleep(Duration::try_from_secs_f64(seconds)?).await;
    Ok(seconds)
}

/// Returns the text that it is given. Its name on the wire is `callboard::demo::echo`.
///
/// ```
/// assert_eq!(callboard::cli::demo::echo("a call".into()).call(), "a call");
/// ```
#[task(name = "callboard::demo::echo", idempotent)]
pub fn echo(text: String) -> String {
    text
}

/// Returns the number of the process that it runs in. Its name on the wire is `callboard::demo::getpid`.
///
/// ```
/// assert_eq!(callboard::cli::demo::getpid().call(), std::process::id());
/// ```
#[task(name = "callboard::demo::getpid", idempotent)]
pub fn getpid() -> u32 {
    std::process::id()
}
