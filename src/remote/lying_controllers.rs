//! Controllers that say what is not so: a client of one loses what it had there, is told so, and lives on.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::prelude::*;
use crate::task::{Attempt, EngineId, Status, TaskId, TaskState};
use crate::wire::clients::{
    Answer, FromClient, Question, Refusal, Returned, Settled, Submitted, ToClient, Trouble, Wish,
};
use crate::wire::frame::{Lane, Message};
use crate::wire::handshake::{Hello, Role, welcome};
use crate::wire::hosts::ProgramHash;
use crate::wire::opening::{Opened, answer_opening, hear_opening};
use crate::wire::protocol::{Body, Encoded, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, Heard, SessionLimits, Speaker};
use crate::{Client, Dial, Error};

const PATIENCE: Duration = Duration::from_secs(10);
const CLUSTER: u64 = 7;

#[crate::task]
fn cube(x: u64) -> u64 {
    x * x * x
}

/// What a controller says to what it hears.
type Says = Box<dyn Fn(FromClient) -> Vec<Message> + Send + Sync>;

/// Listens, and lies to the one client that comes; returns how the session ended.
async fn lie_to_one(listener: TcpListener, lie: Says) -> Ending {
    let (mut stream, _) = listener.accept().await.unwrap();
    let hello = Hello { role: Role::Controller, cluster: CLUSTER, incarnation: 1, build: 0 };
    welcome(&mut stream, &hello, &[Role::Client], PATIENCE).await.unwrap();
    hear_opening(&mut stream, PATIENCE).await.unwrap();
    answer_opening(&mut stream, &Opened::Begun, PATIENCE).await.unwrap();
    let speaker = Speaker::lasting(SessionLimits::LASTING);
    speaker.say(Lane::Control, encode(&ToClient::Engines(vec![EngineId(0)]), Vec::new())).unwrap();
    let hear = |heard: Heard| {
        lie(decode(&heard.message)?).into_iter().for_each(|message| drop(speaker.say(Lane::Bulk, message)));
        Ok(())
    };
    let (reader, writer) = stream.into_split();
    run(reader, writer, &speaker, hear).await
}

/// A client, of a controller that lies.
struct LiedTo {
    rc: Client,
    lying: tokio::task::JoinHandle<Ending>,
    runtime: tokio::runtime::Runtime,
}

impl LiedTo {
    fn by(lie: impl Fn(FromClient) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let (cluster, address) = (format!("{CLUSTER:016x}"), listener.local_addr().unwrap().to_string());
        let content = serde_json::json!({
            "callboard": 1, "role": "client", "cluster": cluster, "address": address, "expires_unix_s": u64::from(u32::MAX),
            "tls": null,
        });
        std::fs::write(file.path(), content.to_string()).unwrap();
        let lying = runtime.spawn(lie_to_one(listener, Box::new(lie)));
        let rc = Dial::with(file.path()).search_for(Duration::from_secs(1)).connect().get().unwrap();
        Self { rc, lying, runtime }
    }

    /// By one that lies of the calls that it gets.
    fn of_calls(lie: fn(&Submitted) -> Vec<Message>) -> Self {
        Self::by(move |said| match said {
            FromClient::Submit(calls) => calls.iter().flat_map(lie).collect(),
            _ => Vec::new(),
        })
    }

    /// Waits until the client has left; returns why.
    fn left(self) -> String {
        let Self { lying, runtime, .. } = self;
        match runtime.block_on(async { timeout(PATIENCE, lying).await.expect("it ends in time").unwrap() }) {
            Ending::ClosedByPeer(reason) => reason.into(),
            other => panic!("{other:?}"),
        }
    }
}

fn settled(of: &Submitted, count: u32, outcome: Result<Returned, Trouble>) -> Settled {
    let (attempt, engine) = (Attempt(1), Some(EngineId(0)));
    Settled { id: of.id, count, key: of.key, attempt, engine, ran_ns: Some(u64::MAX), outcome, printed: Vec::new() }
}

fn one(bytes: &'static [u8]) -> Result<Returned, Trouble> {
    Ok(Returned::One(Encoded { bytes: Body::Inline(Bytes::from_static(bytes)), blobs: Vec::new() }))
}

fn tells(settled: impl IntoIterator<Item = Settled>) -> Vec<Message> {
    says(&ToClient::Settled(settled.into_iter().collect()))
}

fn says(said: &ToClient) -> Vec<Message> {
    vec![encode(said, Vec::new())]
}

/// What is said of the call that came, and what the reason has to tell.
type Lie = (&'static str, fn(&Submitted) -> Vec<Message>);

const LIES: &[Lie] = &[
    ("not this client's", |call| tells([Settled { id: call.id.plus(7), ..settled(call, 1, one(b"\x01")) }])),
    ("not this client's", |call| {
        let id = TaskId { client: call.id.client + 1, ..call.id };
        tells([Settled { id, ..settled(call, 1, one(b"\x01")) }])
    }),
    ("not this client's", |call| tells([settled(call, 0, Err(Trouble::NoEngines))])),
    ("not this client's", |call| tells([settled(call, u32::MAX, Err(Trouble::NoEngines))])),
    ("not this client's", |call| {
        let id = TaskId { seq: u64::MAX, ..call.id };
        tells([Settled { id, ..settled(call, 2, Err(Trouble::NoEngines)) }])
    }),
    ("was not called", |call| tells([Settled { key: 7, ..settled(call, 1, one(b"\x01")) }])),
    ("not the values of 1 tasks", |call| {
        let values = Encoded { bytes: Body::Inline(Bytes::from_static(b"\x09\0\0\0\x01")), blobs: Vec::new() };
        tells([settled(call, 1, Ok(Returned::Each { values, troubles: vec![(u32::MAX, Trouble::Evicted)] }))])
    }),
    ("a buffer that did not come", |call| {
        tells([settled(call, 1, Ok(Returned::One(Encoded { bytes: Body::Buffer(0), blobs: Vec::new() })))])
    }),
    ("a buffer that did not come", |call| {
        let bytes = Body::Inline(Bytes::from_static(b"\x01"));
        tells([settled(call, 1, Ok(Returned::One(Encoded { bytes, blobs: vec![u32::MAX] })))])
    }),
    ("wanted that was not offered", |_| says(&ToClient::Wanted(ProgramHash::of(b"yours")))),
    ("to no question", |_| says(&ToClient::Answer(0, Ok(Answer::Done)))),
    ("to no question", |_| says(&ToClient::Answer(u64::MAX, Err(Refusal::Stopped)))),
    ("1000000 engines", |_| says(&ToClient::Engines((0..1_000_000).rev().map(EngineId).collect()))),
    ("65537 engines", |_| (0..1 << 17).flat_map(|id| says(&ToClient::Joined(EngineId(id)))).collect()),
    ("a message of", |_| vec![encode(&ToEngine::Revoke { tasks: Vec::new(), after: 1 << 40 }, Vec::new())]),
    ("a message of", |_| vec![Message { header: Bytes::from_static(&[0xff; 40]), buffers: Vec::new() }]),
    ("a message of", |_| vec![Message { header: Bytes::new(), buffers: Vec::new() }]),
    ("a message of", |call| {
        let right = tells([settled(call, 1, one(b"\x01"))]).remove(0);
        vec![Message { header: right.header.slice(..right.header.len() / 2), buffers: Vec::new() }]
    }),
    ("too many in a message", |call| {
        let right = tells([settled(call, 1, one(b"\x01"))]).remove(0);
        vec![Message { header: [&right.header[..], b"!"].concat().into(), buffers: Vec::new() }]
    }),
];

#[test]
fn a_controller_that_says_what_is_not_so_is_left_and_whoever_waits_is_told() {
    for (number, (told, lie)) in LIES.iter().enumerate() {
        let lied_to = LiedTo::of_calls(*lie);
        let rc = lied_to.rc.clone();
        let waiting = rc.load_balanced().apply(cube(3));
        assert_eq!(waiting.get_timeout(PATIENCE), Err(TaskError::Disconnected), "lie {number}");
        let reason = lied_to.left();
        assert!(reason.contains(told) && reason.starts_with("protocol: "), "lie {number}: {reason}");
        // It is there all the same, and knows that there is nobody.
        assert_eq!(rc.load_balanced().apply(cube(1)).get_timeout(PATIENCE), Err(TaskError::Disconnected));
        assert_eq!(rc.queue_status().get_timeout(PATIENCE), Err(Error::ClusterStopped), "lie {number}");
        assert!(rc.is_empty(), "lie {number}");
    }
}

#[test]
fn an_outcome_that_is_told_twice_counts_once() {
    let lied_to = LiedTo::of_calls(|call| {
        let last = Settled { key: 7, ..settled(call, 1, one(b"\x01")) };
        [tells([settled(call, 1, one(b"\x05")), settled(call, 1, one(b"\x06"))]), tells([last])].concat()
    });
    assert_eq!(lied_to.rc.load_balanced().apply(cube(3)).get_timeout(PATIENCE), Ok(5), "the first is true");
    let reason = lied_to.left();
    assert!(reason.contains("was not called"), "{reason}");
}

#[test]
fn an_answer_of_another_kind_ends_the_session_and_whoever_asked_is_told() {
    let answers = [
        ("to another question", Ok(Answer::Done)),
        ("to another question", Ok(Answer::Kept(Body::Inline(Bytes::new())))),
        ("a buffer that did not come", Ok(Answer::Kept(Body::Buffer(0)))),
    ];
    for (number, (told, answer)) in answers.into_iter().enumerate() {
        let lied_to = LiedTo::by(move |said| match said {
            FromClient::Behind(_, Wish::Answer(question, _)) => says(&ToClient::Answer(question, answer.clone())),
            _ => Vec::new(),
        });
        let asked = if number < 2 {
            lied_to.rc.queue_status().get_timeout(PATIENCE).map(drop)
        } else {
            lied_to.rc.fetch::<u64>(TaskId { client: 1, seq: 1 }).get_timeout(PATIENCE).map(drop)
        };
        assert!(asked.is_err(), "answer {number}");
        let reason = lied_to.left();
        assert!(reason.contains(told), "answer {number}: {reason}");
    }
}

#[test]
fn what_is_said_of_where_a_task_is_ends_the_session_where_it_cannot_be() {
    let answers = [
        ("not its outcome", Answer::State(Some(TaskState::Settled(Status::Done)))),
        ("to another question", Answer::Done),
    ];
    for (told, answer) in answers {
        let lied_to = LiedTo::by(move |said| match said {
            FromClient::Behind(_, Wish::Answer(question, Question::State(_))) => {
                says(&ToClient::Answer(question, Ok(answer.clone())))
            }
            _ => Vec::new(),
        });
        let waiting = lied_to.rc.load_balanced().apply(cube(3));
        // Its controller is given up, and so is it; or the answer was not waited for any more.
        match waiting.state().get_timeout(PATIENCE) {
            Ok(state) => assert_eq!(state, TaskState::Settled(Status::Lost)),
            Err(error) => assert!(matches!(error, Error::ClusterStopped | Error::Disconnected), "{error}"),
        }
        assert_eq!(waiting.get_timeout(PATIENCE), Err(TaskError::Disconnected));
        let reason = lied_to.left();
        assert!(reason.contains(told), "{reason}");
    }
}

#[test]
fn a_controller_that_names_engines_that_are_not_there_harms_nobody() {
    let engine = Some(EngineId(u32::MAX));
    let lied_to = LiedTo::by(move |said| match said {
        FromClient::Behind(_, Wish::Answer(question, Question::State(_))) => {
            says(&ToClient::Answer(question, Ok(Answer::State(Some(TaskState::Running { engine })))))
        }
        _ => Vec::new(),
    });
    let waiting = lied_to.rc.load_balanced().apply(cube(3));
    assert_eq!(waiting.state().get_timeout(PATIENCE), Ok(TaskState::Running { engine }));
}
