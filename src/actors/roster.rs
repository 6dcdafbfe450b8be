//! The engines there are, for clients to read without asking.

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::task::EngineId;

/// The engines' ids in order; written by the Scheduler only.
#[derive(Debug)]
pub(crate) struct Roster {
    ids: RwLock<Vec<EngineId>>,
    /// `None` once the cluster ends.
    count: watch::Sender<Option<usize>>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self { ids: RwLock::default(), count: watch::Sender::new(Some(0)) }
    }

    pub(crate) fn ids(&self) -> Vec<EngineId> {
        self.ids.read().clone()
    }

    pub(crate) fn add(&self, id: EngineId) {
        let mut ids = self.ids.write();
        // Ids are given in rising order, so the list stays sorted.
        ids.push(id);
        self.set_count(ids.len());
    }

    pub(crate) fn remove(&self, id: EngineId) {
        let mut ids = self.ids.write();
        ids.retain(|&other| other != id);
        self.set_count(ids.len());
    }

    /// Tells whoever follows that no engine joins any more.
    pub(crate) fn close(&self) {
        self.count.send_replace(None);
    }

    /// Follows how many engines there are; `None` once the cluster ends.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<usize>> {
        self.count.subscribe()
    }

    fn set_count(&self, count: usize) {
        self.count
            .send_if_modified(|there| there.as_mut().is_some_and(|there| std::mem::replace(there, count) != count));
    }
}
