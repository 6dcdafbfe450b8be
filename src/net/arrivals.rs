//! Engines of launches that have joined: each says of which it is by its number, which its connection file has.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::task::EngineId;

/// The engines that have joined, by launch.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<u64, Vec<EngineId>>>);

impl Arrivals {
    /// Notes from now on who joins of a launch.
    pub(crate) fn expect(&self, number: u64) {
        self.0.lock().entry(number).or_default();
    }

    /// An engine has joined, of the launch of this number, if there is one.
    pub(super) fn on_joined(&self, number: u64, engine: EngineId) {
        if let Some(joined) = self.0.lock().get_mut(&number) {
            joined.push(engine);
        }
    }

    /// Returns those of a launch that have joined, in order; also if they have left since.
    pub(crate) fn of(&self, number: u64) -> Vec<EngineId> {
        let mut joined = self.0.lock().get(&number).cloned().unwrap_or_default();
        joined.sort_unstable();
        joined
    }

    /// Forgets a launch.
    pub(crate) fn forget(&self, number: u64) {
        self.0.lock().remove(&number);
    }
}
