//! Peers that say what is not so: each is cut off with a reason, and what it had is lost with it, or starts again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_rt::System;
use bytes::Bytes;
use tokio::io::duplex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use super::{Begun, Fate, Gateway, GatewayParts, Lost, Process};
use crate::actors::Threads;
use crate::client::Client;
use crate::controller::Actors;
use crate::ledger::{EngineOffer, Policy};
use crate::limits::Limits;
use crate::registry::Registry;
use crate::task::{Attempt, Span, Task, TaskContext, TaskFailure, TaskId};
use crate::wire::frame::{Lane, Message};
use crate::wire::protocol::{Body, Call, Encoded, End, FromEngine, LogLevel, LogLine, Made, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, SessionLimits, Speaker};
use crate::{TaskError, With};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Echo(u64);

impl Task for Echo {
    type Output = u64;
    const NAME: &'static str = "lies::Echo";

    fn run(self, _: &TaskContext) -> Result<u64, TaskFailure> {
        Ok(self.0)
    }
}

/// Of which nobody knows how far it has come.
struct Elsewhere;

impl Process for Elsewhere {
    fn begun(&self) -> Begun {
        Begun::Unknown
    }

    fn kill(&self) {}
}

fn ended(id: TaskId, count: u32, attempt: u32, made: Made) -> Message {
    let end = End { id, count, attempt: Attempt(attempt), ran_ns: 1, outcome: Ok(made) };
    encode(&FromEngine::Ended(vec![end]), Vec::new())
}

fn one(bytes: &'static [u8]) -> Made {
    Made::One(Encoded { bytes: Body::Inline(Bytes::from_static(bytes)), blobs: Vec::new() })
}

/// What is said of the one call that came, and what the reason has to tell.
type Lie = (&'static str, fn(&Call) -> Vec<Message>);

const LIES: &[Lie] = &[
    ("which it does not have", |call| vec![ended(call.id.plus(7), 1, 1, one(b"\x01"))]),
    ("which it does not have", |call| vec![ended(TaskId { client: 1, ..call.id }, 1, 1, one(b"\x01"))]),
    ("attempt 2", |call| vec![ended(call.id, 1, 2, one(b"\x01"))]),
    ("2 tasks", |call| vec![ended(call.id, 2, 1, one(b"\x01"))]),
    ("0 tasks", |call| vec![ended(call.id, 0, 1, one(b"\x01"))]),
    ("4294967295 tasks", |call| vec![ended(call.id, u32::MAX, 1, one(b"\x01"))]),
    ("returns no values", |call| {
        let values = Encoded { bytes: Body::Inline(Bytes::from_static(b"\x09\0\0\0\x01")), blobs: Vec::new() };
        vec![ended(call.id, 1, 1, Made::Each { values, faults: Vec::new() })]
    }),
    ("a buffer that did not come", |call| {
        vec![ended(call.id, 1, 1, Made::One(Encoded { bytes: Body::Buffer(0), blobs: Vec::new() }))]
    }),
    ("a buffer that did not come", |call| {
        let bytes = Body::Inline(Bytes::from_static(b"\x01"));
        vec![ended(call.id, 1, 1, Made::One(Encoded { bytes, blobs: vec![u32::MAX] }))]
    }),
    ("which it does not have", |call| {
        let other = Span { first: call.id.plus(1), count: 1 };
        vec![encode(&FromEngine::Back(vec![(other, Attempt(1))]), Vec::new())]
    }),
    ("9 tasks", |call| vec![encode(&FromEngine::Back(vec![(Span { first: call.id, count: 9 }, Attempt(1))]), vec![])]),
    ("was not asked", |call| vec![encode(&FromEngine::IsAt(Some((call.id, Attempt(1)))), Vec::new())]),
    ("cannot be read", |_| vec![Message { header: Bytes::from_static(&[0xff; 40]), buffers: Vec::new() }]),
    ("cannot be read", |_| vec![Message { header: Bytes::new(), buffers: Vec::new() }]),
    ("bytes too many", |call| {
        let right = ended(call.id, 1, 1, one(b"\x01"));
        vec![Message { header: [&right.header[..], b"!"].concat().into(), buffers: Vec::new() }]
    }),
];

/// Has one engine that lies run one task; returns why its session ended, and what became of the task.
async fn lied_to(lie: fn(&Call) -> Vec<Message>) -> (Ending, Result<u64, TaskError>) {
    let limits = Limits { spin_us: 0, ..Limits::default() };
    let threads = Arc::new(Threads::default());
    let actors = Actors::start(limits, Registry::new(), Policy::default(), threads);
    let rc = Client::new(actors.link.clone());
    let (here, there) = duplex(1 << 16);
    let speaker = Speaker::new(SessionLimits::default());
    let parts = GatewayParts {
        scheduler: actors.addresses.scheduler.clone(),
        finished: actors.parts.finished.clone(),
        speaker: speaker.clone(),
        offer: EngineOffer { slots: 1, is_local: false, tasks: None },
        fate: Arc::new(Fate::default()),
        process: Arc::new(Elsewhere),
        printed: Box::new(|_, _| ()),
        printed_bytes_max: 0,
        tasks_max: None,
    };
    let (gateway, joined) = Gateway::join(parts);
    let attended = tokio::task::spawn_local(async move {
        let (reader, writer) = tokio::io::split(here);
        let ending = super::attend(reader, writer, &speaker, &gateway).await;
        gateway.do_send(Lost { cause: ending.to_string().into(), unread: Vec::new() });
    });
    let liar = tokio::task::spawn_local(async move {
        let (tell, mut told) = unbounded_channel();
        let speaker = Speaker::new(SessionLimits::default());
        let (reader, writer) = tokio::io::split(there);
        let hear = |heard: Heard| {
            if let ToEngine::Run(calls) = decode(&heard.message)? {
                calls.into_iter().for_each(|call| drop(tell.send(call)));
            }
            Ok(())
        };
        let lying = async {
            while let Some(call) = told.recv().await {
                lie(&call).into_iter().for_each(|message| drop(speaker.say(Lane::Bulk, message)));
            }
        };
        let session = run(reader, writer, &speaker, hear);
        tokio::select! {
            ending = session => ending,
            () = lying => unreachable!("whoever tells is in the session"),
        }
    });
    joined.await.expect("the gateway is there").expect("it joins");
    let outcome = timeout(PATIENCE, rc.load_balanced().with().retries_on_loss(0).apply(Echo(1))).await;
    let ending = timeout(PATIENCE, liar).await.expect("it is cut off in time").expect("no panic");
    attended.await.expect("no panic");
    let status = rc.queue_status().await.expect("the scheduler is there");
    assert_eq!((status.pending, status.engines.len()), (0, 0), "nothing is left, and the liar is gone");
    (ending, outcome.expect("it settles in time"))
}

#[test]
fn whoever_says_what_is_not_so_is_cut_off_with_a_reason() {
    for (number, (told, lie)) in LIES.iter().enumerate() {
        let (ending, outcome) = System::new().block_on(lied_to(*lie));
        let Ending::ClosedByPeer(reason) = &ending else { panic!("lie {number}: {ending:?}") };
        assert!(reason.contains(told) && reason.contains("protocol"), "lie {number}: {reason}");
        assert!(matches!(outcome, Err(TaskError::EngineLost { .. })), "lie {number}: {outcome:?}");
    }
}

#[test]
fn an_outcome_that_is_told_twice_counts_once_and_ends_the_session() {
    let twice: fn(&Call) -> Vec<Message> = |call| vec![ended(call.id, 1, 1, one(b"\x05")); 2];
    let (ending, outcome) = System::new().block_on(lied_to(twice));
    assert_eq!(outcome, Ok(5), "the first is true");
    assert!(matches!(&ending, Ending::ClosedByPeer(reason) if reason.contains("which it does not have")), "{ending:?}");
}

#[test]
fn whoever_says_again_and_again_that_it_leaves_goes_once_and_its_outcome_counts() {
    let leaves: fn(&Call) -> Vec<Message> = |call| {
        let mut said = vec![encode(&FromEngine::Leaving, Vec::new()); 1_000];
        said.push(ended(call.id, 1, 1, one(b"\x05")));
        said
    };
    let (ending, outcome) = System::new().block_on(lied_to(leaves));
    assert_eq!(outcome, Ok(5));
    // It is told to stop, and does not.
    assert!(matches!(&ending, Ending::ClosedByPeer(reason) if &**reason == super::STOPPED), "{ending:?}");
}

/// Counts what is logged on this thread, in bytes.
#[derive(Default)]
struct Counted(AtomicUsize);

impl tracing::Subscriber for Counted {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Length(usize);

        impl tracing::field::Visit for Length {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += field.name().len() + format!("{value:?}").len();
            }
        }

        let mut length = Length(event.metadata().target().len());
        event.record(&mut length);
        self.0.fetch_add(length.0, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn megabytes_that_make_no_sense_make_lines_in_the_log_and_not_megabytes() {
    const TIMES: usize = 50;
    let senseless: fn(&Call) -> Vec<Message> =
        |_| vec![Message { header: vec![b'#'; 1 << 20].into(), buffers: Vec::new() }];
    let counted = Arc::new(Counted::default());
    tracing::subscriber::with_default(counted.clone(), || {
        for _ in 0..TIMES {
            let (ending, _) = System::new().block_on(lied_to(senseless));
            assert!(matches!(ending, Ending::ClosedByPeer(_)), "{ending:?}");
        }
    });
    let logged = counted.0.load(Ordering::Relaxed);
    assert!(logged > 0 && logged < TIMES * 2_000, "{logged} bytes for {TIMES} messages of 1 MiB");
}

#[test]
fn an_engine_that_tells_megabytes_makes_lines_in_the_log_and_not_megabytes() {
    let tells: fn(&Call) -> Vec<Message> = |call| {
        let line = LogLine {
            level: LogLevel::Error,
            target: "\u{1b}[2J".repeat(100_000).into(),
            task: Some((call.id.plus(7), Attempt(9))),
            text: "\u{1b}]0;mine\u{7}".repeat(100_000).into(),
            left_out: u32::MAX,
        };
        let mut said = vec![encode(&FromEngine::Logged(line), Vec::new()); 50];
        // Told twice, it ends the session.
        said.extend([(); 2].map(|()| ended(call.id, 1, 1, one(b"\x05"))));
        said
    };
    let counted = Arc::new(Counted::default());
    let (_, outcome) = tracing::subscriber::with_default(counted.clone(), || System::new().block_on(lied_to(tells)));
    assert_eq!(outcome, Ok(5));
    let logged = counted.0.load(Ordering::Relaxed);
    assert!((10_000..600_000).contains(&logged), "{logged} bytes of 50 MiB");
}
