//! The client's proxy: the actor that stands for a client elsewhere. It submits what that submits, as a view of this
//! process would, and tells it how its tasks ended.
//!
//! It is on an arbiter of the network's, beside its session.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;

use super::answers::{answered, refused};
use super::attend::Said;
use super::conversation::AIMS_MAX;
use super::functions::{Named, named};
use super::slowness::Slowness;
use super::trouble::{ns, put, told};
use super::{Gone, STOPPED};
use crate::actors::{Counted, Lane as Told, LaneStream, tell};
use crate::ledger::Request;
use crate::messages::{Aftermath, Cancel, EngineEvent, Manner, Settle, Submission, Waiter};
use crate::registry::Registry;
use crate::task::{
    EngineId, ErasedTask, Extras, Outcome, Payload, Relayed, Retries, Run, Span, Target, TaskId, WireCall,
};
use crate::views::{LinkParts, weight_of};
use crate::wire::clients::{self, Aim, FromClient, Settled, Submitted, ToClient, Wish};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Body, Parcel, decode, encode};
use crate::wire::session::Speaker;

/// Stands for a client elsewhere.
pub(crate) struct ClientProxy {
    client: u64,
    parts: ClientProxyParts,
    /// Functions that it has named, by their keys.
    functions: HashMap<u64, Named>,
    /// Engines that it aims at, by its numbers.
    aims: HashMap<u32, Arc<[EngineId]>>,
    /// How many calls were taken in.
    submitted: u64,
    /// What is to be done behind calls that have not come.
    behind: VecDeque<(u64, Wish)>,
    /// How many questions are not answered.
    questions: usize,
    /// How its tasks ended.
    settled: Arc<Told<Ended>>,
    slowness: Slowness,
}

/// What it is made of.
#[derive(Clone)]
pub(crate) struct ClientProxyParts {
    /// Where the actors of the cluster are reached.
    pub(crate) link: LinkParts,
    pub(crate) registry: Arc<Registry>,
    pub(crate) speaker: Speaker,
}

/// Questions of one client that are not answered; each is a few hundred bytes.
const QUESTIONS_MAX: usize = 4_096;

/// Functions that one client may name; with 300 bytes each some 3 MB.
const FUNCTIONS_MAX: usize = 10_000;

/// How tasks of the client ended.
struct Ended {
    id: TaskId,
    count: u32,
    key: u64,
    run: Run,
    outcome: Outcome,
}

impl Counted for Ended {}

/// Takes the outcomes of one call, or of several items, for a client elsewhere.
struct Waiting {
    first: TaskId,
    key: u64,
    settled: Arc<Told<Ended>>,
}

impl Settle for Waiting {
    fn settle(&self, index: u32, count: u32, run: Run, outcome: Outcome) -> Option<Box<Aftermath>> {
        let ended = Ended { id: self.first.plus(index), count, key: self.key, run, outcome };
        // An `Err` is a client that is gone. What came as bytes runs no code when it is dropped.
        drop(self.settled.push([ended]));
        None
    }
}

/// The cluster has ended, and every task is settled.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Goodbye;

impl ClientProxy {
    /// Starts the proxy of the client of this number on the present arbiter.
    pub(crate) fn start_for(client: u64, parts: ClientProxyParts) -> Addr<Self> {
        let proxy = Self {
            client,
            parts,
            functions: HashMap::new(),
            aims: HashMap::new(),
            submitted: 0,
            behind: VecDeque::new(),
            questions: 0,
            settled: Told::new(),
            slowness: Slowness::default(),
        };
        proxy.start()
    }

    fn say(&mut self, lane: Lane, what: &ToClient, buffers: Vec<Bytes>) {
        let (message, speaker) = (encode(what, buffers), &self.parts.speaker);
        if self.slowness.is_too_slow(message.bytes(), speaker.waiting(Lane::Bulk) + speaker.waiting(Lane::Control)) {
            tracing::warn!(client = self.client, "a client takes nothing of what is said to it, and is cut off");
            return speaker.abandon("slow consumer: nothing was taken of what was said");
        }
        speaker.say_or_end(lane, message);
    }

    fn say_engines(&mut self) {
        self.say(Lane::Control, &ToClient::Engines(self.parts.link.roster.ids()), Vec::new());
    }

    fn on_said(&mut self, message: &Message, ctx: &mut Context<Self>) -> Result<(), Box<str>> {
        match decode(message)? {
            FromClient::Functions(functions) => {
                for function in functions {
                    let named = named(function, &self.parts.registry)?;
                    self.functions.insert(named.kind.key, named);
                }
                if self.functions.len() > FUNCTIONS_MAX {
                    return Err(format!("it calls more than {FUNCTIONS_MAX} functions").into());
                }
            }
            FromClient::Engines(number, engines) if number < AIMS_MAX => {
                self.aims.insert(number, engines.into());
            }
            FromClient::Engines(..) => return Err("it aims at too many sets of engines".into()),
            FromClient::Submit(calls) => {
                self.submitted += calls.len() as u64;
                let taken: Result<Vec<_>, _> = calls.into_iter().map(|call| self.take_in(call, message)).collect();
                self.submit(taken?);
                self.catch_up(ctx)?;
            }
            FromClient::Behind(submitted, wish) => {
                if self.behind.len() >= QUESTIONS_MAX {
                    return Err("it wants too much at once".into());
                }
                self.behind.push_back((submitted, wish));
                self.catch_up(ctx)?;
            }
        }
        Ok(())
    }

    /// Makes of a call what a view makes.
    fn take_in(&self, call: Submitted, message: &Message) -> Result<Submission, Box<str>> {
        let Submitted { id, count, key, aim, retries, label, deadline_ns, is_kept, chunksize, arguments } = call;
        if id.client != self.client {
            return Err("it submits a task by another client's number".into());
        }
        let Named { kind, is_ours } = *self.functions.get(&key).ok_or("it calls a function that it has not named")?;
        let (inline, blobs) = arguments.take(&message.buffers).ok_or("arguments are in a buffer that did not come")?;
        let bytes = inline.len() + blobs.iter().map(Bytes::len).sum::<usize>();
        let relayed = Relayed::new(kind, WireCall { key, count, inline, blobs });
        // Nothing in the place of a task is a task that was cancelled on its way through the ledger, and settles nowhere else.
        let relayed = relayed.filter(|relayed| relayed.live() == count);
        let relayed = relayed.ok_or_else(|| format!("what came are not the arguments of {count} tasks"))?;
        let payload = Payload::Typed(Box::new(if is_ours { relayed } else { relayed.foreign() }));
        let target = match aim {
            Aim::Any => Target::Any,
            Aim::One(engine) => Target::One(engine),
            Aim::Of(number) => {
                Target::Of(self.aims.get(&number).ok_or("it aims at engines of no such number")?.clone())
            }
        };
        let (errors, losses) = retries;
        let deadline = deadline_ns.map(Duration::from_nanos);
        let extras =
            Extras { label: label.map(Into::into), deadline, keep: is_kept, chunksize: NonZeroU32::new(chunksize) };
        let extras = (extras != Extras::default()).then(|| Arc::new(extras));
        let waiting = Arc::new(Waiting { first: id, key, settled: self.settled.clone() });
        let request = Request { id, kind, payload, target, retries: Retries { errors, losses }, extras };
        let weight = weight_of(bytes).max(count);
        Ok(Submission { request, weight, waiter: Some(Waiter::new(waiting, 0, count)) })
    }

    /// Hands over what admission lets in; the rest is settled as refused.
    fn submit(&self, calls: Vec<Submission>) {
        let LinkParts { admission, submissions, .. } = &self.parts.link;
        let (mut admitted, mut refusals) = (Vec::with_capacity(calls.len()), Vec::new());
        for mut call in calls {
            match admission.try_admit(call.request.payload.count(), call.weight) {
                Ok(()) => admitted.push(call),
                Err(error) => refusals.extend(call.waiter.take().map(|waiter| (waiter, error))),
            }
        }
        // Where the cluster is gone, dropping the waiters settles them.
        drop(submissions.push(admitted));
        for (waiter, error) in refusals {
            drop(waiter.settle(Run::none(&error), Err(error)));
        }
    }

    /// Does what was to be done behind calls that have come.
    fn catch_up(&mut self, ctx: &mut Context<Self>) -> Result<(), Box<str>> {
        while self.behind.front().is_some_and(|(behind, _)| *behind <= self.submitted)
            && let Some((_, wish)) = self.behind.pop_front()
        {
            match wish {
                Wish::Cancel { tasks, reason, manner } => {
                    let is_own = |span: &Span| span.first.client == self.client && span.count > 0;
                    if !tasks.iter().all(is_own) {
                        return Err("it cancels another client's tasks".into());
                    }
                    let manner = match manner {
                        clients::Manner::Ask => Manner::Ask,
                        clients::Manner::Force => Manner::Force,
                    };
                    self.parts.link.cancel.do_send(Cancel { tasks, reason, manner });
                }
                Wish::Answer(number, _) if self.questions >= QUESTIONS_MAX => {
                    self.say_answer(number, Err(refused("too many of your questions wait already")), Vec::new());
                }
                Wish::Answer(number, question) => {
                    self.questions += 1;
                    let answer = answered(question, self.client, self.parts.link.questions.clone());
                    ctx.spawn(answer.into_actor(self).map(move |answer, proxy, _| {
                        proxy.questions -= 1;
                        let mut buffers = Vec::new();
                        let answer = answer.map(|answer| answer.put(|bytes| Body::put(bytes, &mut buffers)));
                        proxy.say_answer(number, answer, buffers);
                    }));
                }
            }
        }
        Ok(())
    }

    fn say_answer(&mut self, number: u64, answer: Result<clients::Answer, clients::Refusal>, buffers: Vec<Bytes>) {
        // Whoever hears that tasks are settled finds them so.
        self.tell_settled();
        self.say(Lane::Bulk, &ToClient::Answer(number, answer), buffers);
    }

    fn tell_settled(&mut self) {
        while let Some(batch) = self.settled.take() {
            self.tell(batch);
        }
    }

    fn tell(&mut self, batch: Vec<Ended>) {
        let mut parcel = Parcel::default();
        for ended in batch {
            let settled = settled(ended, &mut parcel.buffers);
            parcel.bytes += settled.text_bytes();
            parcel.items.push(settled);
            if parcel.is_full() {
                let Parcel { items, buffers, .. } = std::mem::take(&mut parcel);
                self.say(Lane::Bulk, &ToClient::Settled(items), buffers);
            }
        }
        if !parcel.items.is_empty() {
            self.say(Lane::Bulk, &ToClient::Settled(parcel.items), parcel.buffers);
        }
    }
}

fn settled(ended: Ended, buffers: &mut Vec<Bytes>) -> Settled {
    let Ended { id, count, key, run, outcome } = ended;
    let Run { engine, attempt, started, completed, printed, .. } = run;
    let ran_ns = started.map(|started| ns(completed.since(started)));
    Settled { id, count, key, attempt, engine, ran_ns, outcome: put(outcome, buffers), printed: told(printed) }
}

impl Actor for ClientProxy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(LaneStream::new(self.settled.clone(), self.parts.link.limits.spin()));
        // First of all what is there; who comes and goes from now on is told behind it, some perhaps again.
        let events = self.parts.link.roster.follow();
        self.say_engines();
        let me = ctx.address();
        ctx.spawn(
            async move {
                if let Some(events) = events {
                    tell(events, me.recipient()).await;
                }
            }
            .into_actor(self)
            .map(|(), proxy, _| proxy.say(Lane::Control, &ToClient::Ending, Vec::new())),
        );
    }
}

impl StreamHandler<Vec<Ended>> for ClientProxy {
    fn handle(&mut self, batch: Vec<Ended>, _: &mut Context<Self>) {
        self.tell(batch);
    }
}

impl Handler<EngineEvent> for ClientProxy {
    type Result = ();

    fn handle(&mut self, event: EngineEvent, _: &mut Context<Self>) {
        match event {
            EngineEvent::Joined { engine } => self.say(Lane::Control, &ToClient::Joined(engine), Vec::new()),
            EngineEvent::Left { engine, cause } => {
                self.say(Lane::Control, &ToClient::Left(engine, (*cause).into()), Vec::new());
            }
            EngineEvent::Missed { .. } => self.say_engines(),
        }
    }
}

impl Handler<Said> for ClientProxy {
    type Result = ();

    fn handle(&mut self, msg: Said, ctx: &mut Context<Self>) {
        let Said { message, credit } = msg;
        if let Err(reason) = self.on_said(&message, ctx) {
            tracing::warn!(%reason, "a client broke the protocol");
            self.parts.speaker.close(format!("protocol: {reason}"));
        }
        drop(credit);
    }
}

impl Handler<Goodbye> for ClientProxy {
    type Result = ();

    fn handle(&mut self, _: Goodbye, _: &mut Context<Self>) {
        self.tell_settled();
        self.parts.speaker.close(STOPPED);
    }
}

/// The client has gone: its tasks go on, and nobody is told of them.
impl Handler<Gone> for ClientProxy {
    type Result = ();

    fn handle(&mut self, _: Gone, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
