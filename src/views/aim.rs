//! Where the tasks of a view's executor go: one engine each, also where the view has several.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::with::{HasOptions, Options};
use super::{DirectView, EngineView, LoadBalancedView};
use crate::error::TaskError;
use crate::task::{EngineId, Retries, Target, TaskKind};

/// A view that has an executor; sealed.
///
/// ```
/// use callboard::{ExecutorView, ViewExecutor, prelude::*};
///
/// fn workers<V: ExecutorView>(executor: &ViewExecutor<V>) -> usize {
///     executor.max_workers()
/// }
/// let cluster = Cluster::threads(3).start()?;
/// let rc = cluster.client();
/// assert_eq!((workers(&rc.executor()), workers(&rc.engine(0)?.executor())), (3, 1));
/// # Ok::<(), callboard::Error>(())
/// ```
pub trait ExecutorView: HasOptions + fmt::Debug + Send + Sync + 'static {
    #[doc(hidden)]
    fn aim(&self) -> Aim<'_>;
}

/// What an executor needs of its view.
#[derive(Clone)]
pub struct Aim<'v> {
    pub(crate) link: &'v Arc<Link>,
    pub(crate) options: &'v Options,
    engines: Engines<'v>,
}

#[derive(Clone)]
enum Engines<'v> {
    One(EngineId),
    /// Each task goes to one of these, in turn.
    InTurn(Arc<[EngineId]>),
    /// Each task goes to the best of these; `None` for all.
    Best(Option<&'v Arc<[EngineId]>>),
}

impl Aim<'_> {
    /// Returns where the task goes that is the `turn`th.
    pub(crate) fn target(&self, turn: usize) -> Result<Target, TaskError> {
        Ok(match &self.engines {
            Engines::One(engine) => Target::One(*engine),
            Engines::InTurn(engines) if engines.is_empty() => return Err(TaskError::NoEngines),
            Engines::InTurn(engines) => Target::One(engines[turn % engines.len()]),
            Engines::Best(None) => Target::Any,
            Engines::Best(Some(engines)) => Target::Of((*engines).clone()),
        })
    }

    pub(crate) fn retries(&self, kind: &TaskKind) -> Retries {
        match self.engines {
            Engines::One(_) | Engines::InTurn(_) => self.options.retries_bound(),
            Engines::Best(_) => self.options.retries_free_of(kind),
        }
    }

    /// Returns how many of the view's engines are there now.
    pub(crate) fn engines_now(&self) -> usize {
        let now = self.link.roster().ids();
        let there = |engines: &[EngineId]| engines.iter().filter(|engine| now.binary_search(engine).is_ok()).count();
        match &self.engines {
            Engines::One(engine) => there(&[*engine]),
            Engines::InTurn(engines) => there(engines),
            Engines::Best(None) => now.len(),
            Engines::Best(Some(engines)) => there(engines),
        }
    }
}

impl fmt::Debug for Aim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aim")
    }
}

impl ExecutorView for EngineView {
    fn aim(&self) -> Aim<'_> {
        Aim { link: &self.link, options: &self.options.0, engines: Engines::One(self.engine) }
    }
}

impl ExecutorView for DirectView {
    fn aim(&self) -> Aim<'_> {
        Aim { link: &self.link, options: &self.options.0, engines: Engines::InTurn(self.targets()) }
    }
}

impl ExecutorView for LoadBalancedView {
    fn aim(&self) -> Aim<'_> {
        Aim { link: &self.link, options: &self.options.0, engines: Engines::Best(self.engines.as_ref()) }
    }
}
