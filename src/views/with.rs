//! Options of a call, set on a copy of a view: `view.with().retries(2).label("x").apply(task)`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::task::{Extras, Retries, Task, TaskKind};

/// What a view asks for beside the call; empty for most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    retries_on_error: u16,
    /// As the task says, if nobody said.
    retries_on_loss: Option<u16>,
    pub(crate) extras: Option<Arc<Extras>>,
}

impl Options {
    /// Returns the retries of a task bound to one engine.
    pub(super) fn retries_bound(&self) -> Retries {
        Retries { errors: self.retries_on_error, losses: self.retries_on_loss.unwrap_or(0) }
    }

    /// Returns the retries of a task that any of several engines may run.
    pub(super) fn retries_free<T: Task>(&self) -> Retries {
        self.retries_free_of(T::kind())
    }

    pub(super) fn retries_free_of(&self, kind: &TaskKind) -> Retries {
        Retries { errors: self.retries_on_error, losses: self.retries_on_loss.unwrap_or(kind.usual_losses()) }
    }

    fn extras_mut(&mut self) -> &mut Extras {
        Arc::make_mut(self.extras.get_or_insert_default())
    }
}

/// Where the options of a view are; seals [`With`].
pub trait HasOptions: Clone {
    #[doc(hidden)]
    fn options_mut(&mut self) -> &mut OptionsCell;
}

/// Keeps [`Options`] out of the public signature.
#[derive(Clone, Debug, Default)]
pub struct OptionsCell(pub(crate) Options);

/// Options of a call. Each returns a changed copy; the view itself stays as it is.
///
/// ```
/// use callboard::prelude::*;
///
/// #[task]
/// fn flaky(cx: &TaskContext) -> Result<u32, String> {
///     if cx.attempt().0 < 3 { Err("not yet".into()) } else { Ok(cx.attempt().0) }
/// }
///
/// let cluster = Cluster::threads(1).start()?;
/// let view = cluster.client().load_balanced();
/// let ar = view.with().retries(2).label("stubborn").apply(flaky());
/// assert_eq!(ar.get()?, 3);
/// assert_eq!(ar.metadata().label.as_deref(), Some("stubborn"));
/// # Ok::<(), callboard::Error>(())
/// ```
pub trait With: HasOptions {
    /// Returns a copy of the view, to set options on.
    #[must_use]
    fn with(&self) -> Self {
        self.clone()
    }

    /// Allows up to `times` more attempts, whatever ended the one before: an error, a panic, a lost engine.
    #[must_use]
    fn retries(mut self, times: u16) -> Self {
        let options = &mut self.options_mut().0;
        (options.retries_on_error, options.retries_on_loss) = (times, Some(times));
        self
    }

    /// Allows up to `times` more attempts after an engine was lost while it ran the task.
    ///
    /// Only where it is safe to run twice. Tasks marked `#[task(idempotent)]` have 2 on a load-balanced view.
    #[must_use]
    fn retries_on_loss(mut self, times: u16) -> Self {
        self.options_mut().0.retries_on_loss = Some(times);
        self
    }

    /// Allows up to `times` more attempts after an error or a panic.
    #[must_use]
    fn retries_on_error(mut self, times: u16) -> Self {
        self.options_mut().0.retries_on_error = times;
        self
    }

    /// Gives the tasks a name, found again in their records and in their context.
    #[must_use]
    fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.options_mut().0.extras_mut().label = Some(label.into());
        self
    }

    /// Settles the tasks as `TimedOut` if they are not done so long after their submission; where they wait for
    /// [admission](crate::LoadBalancedView::apply_when_admitted), so long after that.
    #[must_use]
    fn deadline(mut self, deadline: Duration) -> Self {
        self.options_mut().0.extras_mut().deadline = Some(deadline);
        self
    }

    /// Has so many items of a `map` travel together, instead of as many as the measured run time suggests.
    ///
    /// More of them cost less each; fewer are shared out more evenly, and come back sooner. 0 leaves the choice
    /// to the scheduler.
    #[must_use]
    fn chunksize(mut self, items: u32) -> Self {
        self.options_mut().0.extras_mut().chunksize = NonZeroU32::new(items);
        self
    }

    /// Has the result store keep the values, encoded, for [`Client::fetch`](crate::Client::fetch).
    #[must_use]
    fn keep(mut self) -> Self {
        self.options_mut().0.extras_mut().keep = true;
        self
    }
}

impl<V: HasOptions> With for V {}
