//! What every combinator has: the executor inside, and what it took and has not settled.

use std::sync::Arc;

use super::relay::{self, Errand};
use crate::async_result::Reply;
use crate::executors::{Call, Executor, InFlight, Job};
use crate::messages::Pending;

/// The executor inside, maybe another, and what is in flight.
pub(super) struct Inside<E> {
    pub(super) executor: E,
    pub(super) other: Option<Arc<dyn Executor>>,
    pub(super) in_flight: InFlight,
}

impl<E: Executor + 'static> Inside<E> {
    pub(super) fn new(executor: E, other: Option<Arc<dyn Executor>>) -> Arc<Self> {
        let inside = Arc::new(Self { executor, other, in_flight: InFlight::new() });
        // Weak: an executor that is never shut down ends when it is dropped.
        let over = Arc::downgrade(&inside);
        inside.in_flight.when_over(move || {
            if let Some(inside) = over.upgrade() {
                inside.end().for_each(drop);
            }
        });
        inside
    }

    /// Takes calls in, and hands each on as the errand that is made of it.
    pub(super) fn hand_on(&self, calls: Vec<Call<'_>>, errand: impl FnMut(Job) -> Option<Errand>) {
        let jobs: Vec<_> = calls.into_iter().filter_map(|call| self.in_flight.admit(call)).collect();
        relay::hand_on(&self.executor, jobs.into_iter().filter_map(errand).collect());
    }

    /// Takes nothing more; ends the executor inside once nothing is left, whether anybody waits for it or not.
    pub(super) fn shutdown(self: &Arc<Self>, pending: Pending) -> Reply<()> {
        self.in_flight.close(pending);
        let (ended, inside) = (self.in_flight.ended(), self.clone());
        Reply::new(async move {
            ended.await?;
            let replies: Vec<_> = inside.end().collect();
            for reply in replies {
                reply.await?;
            }
            Ok(())
        })
    }

    fn end(&self) -> impl Iterator<Item = Reply<()>> {
        let other = self.other.as_ref().map(|other| other.shutdown(Pending::Finish));
        [self.executor.shutdown(Pending::Finish)].into_iter().chain(other)
    }
}

/// The parts of an executor that a combinator has of the one inside, and those that all have in common.
macro_rules! passes_on {
    () => {
        fn max_workers(&self) -> usize {
            self.inside.executor.max_workers()
        }

        fn pending_max(&self) -> usize {
            self.inside.executor.pending_max()
        }

        fn pending_bytes_max(&self) -> usize {
            self.inside.executor.pending_bytes_max()
        }

        fn shutdown(&self, pending: crate::messages::Pending) -> crate::async_result::Reply<()> {
            self.inside.shutdown(pending)
        }
    };
}

pub(super) use passes_on;
