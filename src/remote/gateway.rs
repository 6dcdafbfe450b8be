//! The gateway: the actor that stands for an engine elsewhere. The Scheduler sends it what it sends any engine.
//!
//! It is on an arbiter of its own kind, beside its session: encoding runs code of the user's, behind `catch`, and must
//! hold up no controller.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::STOPPED;
use super::allowance::Allowance;
use super::attend::Said;
use super::calls::{Calls, Ready, Unencodable, encoded};
use super::fate::{Fate, Process};
use super::log_lines::LogLines;
use super::looks::Looks;
use super::sent::{Returned, Sent};
use crate::actors::{Lane as Finished, Scheduler};
use crate::apart;
use crate::catch::{self, shortened};
use crate::error::Error;
use crate::ledger::{Assignment, EngineOffer, HandBack};
use crate::limits::LABEL_BYTES_MAX;
use crate::messages::{
    Completion, EngineAddress, Failing, HandedBack, Join, Leave, Manner, Recall, Retire, Revoke, Run, StopEngine,
};
use crate::task::{Attempt, EngineId, Payload, Relayed, Stream, TaskId, TaskKind, WireCall};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Call, Encoded, FromEngine, Parcel, Print, ToEngine, decode, encode};
use crate::wire::session::Speaker;

/// Stands for an engine elsewhere.
pub(crate) struct Gateway {
    id: Option<EngineId>,
    pub(super) sent: Sent,
    /// How many messages with calls have been said.
    runs: u64,
    pub(super) parts: GatewayParts,
    pub(super) allowance: Allowance,
    /// The engine is gone; what it had goes back once the Scheduler sends it nothing more.
    lost: Option<Lost>,
    joining: Option<oneshot::Sender<Result<EngineId, Error>>>,
    /// It has said that its time is over.
    is_leaving: bool,
    log: LogLines,
    /// Who wants to know which task it runs.
    pub(super) looks: Looks,
}

/// What a gateway is made of.
pub(crate) struct GatewayParts {
    pub(crate) scheduler: Addr<Scheduler>,
    pub(crate) finished: Arc<Finished<Completion>>,
    pub(crate) speaker: Speaker,
    pub(crate) offer: EngineOffer,
    pub(crate) fate: Arc<Fate>,
    /// Its process, where that is one of this machine.
    pub(crate) process: Arc<dyn Process>,
    /// Where what it prints goes.
    pub(crate) printed: Box<dyn Fn(Stream, Box<str>) + Send>,
    pub(crate) printed_bytes_max: usize,
    /// How many tasks it may run before it is replaced, if that is bounded.
    pub(crate) tasks_max: Option<u32>,
}

/// The engine is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lost {
    /// What became of it.
    pub(crate) cause: Box<str>,
    /// What it printed that it could not tell any more.
    pub(crate) unread: Vec<(Stream, Box<str>)>,
}

/// The Scheduler sends nothing more here.
#[derive(Message)]
#[rtype(result = "()")]
struct NoMore;

impl Gateway {
    /// Starts a gateway on the present arbiter; returns its address, and its id when the engine has joined.
    pub(crate) fn join(parts: GatewayParts) -> (Addr<Self>, oneshot::Receiver<Result<EngineId, Error>>) {
        let (tell, told) = oneshot::channel();
        let allowance = Allowance::of(parts.tasks_max);
        let (sent, log, looks) = (Sent::default(), LogLines::default(), Looks::default());
        let joining = Some(tell);
        let gateway =
            Self { id: None, sent, runs: 0, parts, allowance, lost: None, joining, is_leaving: false, log, looks };
        (gateway.start(), told)
    }

    pub(super) fn say(&self, lane: Lane, what: &ToEngine, buffers: Vec<Bytes>) {
        self.parts.speaker.say_or_end(lane, encode(what, buffers));
    }

    fn say_run(&mut self, parcel: Parcel<Call>) {
        let Parcel { items, buffers, .. } = parcel;
        if !items.is_empty() {
            self.runs += 1;
            self.say(Lane::Bulk, &ToEngine::Run(items), buffers);
        }
    }

    fn report(&self, done: Vec<Completion>) {
        // An `Err` is an arbiter that is gone: it has settled its tasks.
        apart::discard(self.parts.finished.push(done).err().into_iter().flatten());
    }

    pub(super) fn hand_back(&self, batch: Vec<HandBack>) {
        let Some(engine) = self.id else { return };
        if !batch.is_empty() {
            self.parts.scheduler.do_send(HandedBack { engine, batch });
        }
    }

    /// Encodes what is sent, and notes it. Of many items that do not go together the last ones go back.
    fn send(&mut self, engine: EngineId, mut assignment: Assignment, out: &mut Calls) {
        match encoded(assignment.id, &assignment.payload) {
            Ok(Ready { call, kind, unencodable }) => {
                if let Some(front) = assignment.split_front(call.count) {
                    out.back.push(HandBack::unstarted(std::mem::replace(&mut assignment, front)));
                    if call.count == 1 {
                        // By itself it is encoded in another way.
                        return self.send(engine, assignment, out);
                    }
                }
                self.put(kind, call, assignment, unencodable, out);
            }
            Err(error) => {
                let Assignment { id, attempt, payload, .. } = assignment;
                catch::discard(payload);
                let (engine, outcome) = (Some(engine), Err(error));
                out.refused.push(Completion {
                    id,
                    count: 1,
                    attempt,
                    engine,
                    at: None,
                    ran: None,
                    outcome,
                    kept: None,
                    printed: None,
                });
            }
        }
    }

    fn put(
        &mut self,
        kind: &'static TaskKind,
        call: WireCall,
        mut assignment: Assignment,
        unencodable: Unencodable,
        out: &mut Calls,
    ) {
        out.used.extend(kept_as_bytes(kind, &call, &mut assignment, &unencodable));
        let Assignment { id, attempt, extras, .. } = &assignment;
        let label = extras.as_ref().and_then(|extras| extras.label.as_deref());
        let label: Option<Box<str>> = label.map(|label| shortened(label, LABEL_BYTES_MAX).into());
        out.parcel.bytes += label.as_ref().map_or(0, |label| label.len());
        let WireCall { key, count, inline, blobs } = call;
        let arguments = Encoded::put(inline, blobs, &mut out.parcel.buffers);
        let is_kept = extras.as_ref().is_some_and(|extras| extras.keep);
        out.parcel.items.push(Call { id: *id, count, attempt: *attempt, key, label, arguments, is_kept });
        self.sent.add(kind, count, assignment, unencodable);
        if out.parcel.is_full() {
            self.say_run(std::mem::take(&mut out.parcel));
        }
    }

    fn on_said(&mut self, message: &Message) -> Result<(), Box<str>> {
        let Some(engine) = self.id else { return Ok(()) };
        match decode(message)? {
            FromEngine::Ended(ends) => {
                self.parts.fate.has_returned.store(true, Ordering::Release);
                let (mut done, mut back, mut calls) = (Vec::with_capacity(ends.len()), Vec::new(), Vec::new());
                let mut lie = None;
                for end in ends {
                    match self.sent.on_ended(engine, end, |encoded| encoded.take(&message.buffers)) {
                        Ok(Returned::Done(completion, call)) => {
                            done.push(completion);
                            calls.push(call);
                        }
                        Ok(Returned::Back(task)) => back.push(task),
                        Err(reason) => {
                            lie = Some(reason);
                            break;
                        }
                    }
                }
                // What was sound before it counts.
                self.report(done);
                self.hand_back(back);
                apart::discard(calls.into_iter().filter(Payload::needs_drop));
                return lie.map_or(Ok(()), Err);
            }
            FromEngine::Back(tasks) => {
                let (mut back, mut lie) = (Vec::with_capacity(tasks.len()), None);
                for (span, attempt) in tasks {
                    match self.sent.on_back(span, attempt) {
                        Ok(task) => {
                            self.allowance.give_back(span.count);
                            back.push(task);
                        }
                        Err(reason) => {
                            lie = Some(reason);
                            break;
                        }
                    }
                }
                self.hand_back(back);
                return lie.map_or(Ok(()), Err);
            }
            FromEngine::Printed(Print { task, stream, text }) => self.on_printed(task, stream, text),
            FromEngine::Leaving => self.on_leaving(engine),
            FromEngine::Logged(line) => self.log.tell(Instant::now(), engine, &line),
            FromEngine::IsAt(is_at) => self.on_told(is_at)?,
        }
        Ok(())
    }
}

impl Gateway {
    fn on_printed(&mut self, task: Option<(TaskId, Attempt)>, stream: Stream, text: Box<str>) {
        if let Some((id, attempt)) = task {
            self.sent.on_printed(id, attempt, stream, &text, self.parts.printed_bytes_max);
        }
        (self.parts.printed)(stream, text);
    }

    /// The engine's time is over. It is retired as one that is removed on request, and told to stop when it has nothing left.
    fn on_leaving(&mut self, engine: EngineId) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.parts.scheduler.do_send(Retire { engines: vec![engine], cause: ITS_TIME_WAS_OVER.into() });
        }
    }
}

/// Keeps a call as it was encoded, for whoever may get it next; returns the arguments, which nobody needs any more.
///
/// Arguments whose drop runs no code are as good as bytes. Where an item cannot be encoded, all stay: it would have no error
/// of its own from there on.
fn kept_as_bytes(
    kind: &'static TaskKind,
    call: &WireCall,
    assignment: &mut Assignment,
    unencodable: &Unencodable,
) -> Option<Payload> {
    if !assignment.payload.needs_drop() || !unencodable.is_empty() {
        return None;
    }
    let relayed = Relayed::new(kind, call.clone())?;
    Some(std::mem::replace(&mut assignment.payload, Payload::Typed(Box::new(relayed))))
}

/// Why an engine goes that said so itself.
const ITS_TIME_WAS_OVER: &str = "its time was over, and it left";

impl Drop for Gateway {
    fn drop(&mut self) {
        apart::discard(self.sent.take_calls());
    }
}

/// How long an engine that is to stop may go on with what it runs.
const STOP_WAIT: Duration = Duration::from_millis(500);

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let address = EngineAddress::of(ctx.address()).telling(ctx.address().recipient());
        let offer = self.parts.offer.clone();
        let joined = self.parts.scheduler.send(Join { offer, address }).into_actor(self);
        // No message is handled before: without an id nothing could be handed back.
        ctx.wait(joined.map(|id, gateway, ctx| {
            let id = id.map_err(|_| Error::ClusterStopped);
            match &id {
                Ok(id) => {
                    gateway.id = Some(*id);
                    let _ = gateway.parts.fate.joined.set(*id);
                    gateway.say(Lane::Control, &ToEngine::Joined(*id), Vec::new());
                }
                Err(_) => ctx.stop(),
            }
            if let Some(tell) = gateway.joining.take() {
                // Who asked may have gone away.
                let _ = tell.send(id);
            }
        }));
    }
}

impl Handler<Run> for Gateway {
    type Result = ();

    fn handle(&mut self, msg: Run, _: &mut Context<Self>) {
        let Some(engine) = self.id else { return };
        let mut out = Calls::default();
        for assignment in self.within_bounds(engine, msg.batch) {
            self.send(engine, assignment, &mut out);
        }
        if !out.refused.is_empty() {
            self.report(out.refused);
        }
        self.say_run(out.parcel);
        self.hand_back(out.back);
        apart::discard(out.used);
    }
}

impl Handler<Revoke> for Gateway {
    type Result = ();

    fn handle(&mut self, msg: Revoke, ctx: &mut Context<Self>) {
        match msg.manner {
            Manner::Ask => {
                self.say(Lane::Control, &ToEngine::Revoke { tasks: msg.tasks, after: self.runs }, Vec::new());
            }
            Manner::Force => self.end_by_force(msg.tasks, ctx),
        }
    }
}

impl Handler<Recall> for Gateway {
    type Result = ();

    fn handle(&mut self, _: Recall, _: &mut Context<Self>) {
        if !self.allowance.keeps_what_it_has() {
            self.say(Lane::Control, &ToEngine::Recall, Vec::new());
        }
    }
}

impl Handler<NoMore> for Gateway {
    type Result = ();

    fn handle(&mut self, _: NoMore, ctx: &mut Context<Self>) {
        if let Some((Lost { cause, .. }, engine)) = self.lost.take().zip(self.id) {
            let had = self.sent.on_lost(engine, self.parts.process.begun(), &cause);
            self.parts.scheduler.do_send(Leave { engine, cause, had });
        }
        ctx.stop();
    }
}

impl Handler<StopEngine> for Gateway {
    type Result = ();

    fn handle(&mut self, msg: StopEngine, ctx: &mut Context<Self>) {
        self.parts.fate.is_stopped.store(true, Ordering::Release);
        self.allowance.on_stop(&msg.cause, &self.parts.fate);
        if self.lost.is_some() {
            // It had nothing, and the Scheduler has let it go.
            return ctx.stop();
        }
        self.say(Lane::Control, &ToEngine::Stop, Vec::new());
        // Whatever runs there then, nobody waits for.
        ctx.run_later(STOP_WAIT, |gateway, _| gateway.parts.speaker.close(STOPPED));
    }
}

impl Handler<Said> for Gateway {
    type Result = ();

    fn handle(&mut self, msg: Said, _: &mut Context<Self>) {
        let Said { message, credit } = msg;
        if let Err(reason) = self.on_said(&message) {
            tracing::warn!(engine = ?self.id, %reason, "an engine broke the protocol");
            self.parts.speaker.close(format!("protocol: {reason}"));
        }
        drop(credit);
    }
}

impl Handler<Lost> for Gateway {
    type Result = ();

    fn handle(&mut self, mut msg: Lost, ctx: &mut Context<Self>) {
        let last = self.sent.last_begun(self.parts.process.begun());
        for (stream, text) in std::mem::take(&mut msg.unread) {
            self.on_printed(last, stream, text);
        }
        if let Some(words) = last.and_then(|last| self.sent.last_words(last)) {
            msg.cause = format!("{}; it printed last: {}", msg.cause, words).into();
        }
        let is_stopped = self.parts.fate.is_stopped.load(Ordering::Acquire);
        match self.id.filter(|_| !is_stopped && self.parts.scheduler.connected()) {
            Some(engine) => {
                tracing::warn!(%engine, cause = &*msg.cause, tasks = self.sent.tasks(), "an engine is lost with the tasks that it has");
                let told = self.parts.scheduler.send(Failing { engine, cause: msg.cause.clone() });
                self.lost = Some(msg);
                // By the mailbox: behind all that was on its way here until the Scheduler knew.
                ctx.spawn(told.into_actor(self).map(|_, _, ctx| ctx.address().do_send(NoMore)));
            }
            None => ctx.stop(),
        }
    }
}
