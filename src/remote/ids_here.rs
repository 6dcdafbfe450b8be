//! The ids of engines, as a client elsewhere has them. Pure.
//!
//! A controller that is started again counts its engines from the start, and a client that has outlived it has views of those
//! before. So that none of them means another engine now, the client counts on: its ids are the controller's, and as many
//! more as it had seen before.

use crate::task::{EngineId, Target};

/// How the controller's ids and the client's go together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdsHere {
    /// The run of the controller that is spoken with.
    run: Option<u64>,
    /// What the first engine of this run is called here.
    base: u32,
    /// Above all ids that were seen.
    next: u32,
}

impl IdsHere {
    /// Begins to speak with a controller, in this run of it.
    pub(super) fn begin(&mut self, run: u64) {
        if self.run.is_some_and(|before| before != run) {
            self.base = self.next;
        }
        self.run = Some(run);
    }

    /// Notes an engine that the controller tells of; returns what it is called here.
    pub(super) fn note(&mut self, engine: EngineId) -> EngineId {
        let here = self.here(engine);
        self.next = self.next.max(here.0.saturating_add(1));
        here
    }

    /// Returns what an engine is called here.
    pub(super) fn here(&self, engine: EngineId) -> EngineId {
        EngineId(self.base.saturating_add(engine.0))
    }

    /// Returns what an engine is called there; `None` if it was of an earlier run.
    pub(super) fn there(&self, engine: EngineId) -> Option<EngineId> {
        engine.0.checked_sub(self.base).map(EngineId)
    }

    /// Returns the engine that a task aims at and that is of an earlier run, if no other is left of those that it aims at.
    pub(super) fn gone(&self, target: &Target) -> Option<EngineId> {
        match target {
            Target::Any => None,
            Target::One(engine) => self.there(*engine).is_none().then_some(*engine),
            Target::Of(engines) => {
                let is_gone = engines.iter().all(|engine| self.there(*engine).is_none());
                engines.first().copied().filter(|_| is_gone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_a_controller_that_was_started_again_are_called_otherwise_than_those_before() {
        let mut ids = IdsHere::default();
        ids.begin(7);
        assert_eq!([0, 1].map(|id| ids.note(EngineId(id))), [EngineId(0), EngineId(1)]);
        // Another session with the same.
        ids.begin(7);
        assert_eq!(ids.note(EngineId(2)), EngineId(2));
        ids.begin(8);
        assert_eq!([0, 1].map(|id| ids.note(EngineId(id))), [EngineId(3), EngineId(4)]);
        assert_eq!((ids.there(EngineId(4)), ids.there(EngineId(1))), (Some(EngineId(1)), None));
        let of = |ids: &[u32]| Target::Of(ids.iter().map(|id| EngineId(*id)).collect());
        let cases = [
            (Target::Any, None),
            (Target::One(EngineId(1)), Some(EngineId(1))),
            (Target::One(EngineId(3)), None),
            (of(&[0, 1]), Some(EngineId(0))),
            (of(&[0, 3]), None),
            (of(&[]), None),
        ];
        for (target, expected) in cases {
            assert_eq!(ids.gone(&target), expected, "{target:?}");
        }
    }
}
