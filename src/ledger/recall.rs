//! Taking back what was sent ahead, where the guess of its run time was wrong.
//!
//! Tasks are sent ahead by how long they are expected to run. When one of them takes much longer, those behind
//! it would wait for it, though other engines are idle. So while an engine is idle, the ledger looks every few
//! milliseconds ([`RECALL_LOOK_MS`](crate::limits::RECALL_LOOK_MS)) at those that have more than they can run
//! at once. One that returned nothing between two looks is asked to hand back what it has not started, and
//! gets nothing more until it returns something.

use super::events::Ledger;
use super::orders::Order;

impl Ledger {
    /// Returns whether [`on_look`](Self::on_look) is to be called in a while: an engine is idle, and others
    /// have tasks that it might run.
    pub fn wants_look(&self) -> bool {
        self.fleet.has_idle() && self.fleet.has_givers()
    }

    /// A while has passed: engines that were silent all the while hand back what they have not started.
    pub fn on_look(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        if !self.wants_look() {
            return orders;
        }
        for place in self.fleet.givers() {
            let engine = self.fleet.get_mut(place);
            if !engine.is_silent {
                engine.is_silent = true;
            } else if self.has_idle_peer(place) {
                let engine = self.fleet.get_mut(place);
                engine.is_recalled = true;
                orders.push(Order::Recall { engine: engine.id });
                self.fleet.list(place);
            }
        }
        orders
    }

    /// Returns whether an idle engine may run tasks of a set that this engine is in.
    fn has_idle_peer(&self, place: u32) -> bool {
        let sets = &self.fleet.get(place).sets;
        sets.iter()
            .map(|set| self.sets.get(set as u32))
            .any(|set| set.tasks > 0 && self.fleet.has_idle_of(&set.members))
    }
}
