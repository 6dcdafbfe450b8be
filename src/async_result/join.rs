//! Several results as one.

use std::sync::Arc;

use super::many::Many;
use super::map::AsyncMapResult;
use super::one::not_decodable;
use super::origin::Origin;
use super::single::AsyncResult;
use crate::actors::Dispatcher;
use crate::error::{Error, TaskError};
use crate::task::{Run, TaskId, TaskKind, fingerprint, key_of};

/// The kind of no results at all.
static NOTHING: TaskKind = TaskKind {
    name: "nothing",
    version: 1,
    key: key_of("nothing", 1),
    fingerprint: fingerprint("nothing", 1, ""),
    idempotent: false,
    portable: false,
};

impl<T: Send + 'static> AsyncMapResult<T> {
    /// Joins results into one, in this order; of any view, cluster, executor or [`Promise`](crate::Promise).
    ///
    /// The values are moved into it as they come. Cancelling it cancels those that are not settled. The opposite of
    /// [`split`](Self::split).
    ///
    /// ```
    /// use callboard::{AsyncMapResult, Promise, prelude::*};
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let cluster = Cluster::threads(2).start()?;
    /// let view = cluster.client().load_balanced();
    /// let (promise, promised) = Promise::new("promised");
    /// let joined = AsyncMapResult::join([view.apply(square(3)), promised, view.apply(square(5))]);
    /// promise.fulfil(4);
    /// assert_eq!(joined.get()?, [9, 4, 25]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn join(results: impl IntoIterator<Item = AsyncResult<T>>) -> Self {
        let results: Vec<AsyncResult<T>> = results.into_iter().collect();
        let parts: Vec<(TaskId, Origin)> = results.iter().map(|result| (result.id(), result.origin())).collect();
        let kind = results.first().map_or(&NOTHING, AsyncResult::kind);
        let many = Many::of_joined(results.iter().map(AsyncResult::joined).collect(), kind, not_decodable);
        for (index, result) in (0..).zip(results) {
            move_into(&many, index, result);
        }
        Self::new(many, Origin::Joined(Arc::new(parts)))
    }
}

/// Has a result's outcome put into its place when it comes.
fn move_into<T: Send + 'static>(many: &Arc<Many<T>>, index: u32, mut result: AsyncResult<T>) {
    if result.ready() {
        return put(many, index, &mut result);
    }
    let place = many.clone();
    let registered = result.when_done(move |result| put(&place, index, result));
    if let Err(error) = registered {
        let error = match error {
            Error::Overloaded { what, limit } => TaskError::Overloaded { what, limit },
            _ => TaskError::Disconnected,
        };
        many.refuse(index, 1, error);
    }
}

fn put<T: Send + 'static>(many: &Many<T>, index: u32, result: &mut AsyncResult<T>) {
    let outcome = result.move_out();
    let run = result.run().unwrap_or_else(|| Run::none(&TaskError::Disconnected));
    if let Some(aftermath) = many.put(index, run, outcome) {
        Dispatcher::of_process().dispatch(*aftermath);
    }
}
