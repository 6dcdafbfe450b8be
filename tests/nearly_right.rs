//! Bytes that are nearly right, put through what takes a peer's bytes: a bounded run of what `fuzz/` does without end.
//!
//! `CALLBOARD_CASES` is how many of each there are.
#![allow(clippy::unwrap_used)]

use bytes::{Buf, Bytes};
use callboard::ledger::QueueStatus;
use callboard::task::{Attempt, EngineId, Lack, Span, Status, Stream, TaskId, TaskState, TaskTable};
use callboard::wire::clients::{
    Aim, Answer, FromClient, Function, Manner, Question, Refusal, Remembered, Returned, Settled, Submitted, ToClient,
    Trouble, Wish,
};
use callboard::wire::frame::{FrameLimits, Lane, Message};
use callboard::wire::handshake::{Hello, Role};
use callboard::wire::outgoing::Outgoing;
use callboard::wire::protocol::{
    Body, Call, Encoded, End, Fault, FromEngine, LogLevel, LogLine, Made, Print, ToEngine, decode, encode,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::DeserializeOwned;

mod fuzzed;

const ID: TaskId = TaskId { client: 0x1234_5678_9abc_def0, seq: 77 };

/// Messages of every kind that travels.
fn messages() -> Vec<Message> {
    [of_engines(), of_clients()].concat()
}

fn inline(bytes: &'static [u8]) -> Encoded {
    Encoded { bytes: Body::Inline(Bytes::from_static(bytes)), blobs: vec![] }
}

/// In two buffers.
fn beside() -> Encoded {
    Encoded { bytes: Body::Buffer(1), blobs: vec![0, 1] }
}

fn buffers() -> Vec<Bytes> {
    vec![Bytes::from(vec![5; 20_000]), Bytes::from_static(b"small")]
}

fn of_engines() -> Vec<Message> {
    let call = |arguments| Call {
        id: ID,
        count: 3,
        attempt: Attempt(2),
        key: u64::MAX,
        label: Some("night run".into()),
        arguments,
        is_kept: true,
    };
    let end = |outcome| End { id: ID, count: 2, attempt: Attempt(1), ran_ns: 1 << 40, outcome };
    let faults = ["failed", "panicked", "arguments", "value"].map(Box::from);
    let [failed, panicked, arguments, value] = faults;
    let faults = [Fault::Failed(failed), Fault::Panicked(panicked), Fault::Arguments(arguments), Fault::Value(value)];
    let faults: Vec<(u32, Fault)> = (0..).zip(faults.into_iter().chain([Fault::Unknown])).collect();
    let to = [
        ToEngine::Joined(EngineId(3)),
        ToEngine::Run(vec![call(inline(b"\x01\0\0\0\x07\x01\0\0\0\x08")), call(beside())]),
        ToEngine::Revoke { tasks: vec![ID, ID.plus(1)], after: 3 },
        ToEngine::Recall,
        ToEngine::Stop,
        ToEngine::Look,
    ];
    let from = [
        FromEngine::Ended(vec![
            end(Ok(Made::One(inline(b"value")))),
            end(Ok(Made::Each { values: inline(b"\0\0\0\0"), faults })),
            end(Err(Fault::Panicked("over".into()))),
        ]),
        FromEngine::Back(vec![(Span { first: ID, count: 9 }, Attempt(4))]),
        FromEngine::Printed(Print { task: Some((ID, Attempt(1))), stream: Stream::Stderr, text: "a line\n".into() }),
        FromEngine::Leaving,
        FromEngine::IsAt(Some((ID, Attempt(1)))),
        FromEngine::Logged(LogLine {
            level: LogLevel::Warn,
            target: "engine".into(),
            task: Some((ID, Attempt(1))),
            text: "a line".into(),
            left_out: 7,
        }),
    ];
    to.iter().map(|said| encode(said, buffers())).chain(from.iter().map(|said| encode(said, buffers()))).collect()
}

fn of_clients() -> Vec<Message> {
    let function = Function { name: "square".into(), version: 1, fingerprint: u64::MAX, is_idempotent: true };
    let call = |aim, arguments| Submitted {
        id: ID,
        count: 2,
        key: u64::MAX,
        aim,
        retries: (1, u16::MAX),
        label: Some("night run".into()),
        deadline_ns: Some(1 << 40),
        is_kept: true,
        chunksize: 3,
        arguments,
    };
    let (span, manner, reason) = (Span { first: ID, count: 9 }, Manner::Force, "enough".into());
    let from = [
        FromClient::Functions(vec![function.clone(); 2]),
        FromClient::Engines(7, vec![EngineId(0), EngineId(300)]),
        FromClient::Submit(vec![
            call(Aim::Any, inline(b"\x01\0\0\0\x07\x01\0\0\0\x08")),
            call(Aim::One(EngineId(3)), beside()),
            call(Aim::Of(7), inline(b"")),
        ]),
        FromClient::Behind(1 << 40, Wish::Cancel { tasks: vec![span], reason, manner }),
        FromClient::Behind(3, Wish::Answer(5, Question::Fetch(ID))),
        FromClient::Behind(3, Wish::Answer(6, Question::CancelAll)),
        FromClient::Behind(3, Wish::Answer(7, Question::State(ID))),
    ];
    let settled = |outcome| Settled {
        id: ID,
        count: 2,
        key: u64::MAX,
        attempt: Attempt(1),
        engine: Some(EngineId(3)),
        ran_ns: Some(1 << 40),
        outcome,
        printed: vec![(ID, Stream::Stdout, "a line\n".into())],
    };
    let lost = Trouble::EngineLost(EngineId(3), Attempt(1), "signal 9".into());
    let unknown = Trouble::Unknown(EngineId(3), "square".into(), Lack::Differs);
    let troubles = (0..).zip([lost, unknown.clone(), Trouble::TimedOut(1 << 40), Trouble::Evicted]).collect();
    let remembered = Remembered {
        id: ID,
        function,
        label: None,
        status: Status::Done,
        engine: Some(EngineId(3)),
        attempt: Attempt(1),
        submitted_ago_ns: 1 << 50,
        started_ago_ns: Some(1 << 40),
        completed_ago_ns: None,
        stdout: "a line\n".into(),
        stderr: "".into(),
    };
    let to = [
        ToClient::Engines(vec![EngineId(0), EngineId(300)]),
        ToClient::Joined(EngineId(301)),
        ToClient::Left(EngineId(300), "signal 9".into()),
        ToClient::Ending,
        ToClient::Settled(vec![
            settled(Ok(Returned::One(beside()))),
            settled(Ok(Returned::Each { values: inline(b"\0\0\0\0"), troubles })),
            settled(Err(Trouble::Overloaded("tasks".into(), 1 << 40))),
        ]),
        ToClient::Answer(0, Ok(Answer::Status(QueueStatus::default()))),
        ToClient::Answer(1, Ok(Answer::Record(Box::new(remembered)))),
        ToClient::Answer(2, Ok(Answer::Kept(Body::Buffer(0)))),
        ToClient::Answer(3, Err(Refusal::Task(ID, unknown))),
        ToClient::Answer(4, Ok(Answer::State(Some(TaskState::Running { engine: Some(EngineId(300)) })))),
    ];
    from.iter().map(|said| encode(said, buffers())).chain(to.iter().map(|said| encode(said, buffers()))).collect()
}

/// All of them as a stream.
fn stream() -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    for (lane, message) in [Lane::Bulk, Lane::Control].into_iter().cycle().zip(messages()) {
        let buffers = if lane == Lane::Bulk { message.buffers } else { Vec::new() };
        outgoing.say(lane, Message { buffers, ..message }, FrameLimits::PEER).unwrap();
    }
    written(outgoing)
}

fn written(mut outgoing: Outgoing) -> Vec<u8> {
    let mut stream = Vec::new();
    loop {
        let mut write = outgoing.next_write(usize::MAX);
        if !write.has_remaining() {
            return stream;
        }
        stream.extend_from_slice(&write.copy_to_bytes(write.remaining()));
    }
}

/// What a peer says in a handshake: versions, who it is, the verdict, its tasks.
fn greeting() -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    let mut say = |header: Vec<u8>| {
        let message = Message { header: header.into(), buffers: Vec::new() };
        outgoing.say(Lane::Control, message, FrameLimits::PEER).unwrap();
    };
    say(postcard::to_stdvec(&Hello { role: Role::Engine, cluster: 7, incarnation: 9, build: 3 }).unwrap());
    say(postcard::to_stdvec(&None::<Box<str>>).unwrap());
    say(postcard::to_stdvec(&TaskTable::default()).unwrap());
    [&b"call\x01\0\x01\0"[..], &written(outgoing)].concat()
}

/// How bytes are changed.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Remove(Index, u8),
    Repeat(Index, u8),
    Number(Index, u32),
}

fn change() -> impl Strategy<Value = Change> {
    let interesting = prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
    prop_oneof![
        3 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Change::Repeat(at, count)),
        2 => (any::<Index>(), interesting).prop_map(|(at, number)| Change::Number(at, number)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Change::Set(at, byte) => bytes[at.index(len)] = *byte,
            Change::Cut(at) => bytes.truncate(at.index(len)),
            Change::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..(at + usize::from(*count)).min(len));
            }
            Change::Repeat(at, count) => {
                let at = at.index(len);
                let piece = bytes[at..(at + usize::from(*count)).min(len)].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Number(at, number) => {
                let at = at.index(len);
                let end = (at + 4).min(len);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
    }
    bytes
}

fn config() -> ProptestConfig {
    let cases = std::env::var("CALLBOARD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn what_is_right_passes() {
    fuzzed::frames(&[&[255], &stream()[..]].concat());
    fuzzed::handshake(&greeting());
    messages().iter().for_each(|message| fuzzed::envelope(&message.header));
}

/// Takes a message, and not the same with more behind it.
fn takes_no_more<T: DeserializeOwned>(message: &Message) -> bool {
    let more = (1..3).map(|more| [&message.header[..], &vec![0; more]].concat());
    let mut more = more.map(|header| Message { header: header.into(), buffers: message.buffers.clone() });
    decode::<T>(message).is_ok() && more.all(|message| decode::<T>(&message).is_err())
}

#[test]
fn what_is_not_understood_to_its_last_byte_is_refused() {
    for message in of_engines() {
        assert!(takes_no_more::<ToEngine>(&message) || takes_no_more::<FromEngine>(&message));
    }
    for message in of_clients() {
        assert!(takes_no_more::<FromClient>(&message) || takes_no_more::<ToClient>(&message));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn frames_that_are_nearly_right(cut: u8, changes in prop::collection::vec(change(), 1..6)) {
        let mut bytes = changed(stream(), &changes);
        bytes.insert(0, cut);
        fuzzed::frames(&bytes);
    }

    #[test]
    fn greetings_that_are_nearly_right(changes in prop::collection::vec(change(), 1..4)) {
        fuzzed::handshake(&changed(greeting(), &changes));
    }

    #[test]
    fn messages_that_are_nearly_right(which: Index, changes in prop::collection::vec(change(), 1..6)) {
        let message = &which.get(&messages()).header.to_vec();
        fuzzed::envelope(&changed(message.clone(), &changes));
    }

    #[test]
    fn bytes_that_are_not_right_at_all(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzed::frames(&bytes);
        fuzzed::handshake(&bytes);
        fuzzed::envelope(&bytes);
    }
}
