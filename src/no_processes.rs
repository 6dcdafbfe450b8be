//! Where there is no wire: engines that are processes, of which there are none.

use actix::Addr;

use crate::actors::{EngineParts, Scheduler};
use crate::error::Error;
use crate::limits::Limits;
use crate::task::EngineId;

#[derive(Clone, Debug, Default)]
pub(crate) struct Children;

#[derive(Clone)]
pub(crate) struct Processes;

impl Processes {
    pub(crate) fn new(_: EngineParts, _: Addr<Scheduler>, _: Limits, _: Children) -> Self {
        Self
    }

    /// There is nothing in this build that would ask for any.
    pub(crate) async fn launch(&self, _: usize) -> Result<Vec<EngineId>, Error> {
        Ok(Vec::new())
    }

    pub(crate) fn has(&self, _: EngineId) -> bool {
        false
    }

    pub(crate) fn halt(&self) {}

    pub(crate) fn end(&self) {}
}
