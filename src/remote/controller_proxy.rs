//! The controller's proxy: the actor that stands for a controller elsewhere in a client's process. Views hand it what they
//! hand a Scheduler, and it tells the ResultStore of this process how tasks ended there.
//!
//! Results, records and callbacks are here, with actors of the same kinds as a cluster's own. They do not know where the
//! tasks run.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::attend::Said;
use super::calls::encoded_all;
use super::conversation::Conversation;
use super::ids_here::IdsHere;
use super::trouble::{About, printed, take};
use crate::actors::{CallbackCounts, Callbacks, Lane as Handed, LaneStream, ResultStore, Roster, Subscribers};
use crate::error::TaskError;
use crate::limits::ENGINES_TOLD_MAX;
use crate::messages::{Cancel, Completion, Discard, LoseAll, Settled, Submission, Submit, Watch};
use crate::registry::Registry;
use crate::task::{Attempt, Moment, TaskId};
use crate::wire::clients::{self, ToClient};
use crate::wire::frame::Message;
use crate::wire::protocol::decode;
use crate::wire::session::Speaker;

/// Stands for a controller elsewhere.
pub(crate) struct ControllerProxy {
    pub(super) parts: ControllerProxyParts,
    /// What is said to the controller; `None` while it is away.
    pub(super) conversation: Option<Conversation>,
    ids: IdsHere,
    pub(super) subscribers: Subscribers,
    /// Told when it is known which engines there are.
    ready: Option<oneshot::Sender<()>>,
}

/// What it is made of.
pub(crate) struct ControllerProxyParts {
    /// The client's own number, which its tasks have.
    pub(crate) client: u64,
    pub(crate) store: Addr<ResultStore>,
    pub(crate) callbacks: Addr<Callbacks>,
    pub(crate) counts: Arc<CallbackCounts>,
    pub(crate) roster: Arc<Roster>,
    /// What views push.
    pub(crate) submissions: Arc<Handed<Submission>>,
    /// Where outcomes are pushed.
    pub(crate) finished: Arc<Handed<Completion>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) patience: Duration,
}

/// A session with the controller has begun: what was said in others is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Connected {
    pub(crate) speaker: Speaker,
    /// Which run of the controller it is.
    pub(crate) run: u64,
}

/// The controller cannot be reached. Whoever waits for it is told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Away;

/// The peer that an actor stood for is gone for good.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Gone;

impl ControllerProxy {
    /// Makes one; `ready` is told when it is known which engines there are.
    pub(crate) fn new(parts: ControllerProxyParts, ready: oneshot::Sender<()>) -> Self {
        Self {
            parts,
            conversation: None,
            ids: IdsHere::default(),
            subscribers: Subscribers::default(),
            ready: Some(ready),
        }
    }

    /// Takes in what views pushed before the message at hand; what they push meanwhile holds it up no longer.
    pub(super) fn take_in(&mut self, ctx: &mut Context<Self>) {
        let mut before = self.parts.submissions.len();
        while before > 0
            && let Some(batch) = self.parts.submissions.take()
        {
            before = before.saturating_sub(batch.len());
            Handler::handle(self, Submit { batch }, ctx);
        }
    }

    pub(super) fn finish(&self, done: Vec<Completion>) {
        if !done.is_empty() {
            // An `Err` is a store that is gone: it has settled its tasks.
            crate::apart::discard(self.parts.finished.push(done).err().into_iter().flatten());
        }
    }

    fn on_said(&mut self, message: &Message) -> Result<(), Box<str>> {
        match decode(message)? {
            ToClient::Settled(settled) => {
                let done: Result<Vec<_>, _> = settled.into_iter().map(|one| self.completion(one, message)).collect();
                self.finish(done?);
            }
            ToClient::Answer(number, answer) => {
                let Some(conversation) = &mut self.conversation else { return Ok(()) };
                conversation.on_answer(number, answer, message, &self.parts)?;
            }
            ToClient::Engines(engines) => {
                within_bounds(engines.len())?;
                self.parts.roster.become_of(engines.into_iter().map(|engine| self.ids.note(engine)).collect());
                if let Some(ready) = self.ready.take() {
                    // Who connected may have gone away.
                    let _ = ready.send(());
                }
            }
            ToClient::Joined(engine) => {
                within_bounds(self.parts.roster.len() + 1)?;
                self.parts.roster.add(self.ids.note(engine));
            }
            ToClient::Left(engine, cause) => self.parts.roster.remove(self.ids.here(engine), &cause),
            ToClient::Ending => self.parts.roster.close(),
            ToClient::Wanted(program) => {
                let Some(conversation) = &mut self.conversation else { return Ok(()) };
                conversation.on_wanted(program)?;
            }
        }
        Ok(())
    }

    fn completion(&self, settled: clients::Settled, message: &Message) -> Result<Completion, Box<str>> {
        let clients::Settled { id, count, key, attempt, engine, ran_ns, outcome, printed: texts } = settled;
        let kind = self.conversation.as_ref().and_then(|conversation| conversation.kind(key));
        let kind = kind.ok_or("a task settled whose function was not called")?;
        let is_said = self.conversation.as_ref().is_some_and(|conversation| conversation.has_said(id.seq, count));
        if count == 0 || id.client != self.parts.client || !is_said {
            return Err("tasks settled that are not this client's".into());
        }
        let (ids, engine) = (self.ids, engine.map(|engine| self.ids.here(engine)));
        let about = About { task: id, name: kind.short_name(), attempt, ids };
        let outcome = take(outcome, count, about, &message.buffers)?;
        let (ran, printed) = (ran_ns.map(Duration::from_nanos), printed(texts));
        Ok(Completion { id, count, attempt, engine, at: None, ran, outcome, kept: None, printed })
    }

    /// Settles what nobody will.
    fn lose_all(&mut self) {
        self.conversation = None;
        // Behind the outcomes that came.
        while let Some(batch) = self.parts.finished.take() {
            self.parts.store.do_send(crate::messages::Finished { batch });
        }
        self.parts.store.do_send(LoseAll);
    }
}

fn within_bounds(engines: usize) -> Result<(), Box<str>> {
    if engines > ENGINES_TOLD_MAX {
        return Err(format!("there are {engines} engines, of at most {ENGINES_TOLD_MAX}").into());
    }
    Ok(())
}

impl Actor for ControllerProxy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(LaneStream::new(self.parts.submissions.clone(), self.parts.patience));
    }
}

impl Drop for ControllerProxy {
    fn drop(&mut self) {
        self.parts.roster.clear();
    }
}

/// What views pushed is one `Submit`.
impl StreamHandler<Vec<Submission>> for ControllerProxy {
    fn handle(&mut self, batch: Vec<Submission>, ctx: &mut Context<Self>) {
        Handler::handle(self, Submit { batch }, ctx);
    }
}

impl Handler<Submit> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, msg: Submit, _: &mut Context<Self>) {
        let now = Moment::now();
        let (watched, requests): (_, Vec<_>) = msg.batch.into_iter().map(|submission| submission.split(now)).unzip();
        // Before the controller hears of them, or an outcome might find nobody waiting for it.
        self.parts.store.do_send(Watch { batch: watched });
        let (mut failed, mut discard) = (Vec::new(), Vec::new());
        let mut fail = |id: TaskId, count, error| failed.push(Completion::without_value(id, count, error));
        for mut request in requests {
            let Some(conversation) = &mut self.conversation else {
                fail(request.id, request.payload.count(), TaskError::Disconnected);
                discard.push(request.payload);
                continue;
            };
            if let Some(engine) = self.ids.gone(&request.target) {
                let cause = "it was the controller's before that was started again".into();
                let error = TaskError::EngineLost { engine, attempt: Attempt(0), cause };
                fail(request.id, request.payload.count(), error);
                discard.push(request.payload);
                continue;
            }
            for (first, count, ready) in encoded_all(request.id, &mut request.payload, &mut discard) {
                match ready {
                    Ok(ready) => conversation.put(first, &request, ready.call),
                    Err(error) => fail(first, count, error),
                }
            }
            discard.push(request.payload);
        }
        if let Some(conversation) = &mut self.conversation {
            conversation.say_calls();
        }
        discard.retain(crate::task::Payload::needs_drop);
        if !discard.is_empty() {
            self.parts.callbacks.do_send(Discard { batch: discard });
        }
        self.finish(failed);
    }
}

impl Handler<Cancel> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, msg: Cancel, ctx: &mut Context<Self>) {
        self.take_in(ctx);
        let Cancel { tasks, reason, manner } = msg;
        let manner = match manner {
            crate::messages::Manner::Ask => clients::Manner::Ask,
            crate::messages::Manner::Force => clients::Manner::Force,
        };
        if let Some(conversation) = &mut self.conversation {
            conversation.cancel(&tasks, &reason, manner);
        }
    }
}

/// The ResultStore's word of what it settled: the controller knows already.
impl Handler<Settled> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, _: Settled, _: &mut Context<Self>) {}
}

impl Handler<Said> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, msg: Said, _: &mut Context<Self>) {
        let Said { message, credit } = msg;
        if self.conversation.as_ref().is_some_and(Conversation::has_broken) {
            // Nothing counts behind that.
            return;
        }
        if let Err(reason) = self.on_said(&message) {
            tracing::warn!(%reason, "the controller broke the protocol");
            if let Some(conversation) = &mut self.conversation {
                conversation.break_off(&reason);
            }
        }
        drop(credit);
    }
}

impl Handler<Connected> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, msg: Connected, _: &mut Context<Self>) {
        if self.conversation.is_some() {
            self.lose_all();
        }
        let Connected { speaker, run } = msg;
        self.ids.begin(run);
        self.conversation = Some(Conversation::with(speaker, self.ids));
    }
}

impl Handler<Away> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, _: Away, _: &mut Context<Self>) {
        self.lose_all();
        self.parts.roster.become_of(Vec::new());
    }
}

impl Handler<Gone> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, _: Gone, ctx: &mut Context<Self>) {
        self.parts.roster.clear();
        self.take_in(ctx);
        self.lose_all();
        ctx.stop();
    }
}

/// The last client of this process has gone: what was submitted is still said.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

impl Handler<Leave> for ControllerProxy {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
        self.take_in(ctx);
        match &self.conversation {
            Some(conversation) => conversation.close("the client has left"),
            None => ctx.stop(),
        }
    }
}
