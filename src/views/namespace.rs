//! Values on engines: push, pull, scatter, gather.

use super::direct::{DirectView, parts_of};
use super::engine::EngineView;
use super::link::Call;
use crate::async_result::{AsyncMapResult, AsyncResult, Reply};
use crate::error::{CompositeError, Error, TaskError};
use crate::task::{Clear, Pull, Pulled, Push, Pushable, Shared, Target};

impl EngineView {
    /// Keeps a value on the engine, under a name; tasks find it there with
    /// [`TaskContext::pushed`](crate::TaskContext::pushed).
    pub fn push<T: Pushable>(&self, name: impl Into<String>, value: T) -> AsyncResult<()> {
        self.apply(Push { name: name.into(), value: Shared::of(value) })
    }

    /// Fetches the value that the engine has under a name. Settles as `Failed` if it has none, or one of another
    /// type.
    pub fn pull<T: Pushable>(&self, name: impl Into<String>) -> AsyncResult<Pulled<T>> {
        self.apply(Pull::new(name.into()))
    }

    /// Has the engine forget what this client pushed.
    pub fn clear(&self) -> AsyncResult<()> {
        self.apply(Clear)
    }
}

impl DirectView {
    /// Keeps a value on every engine, under a name; engines of this process share it, uncopied.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// let cluster = Cluster::threads(3).start()?;
    /// let dv = cluster.client().all();
    /// dv.push("a", 7_u32).wait()?;
    /// let values = dv.pull::<u32>("a").get()?;
    /// assert!(values.len() == 3 && values.iter().all(|a| **a == 7));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn push<T: Pushable>(&self, name: impl Into<String>, value: T) -> AsyncMapResult<()> {
        self.apply(Push { name: name.into(), value: Shared::of(value) })
    }

    /// Fetches the value that each engine has under a name. Settles as `Failed` where an engine has none, or one
    /// of another type.
    pub fn pull<T: Pushable>(&self, name: impl Into<String>) -> AsyncMapResult<Pulled<T>> {
        self.apply(Pull::new(name.into()))
    }

    /// Parts the items among the engines, and keeps each part on its engine, as a `Vec<T>` under the name.
    ///
    /// The parts are as those of [`map`](Self::map). An engine that gets no item has an empty part.
    ///
    /// ```
    /// use callboard::prelude::*;
    ///
    /// #[task]
    /// fn double_all(cx: &TaskContext) -> Result<(), TaskFailure> {
    ///     let mut part = cx.pushed::<Vec<i64>>("x")?.into_inner();
    ///     part.iter_mut().for_each(|x| *x *= 2);
    ///     cx.push("x", part)
    /// }
    ///
    /// let cluster = Cluster::threads(4).start()?;
    /// let dv = cluster.client().all();
    /// dv.scatter("x", (0..10_i64).collect()).wait()?;
    /// dv.apply(double_all()).wait()?;
    /// assert_eq!(dv.gather::<i64>("x").get()?, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn scatter<T>(&self, name: impl Into<String>, items: Vec<T>) -> AsyncMapResult<()>
    where
        Vec<T>: Pushable,
    {
        let engines = self.targets();
        let name = name.into();
        let push = |part| Push { name: name.clone(), value: Shared::of(part) };
        let parts = parts_of(items, engines.len()).into_iter().map(push);
        let options = self.options();
        let (link, many) = (self.link(), self.link().many::<Push>(engines.len().max(1) as u32, options));
        if engines.is_empty() {
            many.refuse(0, 1, TaskError::NoEngines);
        }
        let calls = engines.iter().zip(parts);
        let calls = calls.map(|(&engine, push)| Call::of(Target::One(engine), options.retries_bound(), push));
        link.submit_many(&many, options, calls);
        AsyncMapResult::new(many, link.clone())
    }

    /// Fetches what each engine has under a name, a `Vec<T>`, and puts the parts together, in the order of the
    /// engines. The opposite of [`scatter`](Self::scatter).
    ///
    /// Answers [`Error::Composite`] if an engine has nothing under the name, or something else.
    pub fn gather<T: Clone>(&self, name: impl Into<String>) -> Reply<Vec<T>>
    where
        Vec<T>: Pushable,
    {
        let parts = self.pull::<Vec<T>>(name);
        Reply::new(async move {
            let parts: Result<_, CompositeError> = parts.await;
            Ok(concatenated(parts.map_err(Error::from)?))
        })
    }

    /// Has every engine forget what this client pushed.
    pub fn clear(&self) -> AsyncMapResult<()> {
        self.apply(Clear)
    }
}

fn concatenated<T: Clone>(parts: Vec<Pulled<Vec<T>>>) -> Vec<T> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}
