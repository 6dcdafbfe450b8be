//! Clients that say what is not so: each is cut off with a reason, and no other client notices.
//!
//! Over plain TCP, to a cluster as it is: what lies here has come through the handshake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::functions::function;
use crate::limits::{AIMED_ENGINES_MAX, CANCEL_REASON_BYTES_MAX, CLIENT_FUNCTIONS_MAX};
use crate::prelude::*;
use crate::task::{EngineId, Span, Stream, Task, TaskId};
use crate::wire::clients::{Aim, FromClient, Function, Manner, Question, Settled, Submitted, ToClient, Trouble, Wish};
use crate::wire::frame::{Lane, Message};
use crate::wire::handshake::{Hello, Role, join};
use crate::wire::hosts::ProgramHash;
use crate::wire::opening::{Opening, open};
use crate::wire::protocol::{Body, Encoded, FromEngine, Print, ToEngine, decode, encode};
use crate::wire::pump::run;
use crate::wire::session::{Ending, SessionLimits, Speaker};
use crate::{Client, Limits, Listen, Listening};

const PATIENCE: Duration = Duration::from_secs(10);

#[crate::task]
fn square(x: u64) -> u64 {
    x * x
}

/// Goes on until it is cancelled.
#[crate::task]
fn stay(cx: &crate::TaskContext) {
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A cluster with honest clients, here and elsewhere.
struct There {
    _cluster: Cluster,
    listening: Listening,
    honest: [Client; 2],
    directory: tempfile::TempDir,
}

fn there() -> There {
    there_within(Limits::default())
}

fn there_within(limits: Limits) -> There {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::threads(2).limits(limits).start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path()).plain_tcp()).unwrap();
    let honest = [cluster.client(), Client::connect(listening.client_file()).get().unwrap()];
    There { _cluster: cluster, listening, honest, directory }
}

impl There {
    fn cluster(&self) -> u64 {
        let file = std::fs::read(self.directory.path().join("callboard-client.json")).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        u64::from_str_radix(file["cluster"].as_str().unwrap(), 16).unwrap()
    }

    /// Fails if an honest client notices anything, or if something is left.
    fn check(&self, what: &str) {
        for honest in &self.honest {
            let squares = honest.load_balanced().map(square, 0..20).get_timeout(PATIENCE).unwrap();
            assert_eq!(squares, (0..20).map(|x| x * x).collect::<Vec<u64>>(), "{what}");
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.honest[0].queue_status().get().unwrap().pending > 0 {
            assert!(std::time::Instant::now() < deadline, "{what}: something is still pending");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A client that says what it likes.
struct Liar {
    client: u64,
    speaker: Speaker,
    heard: UnboundedReceiver<ToClient>,
    settled: Vec<Settled>,
    session: tokio::task::JoinHandle<Ending>,
}

impl Liar {
    async fn connect(there: &There, client: u64) -> Self {
        let mut stream = TcpStream::connect(there.listening.address()).await.unwrap();
        let hello = Hello { role: Role::Client, cluster: there.cluster(), incarnation: client, build: 0 };
        join(&mut stream, &hello, &Default::default(), PATIENCE).await.unwrap();
        static SESSION: AtomicU64 = AtomicU64::new(0);
        let session = SESSION.fetch_add(1, Ordering::Relaxed);
        let opening = Opening { session, epoch: 1, known: None };
        open(&mut stream, &opening, PATIENCE).await.unwrap();
        let (speaker, (tell, heard)) = (Speaker::lasting(SessionLimits::LASTING), unbounded_channel());
        let said = speaker.clone();
        let session = tokio::spawn(async move {
            let (reader, writer) = stream.into_split();
            let hear = |heard: crate::wire::session::Heard| {
                drop(tell.send(decode(&heard.message).expect("the controller does not lie")));
                Ok(())
            };
            run(reader, writer, &said, hear).await
        });
        Self { client, speaker, heard, settled: Vec::new(), session }
    }

    fn say(&self, said: &FromClient) {
        let lane = if matches!(said, FromClient::Behind(..)) { Lane::Control } else { Lane::Bulk };
        // It may be cut off meanwhile.
        drop(self.speaker.say(lane, encode(said, Vec::new())));
    }

    /// Waits until it is cut off; returns why.
    async fn cut_off(self) -> String {
        match timeout(PATIENCE, self.session).await.expect("it is cut off in time").unwrap() {
            Ending::ClosedByPeer(reason) => reason.into(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the outcome of a task.
    async fn outcome(&mut self, seq: u64) -> Result<(), Trouble> {
        let task = TaskId { client: self.client, seq };
        loop {
            let is_it = |settled: &&Settled| Span { first: settled.id, count: settled.count }.contains(task);
            if let Some(settled) = self.settled.iter().find(is_it) {
                return settled.outcome.clone().map(drop);
            }
            let heard = timeout(PATIENCE, self.heard.recv()).await.expect("it is told in time").unwrap();
            if let ToClient::Settled(settled) = heard {
                self.settled.extend(settled);
            }
        }
    }
}

fn functions() -> FromClient {
    FromClient::Functions(vec![function(square::kind()), function(stay::kind())])
}

fn inline(bytes: &'static [u8]) -> Encoded {
    Encoded { bytes: Body::Inline(Bytes::from_static(bytes)), blobs: Vec::new() }
}

/// Calls `square` of 1.
fn call(client: u64, seq: u64) -> Submitted {
    Submitted {
        id: TaskId { client, seq },
        count: 1,
        key: square::kind().key,
        aim: Aim::Any,
        retries: (0, 0),
        label: None,
        deadline_ns: None,
        is_kept: false,
        chunksize: 0,
        arguments: inline(b"\x01"),
    }
}

fn calls(client: u64, seq: u64, count: u32) -> Submitted {
    Submitted { count, arguments: inline(b"\x01\0\0\0\x05\x01\0\0\0\x06"), ..call(client, seq) }
}

fn submits(calls: impl IntoIterator<Item = Submitted>) -> Vec<FromClient> {
    vec![functions(), FromClient::Submit(calls.into_iter().collect())]
}

/// A function that there is not.
fn lie(name: &str, fingerprint: u64) -> Function {
    Function { name: name.into(), version: 0, fingerprint, is_idempotent: false }
}

fn names(names: impl IntoIterator<Item = String>) -> Vec<FromClient> {
    vec![FromClient::Functions(names.into_iter().map(|name| lie(&name, 0)).collect())]
}

fn cancels(tasks: Vec<Span>) -> FromClient {
    FromClient::Behind(0, Wish::Cancel { tasks, reason: "so".into(), manner: Manner::Force })
}

fn aimed(number: u32, engines: usize) -> FromClient {
    FromClient::Engines(number, (0..engines as u32).map(EngineId).collect())
}

/// What a client of this number says, and what the reason has to tell.
type Lie = (&'static str, fn(u64) -> Vec<FromClient>);

const LIES: &[Lie] = &[
    ("by another client's number", |me| submits([call(me, 0), call(me + 1, 1)])),
    ("that it has not named", |me| vec![FromClient::Submit(vec![call(me, 0)])]),
    ("that it has not named", |me| submits([Submitted { key: 7, ..call(me, 0) }])),
    ("a function's name of 10240 bytes", |_| names(["x".repeat(10 << 10)])),
    ("a function's name of 11 bytes", |_| names(["rm -rf /\u{1b}[A".into()])),
    ("a function's name of 0 bytes", |_| names([String::new()])),
    ("more than 2000 times", |_| names((0..=CLIENT_FUNCTIONS_MAX).map(|n| format!("lie number {n}")))),
    ("more than 2000 times", |_| vec![FromClient::Functions((0..10_000).map(|n| lie("one", n)).collect())]),
    ("not the arguments of 3 tasks", |me| submits([calls(me, 0, 3)])),
    ("not the arguments of 0 tasks", |me| submits([calls(me, 0, 0)])),
    ("not the arguments of 4294967295 tasks", |me| submits([calls(me, 0, u32::MAX)])),
    ("not the arguments of 2 tasks", |me| submits([Submitted { arguments: inline(&[0xfe; 8]), ..calls(me, 0, 2) }])),
    // Nobody waits for an item in whose place there is nothing.
    ("not the arguments of 2 tasks", |me| {
        submits([Submitted { arguments: inline(b"\xff\xff\xff\xff\x01\0\0\0\x06"), ..calls(me, 0, 2) }])
    }),
    ("a buffer that did not come", |me| {
        submits([Submitted { arguments: Encoded { bytes: Body::Buffer(0), blobs: vec![] }, ..call(me, 0) }])
    }),
    ("a buffer that did not come", |me| {
        submits([Submitted { arguments: Encoded { blobs: vec![u32::MAX], ..inline(b"\x01") }, ..call(me, 0) }])
    }),
    ("engines of no such number", |me| submits([Submitted { aim: Aim::Of(3), ..call(me, 0) }])),
    ("too many sets of engines", |_| vec![aimed(256, 1)]),
    ("too many sets of engines", |_| vec![aimed(u32::MAX, 0)]),
    ("at more engines than", |_| (0..3).map(|number| aimed(number, AIMED_ENGINES_MAX / 3 + 1)).collect()),
    ("another client's tasks", |me| vec![cancels(vec![Span { first: TaskId { client: me + 1, seq: 0 }, count: 1 }])]),
    ("no tasks at all", |me| vec![cancels(vec![Span { first: TaskId { client: me, seq: 0 }, count: 0 }])]),
    ("a number that is no task's", |me| submits([call(me, 5), call(me, 5)])),
    ("a number that is no task's", |me| submits([calls(me, 5, 2), call(me, 6)])),
    ("a number that is no task's", |me| submits([call(me, 6), calls(me, 5, 2)])),
    ("a number that is no task's", |me| submits([calls(me, u64::MAX - 1, 2)])),
    ("it wants too much", |_| vec![FromClient::Behind(u64::MAX, Wish::Answer(1, Question::Status)); 5_000]),
    ("it wants too much", |me| {
        let tasks = vec![Span { first: TaskId { client: me, seq: 0 }, count: 1 }; 200_000];
        let wish = Wish::Cancel { tasks, reason: "so".into(), manner: Manner::Ask };
        vec![FromClient::Behind(1, wish); 30]
    }),
    ("in one buffer", |_| vec![FromClient::Program(ProgramHash::of(b"mine"))]),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn clients_that_say_what_is_not_so_are_cut_off_with_a_reason() {
    let (there, runtime) = (there(), runtime());
    for (number, (told, lie)) in (100..).zip(LIES) {
        let reason = runtime.block_on(async {
            let liar = Liar::connect(&there, number).await;
            lie(number).iter().for_each(|said| liar.say(said));
            liar.cut_off().await
        });
        assert!(reason.contains(told) && reason.starts_with("protocol: "), "lie {number}: {reason}");
        there.check(&reason);
    }
}

#[test]
fn what_no_client_says_ends_the_session_of_who_says_it() {
    let printed = Print { task: None, stream: Stream::Stdout, text: "not a client's".into() };
    let right = encode(&FromClient::Submit(vec![call(7, 0)]), Vec::new());
    let header = |header: &[u8]| Message { header: header.to_vec().into(), buffers: Vec::new() };
    let senseless = [
        encode(&FromEngine::Printed(printed), Vec::new()),
        encode(&ToEngine::Stop, Vec::new()),
        encode(&ToClient::Ending, Vec::new()),
        header(&[0xff; 40]),
        header(b""),
        header(&right.header[..right.header.len() / 2]),
        header(&[&right.header[..], b"!"].concat()),
        header(&vec![b'#'; 1 << 20]),
    ];
    let (there, runtime) = (there(), runtime());
    for (number, message) in (200..).zip(senseless) {
        for lane in [Lane::Bulk, Lane::Control] {
            let reason = runtime.block_on(async {
                let liar = Liar::connect(&there, number).await;
                liar.speaker.say(lane, message.clone()).unwrap();
                liar.cut_off().await
            });
            let is_told = reason.contains("cannot be read") || reason.contains("too many in a message");
            assert!(is_told && reason.len() < 200, "{number}: {reason}");
            there.check(&reason);
        }
    }
}

#[test]
fn what_is_said_behind_a_lie_is_not_heard() {
    let (there, runtime) = (there(), runtime());
    runtime.block_on(async {
        let liar = Liar::connect(&there, 300).await;
        liar.say(&cancels(vec![Span { first: TaskId { client: 301, seq: 0 }, count: 1 }]));
        liar.say(&FromClient::Behind(0, Wish::Answer(0, Question::CancelAll)));
        assert!(liar.cut_off().await.contains("another client's tasks"));
    });
    there.check("the cluster has not ended");
}

#[test]
fn what_is_absurd_and_no_lie_harms_nobody() {
    let (there, runtime) = (there(), runtime());
    runtime.block_on(async {
        let mut liar = Liar::connect(&there, 400).await;
        let me = liar.client;
        let absurd = Submitted {
            retries: (u16::MAX, u16::MAX),
            deadline_ns: Some(u64::MAX),
            is_kept: true,
            chunksize: u32::MAX,
            label: Some("x".repeat(1 << 20).into()),
            ..calls(me, 1 << 40, 2)
        };
        let nobody = Aim::One(EngineId(u32::MAX));
        liar.say(&functions());
        liar.say(&FromClient::Engines(0, vec![EngineId(9); 1_000]));
        liar.say(&FromClient::Engines(1, vec![]));
        liar.say(&FromClient::Submit(vec![absurd]));
        // Behind calls that never come.
        liar.say(&FromClient::Behind(u64::MAX - 1, Wish::Answer(1, Question::Status)));
        let missed = [
            Submitted { aim: nobody, ..call(me, 0) },
            Submitted { aim: Aim::Of(0), ..call(me, 1) },
            Submitted { aim: Aim::Of(1), ..call(me, 2) },
            Submitted { deadline_ns: Some(0), ..call(me, 3) },
            Submitted { arguments: inline(b""), ..call(me, 4) },
        ];
        assert_eq!(liar.outcome(1 << 40).await, Ok(()));
        for (seq, call) in (0..).zip(missed) {
            liar.say(&FromClient::Submit(vec![call]));
            assert!(liar.outcome(seq).await.is_err(), "{seq}");
        }
    });
    there.check("what nobody may run has settled");
}

#[test]
fn a_cancel_of_more_tasks_than_there_can_be_takes_no_longer_than_another() {
    let (there, runtime) = (there(), runtime());
    runtime.block_on(async {
        let mut liar = Liar::connect(&there, 500).await;
        let me = liar.client;
        liar.say(&functions());
        liar.say(&FromClient::Submit(vec![Submitted { key: stay::kind().key, arguments: inline(b""), ..call(me, 3) }]));
        let tasks = vec![Span { first: TaskId { client: me, seq: 0 }, count: u32::MAX }; 1_000];
        let wish = Wish::Cancel { tasks, reason: "x".repeat(1 << 20).into(), manner: Manner::Ask };
        liar.say(&FromClient::Behind(1, wish));
        let Err(Trouble::Cancelled(reason)) = liar.outcome(3).await else { panic!("it is cancelled") };
        assert_eq!(reason.len(), CANCEL_REASON_BYTES_MAX);
    });
    there.check("the scheduler is there for others");
}

#[test]
fn questions_without_end_are_answered_or_refused_and_others_go_on() {
    const QUESTIONS: u64 = 20_000;
    let (there, runtime) = (there(), runtime());
    runtime.block_on(async {
        let mut liar = Liar::connect(&there, 600).await;
        let id = TaskId { client: 1, seq: 1 };
        for n in 0..QUESTIONS {
            let questions = [Question::Status, Question::Record(id), Question::Fetch(id), Question::State(id)];
            let question = questions[n as usize % 4].clone();
            liar.say(&FromClient::Behind(0, Wish::Answer(n, question)));
        }
        let mut answers = 0;
        while answers < QUESTIONS {
            let heard = timeout(PATIENCE, liar.heard.recv()).await.expect("it is answered in time").unwrap();
            answers += u64::from(matches!(heard, ToClient::Answer(..)));
        }
    });
    there.check("it is all answered");
}

#[test]
fn a_task_that_is_submitted_again_in_another_session_takes_no_room() {
    let (mut limits, runtime) = (Limits::default(), runtime());
    limits.pending_tasks_max = 30;
    let there = there_within(limits);
    runtime.block_on(async {
        let again = |me| Submitted { key: stay::kind().key, arguments: inline(b""), ..call(me, 1) };
        for _ in 0..50 {
            let mut liar = Liar::connect(&there, 700).await;
            liar.say(&functions());
            liar.say(&FromClient::Submit(vec![again(700), call(700, 0)]));
            assert_eq!(liar.outcome(0).await, Ok(()));
        }
        let mut liar = Liar::connect(&there, 700).await;
        liar.say(&functions());
        liar.say(&FromClient::Submit(vec![again(700)]));
        let (tasks, reason) = (vec![Span { first: TaskId { client: 700, seq: 1 }, count: 1 }], "so".into());
        liar.say(&FromClient::Behind(1, Wish::Cancel { tasks, reason, manner: Manner::Ask }));
        assert!(liar.outcome(1).await.is_err());
    });
    there.check("there is room for as many as before");
}
