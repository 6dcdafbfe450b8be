//! Callbacks: what is called, or sent, when a result is settled.
//!
//! Each holds a handle of its own, so that the value is there for it also when the caller's result is dropped.

use actix::dev::SendError;
use actix::{Message, Recipient};

use super::map::{AsyncMapResult, OnDrop};
use super::origin::Origin;
use super::single::AsyncResult;
use crate::error::{CompositeError, Error, TaskError};
use crate::messages::{Aftermath, Callback, MoreCallbacks, TaskDone};

impl<T: Send + 'static> AsyncResult<T> {
    /// Has `recipient` sent a [`TaskDone`] when the task is settled; at once if it is.
    ///
    /// Sent once. A recipient that is gone is counted in `QueueStatus::undeliverable_callbacks`. Keep an address of
    /// the actor for as long as it is to hear anything: the recipient is let go once it was told, and actix ends
    /// an actor of which nobody holds an address, even with a message before it.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many callbacks are registered already.
    pub fn on_done(&self, recipient: Recipient<TaskDone>) -> Result<(), Error> {
        self.register(Callback::Message(recipient))
    }

    /// Has `callback` called with this result when the task is settled; at once if it is.
    ///
    /// Called once, on one of a few plain threads: it may block, panic, submit work and wait on other
    /// results. The callbacks of one result are called one after the other, in the order of registration.
    ///
    /// The result lives for it also when it was dropped here. But there is one value: what was moved out before, by
    /// `.await`, [`take`](Self::take) or [`pipe_to`](Self::pipe_to), is `AlreadyTaken` for the callback, and the other way round.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many callbacks are registered already.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Self) + Send + 'static) -> Result<(), Error> {
        let handle = self.second_handle();
        self.register(Callback::Closure(Box::new(move || callback(&handle))))
    }

    /// Has the outcome itself sent to an actor, as its message `M`. Keep an address of the actor, as for
    /// [`on_done`](Self::on_done).
    ///
    /// ```
    /// use actix::prelude::*;
    /// use callboard::prelude::*;
    ///
    /// #[derive(Message)]
    /// #[rtype(result = "()")]
    /// struct Squared(Result<u64, TaskError>);
    ///
    /// impl From<Result<u64, TaskError>> for Squared {
    ///     fn from(outcome: Result<u64, TaskError>) -> Self { Self(outcome) }
    /// }
    /// # #[task]
    /// # fn square(x: u64) -> u64 { x * x }
    /// # struct Me(Option<tokio::sync::oneshot::Sender<u64>>);
    /// # impl Actor for Me { type Context = Context<Self>; }
    /// # impl Handler<Squared> for Me {
    /// #     type Result = ();
    /// #     fn handle(&mut self, m: Squared, _: &mut Context<Self>) { self.0.take().unwrap().send(m.0.unwrap()).unwrap(); }
    /// # }
    /// # System::new().block_on(async {
    /// # let cluster = Cluster::threads(1).start().unwrap();
    /// # let view = cluster.client().load_balanced();
    /// # let (tx, rx) = tokio::sync::oneshot::channel();
    /// # let me = Me(Some(tx)).start();
    /// view.apply(square(7)).pipe_to(me.clone().recipient::<Squared>())?;
    /// # assert_eq!(rx.await.unwrap(), 49);
    /// # Ok::<(), callboard::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many callbacks are registered already; then the task is detached.
    pub fn pipe_to<M>(self, recipient: Recipient<M>) -> Result<(), Error>
    where
        M: Message + Send + From<Result<T, TaskError>> + 'static,
        M::Result: Send,
    {
        self.when_done(move |result| send(&recipient, M::from(result.move_out()), &result.origin))
    }

    /// Has `then` called with the result once it is settled, on one of the callbacks' threads.
    pub(super) fn when_done(self, then: impl FnOnce(&mut Self) + Send + 'static) -> Result<(), Error> {
        let mut handle = self.second_handle();
        self.register(Callback::Closure(Box::new(move || then(&mut handle))))
    }

    /// Makes a handle for a callback, or for whoever waits for an answer.
    pub(super) fn second_handle(&self) -> Self {
        self.one.handover.hold();
        Self { one: self.one.clone(), origin: self.origin.clone() }
    }

    fn register(&self, callback: Callback) -> Result<(), Error> {
        self.origin.count_callback()?;
        if let Some(callback) = self.one.handover.on_done(callback) {
            let done = Some(TaskDone { record: self.one.record() });
            let more = Some(MoreCallbacks::of(self.one.clone(), 0));
            self.origin.dispatch(Aftermath { done, callbacks: [callback].into(), more, ..Aftermath::default() });
        }
        Ok(())
    }
}

impl<T: Send + 'static> AsyncMapResult<T> {
    /// Has `callback` called with this result when all tasks are settled; at once if they are.
    ///
    /// As [`AsyncResult::add_done_callback`].
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many callbacks are registered already.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Self) + Send + 'static) -> Result<(), Error> {
        let handle = self.second_handle();
        self.register(Callback::Closure(Box::new(move || callback(&handle))))
    }

    /// Has all values sent to an actor, as its message `M`, when all tasks are settled.
    ///
    /// As [`AsyncResult::pipe_to`].
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many callbacks are registered already; then the tasks are detached.
    pub fn pipe_to<M>(mut self, recipient: Recipient<M>) -> Result<(), Error>
    where
        M: Message + Send + From<Result<Vec<T>, CompositeError>> + 'static,
        M::Result: Send,
    {
        self.on_drop = OnDrop::Detach;
        let handle = self.second_handle();
        self.register(Callback::Closure(Box::new(move || {
            send(&recipient, M::from(handle.move_out()), &handle.origin);
        })))
    }

    fn second_handle(&self) -> Self {
        self.many.hold();
        Self { many: self.many.clone(), origin: self.origin.clone(), on_drop: OnDrop::Detach }
    }

    fn register(&self, callback: Callback) -> Result<(), Error> {
        self.origin.count_callback()?;
        if let Some(callback) = self.many.on_done(callback) {
            let more = Some(MoreCallbacks::of(self.many.clone(), 0));
            self.origin.dispatch(Aftermath { callbacks: [callback].into(), more, ..Aftermath::default() });
        }
        Ok(())
    }
}

/// Sends an outcome to an actor, past the bound of its mailbox: the callback was counted when it was registered.
fn send<M>(recipient: &Recipient<M>, message: M, origin: &Origin)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match recipient.try_send(message) {
        Ok(()) => {}
        Err(SendError::Full(message)) => recipient.do_send(message),
        Err(SendError::Closed(_)) => origin.on_undeliverable(),
    }
}
