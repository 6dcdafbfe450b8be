//! The far side: an engine as in any process, whose messages come and go through a session.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::early::Early;
use super::trouble::{ITEM_TEXT_BYTES_MAX, TEXT_BYTES_MAX, ns};
use super::{Departure, STOPPED, log_uplink, looks};
use crate::actors::{Engine, EngineParts, Lane as Finished, LaneStream, Threads, Witness};
use crate::catch::shortened;
use crate::error::{Coded, TaskError};
use crate::ledger::{Assignment, HandBack};
use crate::messages::{Completion, HandedBack, Manner, Recall, Revoke, Run, StopEngine};
use crate::registry::Registry;
use crate::task::{EncodedValues, Extras, Payload, Span, Value, WireCall};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Call, Encoded, End, Fault, FromEngine, Made, Parcel, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, Speaker};

/// What an engine elsewhere is made of.
pub(crate) struct Serving {
    pub(crate) registry: Arc<Registry>,
    pub(crate) speaker: Speaker,
    pub(crate) witness: Option<Arc<dyn Witness>>,
    pub(crate) patience: std::time::Duration,
    /// When its time is over.
    pub(crate) departure: Departure,
}

/// Runs what the controller at the other end sends, until one of the two ends; returns why.
///
/// A task that runs then is left to itself.
pub(crate) async fn serve<R, W>(reader: R, writer: W, serving: Serving) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    Desk::with(serving).serve(reader, writer).await
}

/// An engine of another process, for one session: hands on what the controller says.
pub(crate) struct Desk {
    parts: EngineParts,
    threads: Arc<Threads>,
    uplink: Addr<Uplink>,
    engine: Option<Addr<Engine>>,
    speaker: Speaker,
    departure: Departure,
    departing: Option<Departing>,
    early: Early,
    _telling: Option<log_uplink::Attached>,
}

impl Desk {
    /// Makes it on the present arbiter. Its engine starts when it is told that it has joined.
    pub(crate) fn with(serving: Serving) -> Self {
        let Serving { registry, speaker, witness, patience, departure } = serving;
        let telling = log_uplink::attach(&speaker);
        let at_work = telling.as_ref().map(|telling| Arc::new(telling.witness()) as Arc<dyn Witness>);
        let (finished, threads) = (Finished::new(), Arc::new(Threads::default()));
        let uplink = Uplink { speaker: speaker.clone(), finished: finished.clone(), patience }.start();
        let parts = EngineParts {
            registry,
            finished,
            handed_back: uplink.clone().recipient(),
            threads: threads.clone(),
            patience,
            witness: witness.or(at_work),
        };
        let early = Early::default();
        Self { parts, threads, uplink, engine: None, speaker, departure, departing: None, early, _telling: telling }
    }

    /// Runs what the controller sends over this connection; returns why that has ended. In a session that lasts it may go
    /// on over another: what runs meanwhile goes on, and its outcomes wait.
    pub(crate) async fn serve<R, W>(&mut self, reader: R, writer: W) -> Ending
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let speaker = self.speaker.clone();
        run(reader, writer, &speaker, |heard| self.on_heard(heard)).await
    }

    /// Has the engine start nothing any more; returns when the task that it runs has returned.
    pub(crate) async fn finish(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        engine.do_send(StopEngine { cause: "its controller is gone".into() });
        let (threads, (tell, told)) = (self.threads.clone(), oneshot::channel::<()>());
        // The sender is dropped with this, and that is the answer.
        match wait_for(threads, move || drop(tell)) {
            Ok(()) => drop::<Result<(), _>>(told.await),
            Err(error) => tracing::error!(%error, "what runs is not waited for"),
        }
    }

    fn on_heard(&mut self, heard: Heard) -> Result<(), Box<str>> {
        let Heard { message, .. } = heard;
        match (decode(&message)?, &self.engine) {
            (ToEngine::Joined(id), None) => {
                let engine = Engine::start_as(id, self.parts.clone()).map_err(|error| error.to_string())?;
                self.departing = Some(self.depart(&engine));
                self.engine = Some(engine);
            }
            (ToEngine::Run(calls), Some(_)) if self.departure.is_told() => {
                self.speaker.say_or_end(Lane::Bulk, encode(&back(&calls), Vec::new()));
            }
            (ToEngine::Run(mut calls), Some(engine)) => {
                let revoked = self.early.on_run(&mut calls);
                if !revoked.is_empty() {
                    self.speaker.say_or_end(Lane::Bulk, encode(&back(&revoked), Vec::new()));
                }
                let batch: Result<Vec<_>, _> = calls.into_iter().map(|call| assignment(call, &message)).collect();
                engine.do_send(Run { batch: batch? });
            }
            (ToEngine::Revoke { tasks, after }, Some(engine)) => {
                self.early.on_revoked(&tasks, after);
                engine.do_send(Revoke { tasks, manner: Manner::Ask });
            }
            (ToEngine::Recall, Some(engine)) => engine.do_send(Recall),
            (ToEngine::Look, Some(engine)) => looks::look(engine, &self.uplink),
            (ToEngine::Stop, Some(engine)) => {
                engine.do_send(StopEngine { cause: STOPPED.into() });
                let uplink = self.uplink.clone();
                wait_for(self.threads.clone(), move || uplink.do_send(Finish))?;
            }
            (ToEngine::Joined(_), Some(_)) => return Err("it joins a second time".into()),
            (_, None) => return Err("it has not joined".into()),
        }
        Ok(())
    }

    /// Has the engine leave when it is told to: it hands back what it has not started, and the controller is told. What it runs
    /// then it may finish, until its time is over.
    fn depart(&self, engine: &Addr<Engine>) -> Departing {
        let (departure, speaker, engine) = (self.departure.clone(), self.speaker.clone(), engine.downgrade());
        Departing(actix_rt::spawn(async move {
            let by = departure.told().await;
            if let Some(engine) = engine.upgrade() {
                engine.do_send(Recall);
            }
            // By the lane that nothing holds up: until it is heard, tasks are sent here that have to go back.
            speaker.say_or_end(Lane::Control, encode(&FromEngine::Leaving, Vec::new()));
            sleep_until(by).await;
            speaker.close(UNFINISHED);
        }))
    }
}

/// Hands calls back as they came.
pub(crate) fn back(calls: &[Call]) -> FromEngine {
    FromEngine::Back(calls.iter().map(|call| (Span { first: call.id, count: call.count }, call.attempt)).collect())
}

/// Why an engine's session ends that was told to leave, and runs on.
const UNFINISHED: &str = "its time was over, and what it ran was not finished in time";

/// Waits until it is to leave, for as long as this is there.
struct Departing(JoinHandle<()>);

impl Drop for Departing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // By itself it would wait for outcomes for ever.
        self.uplink.do_send(Cease);
    }
}

/// Waits for the task that runs, and does this then; on a thread of its own.
fn wait_for(threads: Arc<Threads>, then: impl FnOnce() + Send + 'static) -> Result<(), Box<str>> {
    let waits = move || {
        threads.join_all();
        then();
    };
    match std::thread::Builder::new().name("cb-engine-end".into()).spawn(waits) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no thread to wait for the worker: {error}").into()),
    }
}

pub(super) fn assignment(call: Call, message: &Message) -> Result<Assignment, Box<str>> {
    let Call { id, count, attempt, key, label, arguments, is_kept } = call;
    let (inline, blobs) = arguments.take(&message.buffers).ok_or("arguments are in a buffer that did not come")?;
    let payload = Payload::Wire(Box::new(WireCall { key, count, inline, blobs }));
    let extras = Extras { label: label.map(Into::into), keep: is_kept, ..Extras::default() };
    let extras = (extras.label.is_some() || is_kept).then(|| Arc::new(extras));
    // Whether a failed attempt may be followed by another is up to the gateway, which has the call.
    Ok(Assignment { id, attempt, may_retry: false, payload, extras })
}

/// Says to the controller what comes from the engine.
pub(super) struct Uplink {
    speaker: Speaker,
    finished: Arc<Finished<Completion>>,
    patience: std::time::Duration,
}

/// Nothing comes any more.
#[derive(Message)]
#[rtype(result = "()")]
struct Finish;

/// Nobody is to hear of it any more.
#[derive(Message)]
#[rtype(result = "()")]
struct Cease;

impl Uplink {
    fn on_finished(&self, batch: Vec<Completion>) {
        let mut parcel = Parcel::default();
        for completion in batch {
            let end = end(completion, &mut parcel.buffers);
            parcel.bytes += end.text_bytes();
            parcel.items.push(end);
            if parcel.is_full() {
                let Parcel { items, buffers, .. } = std::mem::take(&mut parcel);
                self.say(&FromEngine::Ended(items), buffers);
            }
        }
        if !parcel.items.is_empty() {
            self.say(&FromEngine::Ended(parcel.items), parcel.buffers);
        }
    }

    /// Says what has come by now.
    pub(super) fn take_in(&self) {
        while let Some(batch) = self.finished.take() {
            self.on_finished(batch);
        }
    }

    pub(super) fn say(&self, what: &FromEngine, buffers: Vec<Bytes>) {
        self.speaker.say_or_end(Lane::Bulk, encode(what, buffers));
    }
}

pub(super) fn end(completion: Completion, buffers: &mut Vec<Bytes>) -> End {
    let Completion { id, count, attempt, ran, outcome, .. } = completion;
    let ran_ns = ran.map_or(0, ns);
    let outcome = match outcome {
        Ok(Value::Wire(value)) => Ok(Made::One(Encoded::put(value.inline, value.blobs, buffers))),
        Ok(Value::Typed(value)) => match value.into_any().downcast::<EncodedValues>() {
            Ok(values) => {
                let (values, errors) = values.into_parts();
                let faults = errors.into_iter().map(|(at, error)| (at, fault(error, ITEM_TEXT_BYTES_MAX))).collect();
                Ok(Made::Each { values: Encoded::put(values.inline, values.blobs, buffers), faults })
            }
            // The worker has encoded it; what came as bytes returns as bytes.
            Err(_) => Err(Fault::Value("it was not encoded".into())),
        },
        Err(error) => Err(fault(error, TEXT_BYTES_MAX)),
    };
    End { id, count, attempt, ran_ns, outcome }
}

/// What of an error travels, with at most so many bytes of text.
fn fault(error: TaskError, text_bytes_max: usize) -> Fault {
    let short =
        |text: Box<str>| if text.len() > text_bytes_max { shortened(&text, text_bytes_max).into() } else { text };
    match error {
        TaskError::Failed { text, .. } => Fault::Failed(short(text)),
        TaskError::Panicked { message, .. } => Fault::Panicked(short(message)),
        TaskError::Undecodable { what: Coded::Arguments, text } => Fault::Arguments(short(text)),
        TaskError::Undecodable { what: Coded::Result, text } => Fault::Value(short(text)),
        TaskError::UnknownTask { .. } => Fault::Unknown,
        TaskError::Disconnected => Fault::NoCall,
        other => Fault::Failed(short(other.to_string().into())),
    }
}

impl Actor for Uplink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(LaneStream::new(self.finished.clone(), self.patience));
    }
}

impl StreamHandler<Vec<Completion>> for Uplink {
    fn handle(&mut self, batch: Vec<Completion>, _: &mut Context<Self>) {
        self.on_finished(batch);
    }
}

impl Handler<HandedBack> for Uplink {
    type Result = ();

    fn handle(&mut self, mut msg: HandedBack, _: &mut Context<Self>) {
        let span = |back: HandBack| (Span { first: back.id, count: back.count }, back.attempt);
        let back = std::mem::take(&mut msg.batch).into_iter().map(span).collect();
        self.say(&FromEngine::Back(back), Vec::new());
    }
}

impl Handler<Cease> for Uplink {
    type Result = ();

    fn handle(&mut self, _: Cease, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Finish> for Uplink {
    type Result = ();

    fn handle(&mut self, _: Finish, _: &mut Context<Self>) {
        self.take_in();
        self.speaker.close(STOPPED);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::session::SessionLimits;

    #[test]
    fn nothing_is_left_of_an_engine_that_is_not_gone_on_with() {
        System::new().block_on(async {
            let registry = Arc::new(Registry::new());
            let speaker = Speaker::lasting(SessionLimits::LASTING);
            let desk = Desk::with(Serving {
                registry,
                speaker,
                witness: None,
                patience: Duration::ZERO,
                departure: Departure::default(),
            });
            let (uplink, finished) = (desk.uplink.clone(), Arc::downgrade(&desk.parts.finished));
            drop(desk);
            for _ in 0..1_000 {
                if !uplink.connected() && finished.strong_count() == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("it waits for outcomes for ever");
        });
    }
}
