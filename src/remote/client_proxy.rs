//! The client's proxy: the actor that stands for a client elsewhere. It submits what that submits, as a view of this
//! process would, and tells it how its tasks ended.
//!
//! It is on an arbiter of the network's, beside its session.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;

use super::answers::answered;
use super::attend::Said;
use super::behind::Behind;
use super::claims::{Called, Claims};
use super::on_hosts::{HostParts, OnHosts};
use super::slowness::{Slowness, WAITING_BYTES_MAX};
use super::trouble::{ns, put, told};
use super::{Gone, STOPPED, TOO_SLOW};
use crate::actors::{Counted, Lane as Told, LaneStream, tell};
use crate::catch::shortened;
use crate::ledger::Request;
use crate::limits::{CANCEL_REASON_BYTES_MAX, CLIENT_LOOKS_MAX, QUESTIONS_MAX};
use crate::messages::{Aftermath, Cancel, EngineEvent, Flow, Manner, Settle, Submission, Waiter};
use crate::registry::Registry;
use crate::task::{Outcome, Run, Span, TaskId};
use crate::views::{LinkParts, weight_of};
use crate::wire::clients::{self, FromClient, Question, Refusal, Settled, ToClient, Wish};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Body, Parcel, decode, encode};
use crate::wire::session::Speaker;

/// Stands for a client elsewhere.
pub(crate) struct ClientProxy {
    client: u64,
    parts: ClientProxyParts,
    claims: Claims,
    /// How many calls were taken in.
    submitted: u64,
    behind: Behind,
    /// How many questions are not answered.
    pub(super) questions: usize,
    /// How many of these are where tasks are.
    looks: usize,
    /// How its tasks ended.
    settled: Arc<Told<Ended>>,
    slowness: Slowness,
    /// It does not take what its tasks return, and no more of them start.
    is_held: bool,
    /// It broke the protocol.
    has_lied: bool,
    pub(super) on_hosts: OnHosts,
}

/// What it is made of.
#[derive(Clone)]
pub(crate) struct ClientProxyParts {
    /// Where the actors of the cluster are reached.
    pub(crate) link: LinkParts,
    /// Who starts its tasks.
    pub(crate) flow: Recipient<Flow>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) speaker: Speaker,
    pub(crate) hosts: HostParts,
}

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
            claims: Claims::of(client),
            submitted: 0,
            behind: Behind::default(),
            questions: 0,
            looks: 0,
            settled: Told::new(),
            slowness: Slowness::default(),
            is_held: false,
            has_lied: false,
            on_hosts: OnHosts::new(parts.hosts.clone()),
            parts,
        };
        proxy.start()
    }

    pub(super) fn say(&mut self, lane: Lane, what: &ToClient, buffers: Vec<Bytes>) {
        let message = encode(what, buffers);
        if !self.cut_off_if_slow(message.bytes()) {
            self.parts.speaker.say_or_end(lane, message);
        }
    }

    /// Returns how many bytes wait for it to take them.
    fn waiting(&self) -> usize {
        self.parts.speaker.waiting(Lane::Bulk) + self.parts.speaker.waiting(Lane::Control)
    }

    /// Ends the session of a client that is too slow for so many bytes more; returns whether it is.
    fn cut_off_if_slow(&mut self, bytes: usize) -> bool {
        let (waiting, written) = (self.waiting(), self.parts.speaker.written());
        let is_too_slow = self.slowness.is_too_slow(bytes, waiting, written);
        if is_too_slow {
            tracing::warn!(
                client = format_args!("{:x}", self.client),
                waiting,
                "a client takes too little of what is said to it, and is cut off"
            );
            self.parts.speaker.abandon(TOO_SLOW);
        }
        is_too_slow
    }

    /// Has no more of its tasks start while much waits for it to take it; looks again in a while.
    fn hold_or_release(&mut self, ctx: &mut Context<Self>) {
        const LOOK: Duration = Duration::from_millis(10);
        let enough = if self.is_held { WAITING_BYTES_MAX / 2 } else { WAITING_BYTES_MAX };
        if self.waiting() <= enough || self.parts.speaker.has_ended() {
            if std::mem::take(&mut self.is_held) {
                self.parts.flow.do_send(Flow::Released(self.client));
            }
            return;
        }
        self.is_held = true;
        // Each time: the end of an earlier session of this client releases it too.
        self.parts.flow.do_send(Flow::Held(self.client));
        if !self.cut_off_if_slow(0) {
            ctx.run_later(LOOK, Self::hold_or_release);
        }
    }

    fn say_engines(&mut self) {
        self.say(Lane::Control, &ToClient::Engines(self.parts.link.roster.ids()), Vec::new());
    }

    fn on_said(&mut self, message: &Message, ctx: &mut Context<Self>) -> Result<(), Box<str>> {
        match decode(message)? {
            FromClient::Functions(functions) => self.claims.name(functions, &self.parts.registry)?,
            FromClient::Engines(number, engines) => self.claims.aim(number, engines)?,
            FromClient::Submit(calls) => {
                self.submitted += calls.len() as u64;
                let mut taken = Vec::with_capacity(calls.len());
                for call in calls {
                    match self.claims.request(call, message)? {
                        Called::Taken(request, bytes) => taken.push(submission(request, bytes, &self.settled)),
                        Called::Refused { id, count, key, error } => {
                            let (run, outcome) = (Run::none(&error), Err(error));
                            drop(self.settled.push([Ended { id, count, key, run, outcome }]));
                        }
                    }
                }
                self.submit(taken);
                self.catch_up(ctx)?;
            }
            FromClient::Behind(submitted, wish) => {
                self.behind.put(submitted, wish)?;
                self.catch_up(ctx)?;
            }
            FromClient::Program(hash) => self.on_program(hash, message)?,
        }
        Ok(())
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
        while let Some(wish) = self.behind.next(self.submitted) {
            match wish {
                Wish::Cancel { tasks, reason, manner } => {
                    let (tasks, reason) = (self.claims.own(tasks)?, shortened(&reason, CANCEL_REASON_BYTES_MAX).into());
                    let manner = match manner {
                        clients::Manner::Ask => Manner::Ask,
                        clients::Manner::Force => Manner::Force,
                    };
                    self.parts.link.cancel.do_send(Cancel { tasks, reason, manner });
                }
                Wish::Answer(number, Question::State(_)) if self.looks >= CLIENT_LOOKS_MAX => {
                    self.say_answer(number, Err(Refusal::Overloaded(CLIENT_LOOKS_MAX as u64)), Vec::new());
                }
                Wish::Answer(number, _) if self.questions >= QUESTIONS_MAX => {
                    self.say_answer(number, Err(Refusal::Overloaded(QUESTIONS_MAX as u64)), Vec::new());
                }
                Wish::Answer(number, Question::RunOnHosts(wanted)) => self.run_on_hosts(number, *wanted, ctx),
                Wish::Answer(number, Question::LeaveHosts(launch)) => self.leave_hosts(number, launch, ctx),
                Wish::Answer(number, question) => {
                    let looks = usize::from(matches!(question, Question::State(_)));
                    self.questions += 1;
                    self.looks += looks;
                    let answer = answered(question, self.client, self.parts.link.questions.clone());
                    ctx.spawn(answer.into_actor(self).map(move |answer, proxy, _| {
                        proxy.questions -= 1;
                        proxy.looks -= looks;
                        let mut buffers = Vec::new();
                        let answer = answer.map(|answer| answer.put(|bytes| Body::put(bytes, &mut buffers)));
                        proxy.say_answer(number, answer, buffers);
                    }));
                }
            }
        }
        Ok(())
    }

    pub(super) fn say_answer(
        &mut self,
        number: u64,
        answer: Result<clients::Answer, clients::Refusal>,
        buffers: Vec<Bytes>,
    ) {
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

/// Makes of a request what a view makes; who waits is the client.
fn submission(request: Request, bytes: usize, settled: &Arc<Told<Ended>>) -> Submission {
    let (first, count, key) = (request.id, request.payload.count(), request.kind.key);
    let waiting = Arc::new(Waiting { first, key, settled: settled.clone() });
    Submission { request, weight: weight_of(bytes).max(count), waiter: Some(Waiter::new(waiting, 0, count)) }
}

fn settled(ended: Ended, buffers: &mut Vec<Bytes>) -> Settled {
    let Ended { id, count, key, run, outcome } = ended;
    let Run { engine, attempt, started, completed, printed, .. } = run;
    let ran_ns = started.map(|started| ns(completed.since(started)));
    Settled {
        id,
        count,
        key,
        attempt,
        engine,
        ran_ns,
        outcome: put(outcome, buffers),
        printed: told(printed, Span { first: id, count }),
    }
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
    fn handle(&mut self, batch: Vec<Ended>, ctx: &mut Context<Self>) {
        self.tell(batch);
        if !self.is_held {
            self.hold_or_release(ctx);
        }
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
        if self.has_lied {
            // Nothing counts behind that.
            return;
        }
        if let Err(reason) = self.on_said(&message, ctx) {
            tracing::warn!(%reason, "a client broke the protocol");
            self.has_lied = true;
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
        if self.is_held {
            self.parts.flow.do_send(Flow::Released(self.client));
        }
        self.on_hosts.end_all();
        ctx.stop();
    }
}
