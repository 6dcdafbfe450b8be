//! callboard itself: a cluster, used through a load-balanced view.

use callboard::{Cluster, ClusterBuilder, LoadBalancedView};

use super::Fallible;
use super::noop::Noop;
use super::yardsticks::{Setup, System};

/// The name that a cluster of threads has in the report.
pub(super) const THREADS: &str = "callboard-threads";

/// The name that a cluster of child processes has in the report.
pub(super) const PROCESSES: &str = "callboard-processes";

/// Both, by how to set them up.
pub(super) const BOTH: [(&str, Setup); 2] = [(THREADS, set_up_threads), (PROCESSES, set_up_processes)];

struct Itself {
    view: LoadBalancedView,
    /// Ends with this, and the view's engines with it.
    _cluster: Cluster,
}

/// Starts a cluster of threads.
fn set_up_threads(engines: usize) -> Fallible<Box<dyn System>> {
    set_up(Cluster::threads(engines))
}

/// Starts a cluster of child processes.
fn set_up_processes(engines: usize) -> Fallible<Box<dyn System>> {
    set_up(Cluster::processes(engines))
}

fn set_up(cluster: ClusterBuilder) -> Fallible<Box<dyn System>> {
    let cluster = cluster.start()?;
    Ok(Box::new(Itself { view: cluster.client().load_balanced(), _cluster: cluster }))
}

impl System for Itself {
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
