//! The task that does nothing: what it costs is what having it done costs.

use callboard::{Task, TaskContext, TaskFailure};
use serde::{Deserialize, Serialize};

/// Does nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Noop;

impl Task for Noop {
    type Output = ();
    const NAME: &'static str = "callboard::bench::noop";

    fn run(self, _: &TaskContext) -> Result<(), TaskFailure> {
        Ok(())
    }
}

callboard::register_task!(Noop);
