//! callboard itself: a cluster of thread engines, used through a load-balanced view.

use callboard::{Cluster, LoadBalancedView};

use super::Fallible;
use super::noop::Noop;
use super::yardsticks::System;

/// The name it has in the report.
pub(super) const NAME: &str = "callboard-threads";

pub(super) struct Threads {
    view: LoadBalancedView,
    /// Ends with this, and the view's engines with it.
    _cluster: Cluster,
}

/// Starts a cluster.
pub(super) fn set_up(engines: usize) -> Fallible<Box<dyn System>> {
    let cluster = Cluster::threads(engines).start()?;
    Ok(Box::new(Threads { view: cluster.client().load_balanced(), _cluster: cluster }))
}

impl System for Threads {
    fn burst(&mut self, tasks: usize) -> Fallible<()> {
        let results: Vec<_> = (0..tasks).map(|_| self.view.apply(Noop)).collect();
        for result in results {
            result.get()?;
        }
        Ok(())
    }

    fn round_trip(&mut self) -> Fallible<()> {
        Ok(self.view.apply(Noop).get()?)
    }
}
