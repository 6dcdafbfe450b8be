//! What a client's process says to its controller: calls, wishes, questions, and who waits for which answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use actix::dev::OneshotSender;
use actix::prelude::*;
use bytes::Bytes;

use super::answers::{error_of, record_of};
use super::controller_proxy::{ControllerProxy, ControllerProxyParts};
use super::functions::function;
use super::ids_here::IdsHere;
use super::trouble::ns;
use crate::actors::{Asked, ToAsk};
use crate::catch::shortened;
use crate::error::Error;
use crate::host::{LeaveHosts, ProgramHash, RunOnHosts, Running};
use crate::ledger::{EngineStatus, QueueStatus, Request};
use crate::limits::{CANCEL_REASON_BYTES_MAX, LABEL_BYTES_MAX};
use crate::messages::{
    FetchKept, GetRecord, GetRecords, GetState, GetStatus, Kept, Pending, Purge, Stop, Subscribe, TakeIn,
};
use crate::task::{EngineId, Extras, Record, Retries, Span, Target, TaskId, TaskKind, TaskState, WireCall};
use crate::wire::clients::{self, Aim, Answer, FromClient, Manner, Question, Refusal, Submitted, Wish};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Encoded, Parcel, encode};
use crate::wire::session::Speaker;

/// One controller that is spoken with, from the first word on.
pub(super) struct Conversation {
    speaker: Speaker,
    ids: IdsHere,
    /// Functions that were named to it, by their keys.
    kinds: HashMap<u64, &'static TaskKind>,
    /// Engines that were told to it by number: the views' own lists, by their addresses, the oldest first.
    aims: VecDeque<(u32, Arc<[EngineId]>)>,
    next_aim: u32,
    /// Calls that are to be said.
    calls: Parcel<Submitted>,
    /// How many calls were put there since the start.
    submitted: u64,
    /// What comes behind the highest number of a task that was.
    end: u64,
    /// What was wished ahead of calls since there were none on their way, in bytes.
    ahead: usize,
    /// Who waits for the answer to which question.
    askers: HashMap<u64, Asker>,
    next_question: u64,
    has_broken: bool,
}

/// Sets of engines that a client may aim at, at once; a view that was not used for long is told again.
pub(super) const AIMS_MAX: u32 = 256;

/// What one question takes where it is kept.
const WISH_BYTES: usize = 1 << 10;

/// What is wished ahead of calls, in bytes as they are kept there, so that a controller keeps all of it.
const AHEAD_BYTES_MAX: usize = 2 << 20;

/// Spans of tasks that are cancelled by one message.
const CANCEL_SPANS_MAX: usize = 64 << 10;

/// Joins spans that follow one another.
fn joined(tasks: &[Span]) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::with_capacity(tasks.len());
    for &span in tasks {
        match joined.last_mut() {
            Some(last) if last.first.plus(last.count) == span.first && last.count.checked_add(span.count).is_some() => {
                last.count += span.count;
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// Who waits for an answer. Dropping it tells them that there is none.
enum Asker {
    Status(OneshotSender<QueueStatus>),
    Record(OneshotSender<Result<Record, Error>>),
    Kept(OneshotSender<Result<Kept, Error>>),
    Done(OneshotSender<()>),
    State(OneshotSender<Result<Option<TaskState>, Error>>),
    /// With the program, which may be wanted.
    OnHosts(OneshotSender<Result<Running, Error>>, ProgramHash, Bytes, ToAsk<LeaveHosts>),
}

impl Conversation {
    pub(super) fn with(speaker: Speaker, ids: IdsHere) -> Self {
        Self {
            speaker,
            ids,
            kinds: HashMap::new(),
            aims: VecDeque::new(),
            next_aim: 0,
            calls: Parcel::default(),
            submitted: 0,
            end: 0,
            ahead: 0,
            askers: HashMap::new(),
            next_question: 0,
            has_broken: false,
        }
    }

    /// Returns the function of this key, if it was called.
    pub(super) fn kind(&self, key: u64) -> Option<&'static TaskKind> {
        self.kinds.get(&key).copied()
    }

    /// Returns whether tasks up to these were submitted.
    pub(super) fn has_said(&self, first: u64, count: u32) -> bool {
        first.checked_add(count.into()).is_some_and(|end| end <= self.end)
    }

    /// The controller broke the protocol.
    pub(super) fn break_off(&mut self, reason: &str) {
        self.has_broken = true;
        self.close(format!("protocol: {reason}"));
    }

    /// Returns whether it did.
    pub(super) fn has_broken(&self) -> bool {
        self.has_broken
    }

    pub(super) fn close(&self, reason: impl Into<Box<str>>) {
        self.speaker.close(reason);
    }

    fn say(&self, lane: Lane, what: &FromClient, buffers: Vec<bytes::Bytes>) {
        self.speaker.say_or_end(lane, encode(what, buffers));
    }

    /// Puts a call, or several of a request, with those that are to be said.
    pub(super) fn put(&mut self, id: TaskId, request: &Request, call: WireCall) {
        if self.kinds.insert(request.kind.key, request.kind).is_none() {
            self.say(Lane::Bulk, &FromClient::Functions(vec![function(request.kind)]), Vec::new());
        }
        let aim = self.aim(&request.target);
        let extras = request.extras.as_deref().cloned().unwrap_or_default();
        let Extras { label, deadline, keep, chunksize } = extras;
        let Retries { errors, losses } = request.retries;
        let WireCall { key, count, inline, blobs } = call;
        let submitted = Submitted {
            id,
            count,
            key,
            aim,
            retries: (errors, losses),
            label: label.as_deref().map(|label| shortened(label, LABEL_BYTES_MAX).into()),
            deadline_ns: deadline.map(ns),
            is_kept: keep,
            chunksize: chunksize.map_or(0, Into::into),
            arguments: Encoded::put(inline, blobs, &mut self.calls.buffers),
        };
        self.end = self.end.max(id.seq + u64::from(count));
        self.calls.bytes += submitted.text_bytes();
        self.calls.items.push(submitted);
        self.submitted += 1;
        if self.calls.is_full() {
            self.say_calls();
        }
    }

    /// Says the calls that were put together.
    pub(super) fn say_calls(&mut self) {
        let Parcel { items, buffers, .. } = std::mem::take(&mut self.calls);
        if !items.is_empty() {
            self.say(Lane::Bulk, &FromClient::Submit(items), buffers);
        }
    }

    fn aim(&mut self, target: &Target) -> Aim {
        let engines = match target {
            Target::Any => return Aim::Any,
            // Of an engine that is gone nobody asks this.
            Target::One(engine) => return Aim::One(self.ids.there(*engine).unwrap_or(*engine)),
            Target::Of(engines) => engines,
        };
        // Nearly always the last one that was told.
        if let Some((number, _)) = self.aims.iter().rev().find(|(_, known)| Arc::ptr_eq(known, engines)) {
            return Aim::Of(*number);
        }
        // What was said before aims at those that had the number before.
        self.say_calls();
        let number = self.next_aim % AIMS_MAX;
        self.next_aim = self.next_aim.wrapping_add(1);
        if self.aims.len() == AIMS_MAX as usize {
            self.aims.pop_front();
        }
        self.aims.push_back((number, engines.clone()));
        let there = engines.iter().filter_map(|engine| self.ids.there(*engine)).collect();
        self.say(Lane::Bulk, &FromClient::Engines(number, there), Vec::new());
        Aim::Of(number)
    }

    /// Says what is to be done behind all calls that were said.
    pub(super) fn wish(&mut self, wish: Wish) {
        let bytes = match &wish {
            Wish::Cancel { tasks, .. } => CANCEL_REASON_BYTES_MAX + size_of_val(&tasks[..]),
            Wish::Answer(..) => WISH_BYTES,
        };
        if self.speaker.waiting(Lane::Bulk) == 0 {
            self.ahead = 0;
        }
        self.ahead = self.ahead.saturating_add(bytes);
        // It overtakes the calls, and is kept there until they have come. What follows one that did not does not either.
        let lane = if self.ahead <= AHEAD_BYTES_MAX { Lane::Control } else { Lane::Bulk };
        self.say(lane, &FromClient::Behind(self.submitted, wish), Vec::new());
    }

    /// Cancels tasks behind all calls that were said.
    pub(super) fn cancel(&mut self, tasks: &[Span], reason: &str, manner: Manner) {
        let reason: Box<str> = shortened(reason, CANCEL_REASON_BYTES_MAX).into();
        for tasks in joined(tasks).chunks(CANCEL_SPANS_MAX) {
            self.wish(Wish::Cancel { tasks: tasks.to_vec(), reason: reason.clone(), manner });
        }
    }

    fn ask(&mut self, question: Question, asker: Asker) {
        self.askers.insert(self.next_question, asker);
        self.wish(Wish::Answer(self.next_question, question));
        self.next_question += 1;
    }

    /// Sends a program that is wanted, if it was said to be there.
    pub(super) fn on_wanted(&mut self, wanted: ProgramHash) -> Result<(), Box<str>> {
        let program = self.askers.values().find_map(|asker| match asker {
            Asker::OnHosts(_, hash, program, _) if *hash == wanted => Some(program.clone()),
            _ => None,
        });
        let program = program.ok_or("a program is wanted that was not offered")?;
        self.say(Lane::Bulk, &FromClient::Program(wanted), vec![program]);
        Ok(())
    }

    /// Hands an answer to who asked.
    pub(super) fn on_answer(
        &mut self,
        number: u64,
        answer: Result<Answer, Refusal>,
        message: &Message,
        parts: &ControllerProxyParts,
    ) -> Result<(), Box<str>> {
        let asker = self.askers.remove(&number).ok_or("an answer came to no question")?;
        // Who asked may have gone away.
        match (asker, answer) {
            (Asker::Status(tell), Ok(Answer::Status(status))) => {
                let (undeliverable_callbacks, panicked_callbacks) = parts.counts.read();
                let here = |engine: EngineStatus| EngineStatus { id: self.ids.here(engine.id), ..engine };
                let engines = status.engines.into_iter().map(here).collect();
                drop(tell.send(QueueStatus { engines, undeliverable_callbacks, panicked_callbacks, ..status }));
            }
            (Asker::Record(tell), Ok(Answer::Record(remembered))) => {
                drop(tell.send(Ok(record_of(*remembered, &parts.registry, self.ids)?)));
            }
            (Asker::Kept(tell), Ok(Answer::Kept(body))) => {
                let bytes = body.take(&message.buffers).ok_or("a value is in a buffer that did not come")?;
                drop(tell.send(Ok(Kept::Value(bytes))));
            }
            (Asker::Done(tell), Ok(Answer::Done)) => drop(tell.send(())),
            (Asker::State(_), Ok(Answer::State(Some(TaskState::Settled(_))))) => {
                return Err("an answer says of a task that it is settled, and not its outcome".into());
            }
            (Asker::State(tell), Ok(Answer::State(state))) => {
                let here = |state: TaskState| state.map_engine(|engine| self.ids.here(engine));
                drop(tell.send(Ok(state.map(here))));
            }
            (Asker::OnHosts(tell, .., leave), Ok(Answer::OnHosts(launch, engines))) => {
                let engines = engines.into_iter().map(|engine| self.ids.here(engine)).collect();
                // Where nobody takes them any more they are ended.
                drop(tell.send(Ok(Running::new(launch, engines, leave))));
            }
            (Asker::OnHosts(tell, ..), Err(Refusal::Other(problem))) => {
                drop(tell.send(Err(Error::Launch { by: "hosts".into(), problem })));
            }
            (Asker::OnHosts(tell, ..), Err(refusal)) => drop(tell.send(Err(error_of(refusal, self.ids)))),
            (Asker::Record(tell), Err(refusal)) => drop(tell.send(Err(error_of(refusal, self.ids)))),
            (Asker::State(tell), Err(refusal)) => drop(tell.send(Err(error_of(refusal, self.ids)))),
            (Asker::Kept(tell), Err(refusal)) => drop(tell.send(Err(error_of(refusal, self.ids)))),
            (Asker::Status(_) | Asker::Done(_), Err(_)) => {}
            (_, Ok(_)) => return Err("an answer came to another question".into()),
        }
        Ok(())
    }
}

impl ControllerProxy {
    /// Asks, behind all that was pushed before; where the controller is away, whoever asks is told so.
    fn ask(&mut self, question: Question, asker: Asker) {
        if let Some(conversation) = &mut self.conversation {
            conversation.ask(question, asker);
        }
    }
}

macro_rules! asked {
    ($message:ty, |$proxy:ident, $asked:pat_param, $tell:ident, $ctx:ident| $ask:expr) => {
        impl Handler<Asked<$message>> for ControllerProxy {
            type Result = ();

            fn handle(&mut self, msg: Asked<$message>, $ctx: &mut Context<Self>) {
                let $proxy = self;
                $proxy.take_in($ctx);
                let ($asked, $tell) = msg.into_parts();
                $ask
            }
        }
    };
}

asked!(TakeIn, |proxy, TakeIn, tell, ctx| {
    // Who asked may have gone away.
    let _ = tell.send(());
});
asked!(Subscribe, |proxy, Subscribe { to }, tell, ctx| {
    drop(tell.send(proxy.subscribers.add(&proxy.parts.roster, to)));
});
asked!(RunOnHosts, |proxy, RunOnHosts { program, bytes, args, engines, wait, leave }, tell, ctx| {
    let (hash, engines) = (program.hash, u32::try_from(engines).unwrap_or(u32::MAX));
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let wanted = clients::RunOnHosts { program, args, engines, wait_ms };
    proxy.ask(Question::RunOnHosts(Box::new(wanted)), Asker::OnHosts(tell, hash, bytes, leave));
});
asked!(LeaveHosts, |proxy, LeaveHosts { launch }, tell, ctx| {
    proxy.ask(Question::LeaveHosts(launch), Asker::Done(tell));
});
asked!(GetStatus, |proxy, GetStatus, tell, ctx| proxy.ask(Question::Status, Asker::Status(tell)));
asked!(GetState, |proxy, GetState { task }, tell, ctx| proxy.ask(Question::State(task), Asker::State(tell)));
asked!(FetchKept, |proxy, FetchKept { task }, tell, ctx| proxy.ask(Question::Fetch(task), Asker::Kept(tell)));
asked!(Stop, |proxy, Stop { pending }, tell, ctx| {
    let question = match pending {
        Pending::Finish => Question::Finish,
        Pending::Cancel => Question::CancelAll,
    };
    proxy.ask(question, Asker::Done(tell));
});
asked!(Purge, |proxy, Purge, tell, ctx| {
    proxy.parts.store.do_send(Purge);
    proxy.ask(Question::Purge, Asker::Done(tell));
});
asked!(GetRecords, |proxy, GetRecords, tell, ctx| {
    // By way of this mailbox, or it might overtake what was asked before.
    proxy.parts.store.do_send(Asked::new(GetRecords, tell));
});
asked!(GetRecord, |proxy, GetRecord { task }, tell, ctx| {
    if task.client == proxy.parts.client {
        proxy.parts.store.do_send(Asked::new(GetRecord { task }, tell));
    } else {
        proxy.ask(Question::Record(task), Asker::Record(tell));
    }
});
