//! Letting an engine go in good order.
//!
//! It gets nothing more, and is asked to hand back what it has not started. Of that, and of what waits, some may move
//! on to another engine, and has used no attempt; what no other may run settles as lost, at once: the task that
//! runs there may take hours. When nothing is left there the engine is dismissed, and leaves.

use super::events::Ledger;
use super::orders::Order;
use crate::task::EngineId;

impl Ledger {
    /// An engine is to go, in good order: it gets nothing more, hands back what it has not started, and leaves when
    /// it has returned what it runs. What waits for it and no other is lost.
    pub fn on_retire(&mut self, engine: EngineId, cause: &str) -> Vec<Order> {
        let mut orders = Vec::new();
        let Some(place) = self.fleet.find(engine) else { return orders };
        self.fleet.get_mut(place).retiring = Some(cause.into());
        self.fleet.list(place);
        if self.fleet.get(place).outstanding > 0 {
            orders.push(Order::Recall { engine });
        }
        self.run_down(place, &mut orders);
        orders
    }

    /// Returns why an engine is to go, if it is.
    pub fn why_it_goes(&self, engine: EngineId) -> Option<&str> {
        self.fleet.get(self.fleet.find(engine)?).retiring.as_deref()
    }

    /// An engine is lost, as whoever stands for it says: it gets nothing more. What it had they hand back next, with
    /// [`on_lost_engine`](Self::on_lost_engine).
    pub fn on_failing(&mut self, engine: EngineId, cause: &str) {
        let Some(place) = self.fleet.find(engine) else { return };
        let engine = self.fleet.get_mut(place);
        (engine.retiring, engine.is_failing) = (Some(cause.into()), true);
        self.fleet.list(place);
    }

    /// Settles what waits for an engine that is to go and for no other; dismisses it if it has nothing left.
    pub(super) fn run_down(&mut self, place: u32, orders: &mut Vec<Order>) {
        let engine = self.fleet.get_mut(place);
        let (id, cause) = (engine.id, engine.retiring.clone().unwrap_or_default());
        for ticket in engine.direct.drain(|_| true) {
            if self.is_good(ticket) {
                self.lose(ticket.slot, id, &cause, orders);
            }
        }
        let engine = self.fleet.get(place);
        if engine.outstanding == 0 && !engine.is_failing {
            orders.push(Order::Dismiss { engine: id, cause });
        }
    }
}
