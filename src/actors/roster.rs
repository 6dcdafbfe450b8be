//! The engines there are, for clients to read without asking, and who hears of those that come and go.

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use crate::limits::ENGINE_EVENTS_MAX;
use crate::messages::EngineEvent;
use crate::task::EngineId;

/// The engines' ids in order. Written by one actor only: the Scheduler, or in a client elsewhere the ControllerProxy.
#[derive(Debug)]
pub(crate) struct Roster {
    ids: RwLock<Vec<EngineId>>,
    /// `None` once the cluster ends.
    count: watch::Sender<Option<usize>>,
    /// `None` once the cluster ends.
    events: Mutex<Option<broadcast::Sender<EngineEvent>>>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            ids: RwLock::default(),
            count: watch::Sender::new(Some(0)),
            events: Mutex::new(Some(broadcast::Sender::new(ENGINE_EVENTS_MAX))),
        }
    }

    pub(crate) fn ids(&self) -> Vec<EngineId> {
        self.ids.read().clone()
    }

    pub(crate) fn add(&self, id: EngineId) {
        let mut ids = self.ids.write();
        // Ids are given in rising order. What is heard of elsewhere may be heard twice.
        let Err(place) = ids.binary_search(&id) else { return };
        ids.insert(place, id);
        // Before who waits for it: whoever follows from then on does not hear of it.
        self.tell(EngineEvent::Joined { engine: id });
        self.set_count(ids.len());
    }

    pub(crate) fn remove(&self, id: EngineId, cause: &str) {
        let mut ids = self.ids.write();
        let Ok(place) = ids.binary_search(&id) else { return };
        ids.remove(place);
        self.tell(EngineEvent::Left { engine: id, cause: cause.into() });
        self.set_count(ids.len());
    }

    /// Makes these the engines that there are: whoever follows hears what that changes.
    #[cfg(feature = "remote")]
    pub(crate) fn become_of(&self, mut engines: Vec<EngineId>) {
        // Each is found at once, and comes behind the others.
        engines.sort_unstable();
        let before = self.ids();
        let gone = before.iter().filter(|id| engines.binary_search(id).is_err());
        gone.for_each(|id| self.remove(*id, "the controller was away when it left, or is away"));
        engines.into_iter().for_each(|id| self.add(id));
    }

    /// Returns how many engines there are.
    #[cfg(feature = "remote")]
    pub(crate) fn len(&self) -> usize {
        self.ids.read().len()
    }

    /// Tells whoever follows that no engine joins any more.
    pub(crate) fn close(&self) {
        self.count.send_replace(None);
        drop(self.events.lock().take());
    }

    /// Takes every engine out: the cluster has ended.
    pub(crate) fn clear(&self) {
        self.close();
        self.ids.write().clear();
    }

    /// Returns whether no engine joins any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.count.borrow().is_none()
    }

    /// Follows how many engines there are; `None` once the cluster ends.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<usize>> {
        self.count.subscribe()
    }

    /// Follows the engines that come and go from now on; `None` if the cluster has ended.
    pub(crate) fn follow(&self) -> Option<broadcast::Receiver<EngineEvent>> {
        self.events.lock().as_ref().map(broadcast::Sender::subscribe)
    }

    fn set_count(&self, count: usize) {
        self.count
            .send_if_modified(|there| there.as_mut().is_some_and(|there| std::mem::replace(there, count) != count));
    }

    fn tell(&self, event: EngineEvent) {
        if let Some(events) = &*self.events.lock() {
            // An `Err` is nobody who listens.
            let _ = events.send(event);
        }
    }
}
