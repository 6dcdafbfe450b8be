//! The systems that callboard is laid beside: other ways to have a call made on another thread and to wait
//! for its result.

use actix::{Addr, Handler, Message, SyncArbiter, SyncContext, SystemRunner};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Fallible;

/// A way to have no-ops run, ready to take them.
pub(super) trait System {
    /// Submits no-ops one by one, so that all are in flight, then waits for each.
    fn burst(&mut self, tasks: usize) -> Fallible<()>;

    /// Submits one no-op and waits for it.
    fn round_trip(&mut self) -> Fallible<()>;
}

/// How to set one up, with so many threads; on the thread that then uses it.
pub(super) type Setup = fn(usize) -> Fallible<Box<dyn System>>;

/// Every yardstick that takes calls, by the name it has in the report.
pub(super) const YARDSTICKS: [(&str, Setup); 3] = [
    ("rayon", |threads| Ok(Box::new(Rayon::new(threads)?))),
    ("spawn_blocking", |_| Ok(Box::new(SpawnBlocking::new()?))),
    ("sync_arbiter", |threads| Ok(Box::new(Arbiter::new(threads)))),
];

/// `spawn` on a pool of its own, each call with a oneshot for its result.
struct Rayon(rayon::ThreadPool);

impl Rayon {
    fn new(threads: usize) -> Fallible<Self> {
        Ok(Self(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?))
    }

    fn spawn(&self) -> oneshot::Receiver<()> {
        let (tell, result) = oneshot::channel();
        // It fails only where nobody waits, and somebody does.
        self.0.spawn(move || _ = tell.send(()));
        result
    }
}

impl System for Rayon {
    fn burst(&mut self, tasks: usize) -> Fallible<()> {
        let results: Vec<_> = (0..tasks).map(|_| self.spawn()).collect();
        for result in results {
            result.blocking_recv()?;
        }
        Ok(())
    }

    fn round_trip(&mut self) -> Fallible<()> {
        Ok(self.spawn().blocking_recv()?)
    }
}

/// `tokio::task::spawn_blocking`, on a runtime as tokio makes it: its pool grows to 512 threads.
struct SpawnBlocking(Runtime);

impl SpawnBlocking {
    fn new() -> Fallible<Self> {
        Ok(Self(tokio::runtime::Builder::new_multi_thread().build()?))
    }
}

impl System for SpawnBlocking {
    fn burst(&mut self, tasks: usize) -> Fallible<()> {
        let results: Vec<_> = (0..tasks).map(|_| self.0.spawn_blocking(|| ())).collect();
        self.0.block_on(async {
            for result in results {
                result.await?;
            }
            Ok(())
        })
    }

    fn round_trip(&mut self) -> Fallible<()> {
        let result = self.0.spawn_blocking(|| ());
        Ok(self.0.block_on(result)?)
    }
}

/// actix's own pool of threads for blocking work.
struct Arbiter {
    system: SystemRunner,
    workers: Addr<Worker>,
}

struct Worker;

#[derive(Message)]
#[rtype(result = "()")]
struct Call;

impl Arbiter {
    fn new(threads: usize) -> Self {
        let system = actix::System::new();
        let workers = system.block_on(async move { SyncArbiter::start(threads, || Worker) });
        Self { system, workers }
    }
}

impl actix::Actor for Worker {
    type Context = SyncContext<Self>;
}

impl Handler<Call> for Worker {
    type Result = ();

    fn handle(&mut self, _: Call, _: &mut SyncContext<Self>) {}
}

impl System for Arbiter {
    fn burst(&mut self, tasks: usize) -> Fallible<()> {
        // The message is on its way from here on, polled or not.
        let results: Vec<_> = (0..tasks).map(|_| self.workers.send(Call)).collect();
        self.system.block_on(async {
            for result in results {
                result.await?;
            }
            Ok(())
        })
    }

    fn round_trip(&mut self) -> Fallible<()> {
        let result = self.workers.send(Call);
        Ok(self.system.block_on(result)?)
    }
}
