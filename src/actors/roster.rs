//! The engines there are, for clients to read without asking.

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::task::EngineId;

/// The engines' ids in order; written by the Scheduler only.
#[derive(Debug)]
pub(crate) struct Roster {
    ids: RwLock<Vec<EngineId>>,
    count: watch::Sender<usize>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self { ids: RwLock::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn ids(&self) -> Vec<EngineId> {
        self.ids.read().clone()
    }

    pub(crate) fn add(&self, id: EngineId) {
        let mut ids = self.ids.write();
        // Ids are given in rising order, so the list stays sorted.
        ids.push(id);
        self.count.send_replace(ids.len());
    }

    pub(crate) fn remove(&self, id: EngineId) {
        let mut ids = self.ids.write();
        ids.retain(|&other| other != id);
        self.count.send_replace(ids.len());
    }

    /// Follows how many engines there are.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
