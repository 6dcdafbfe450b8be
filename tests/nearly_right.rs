//! Bytes that are nearly right, put through what takes a peer's bytes: a bounded run of what `fuzz/` does without end.
//!
//! `CALLBOARD_CASES` is how many of each there are.
#![allow(clippy::unwrap_used)]

use bytes::{Buf, Bytes};
use callboard::task::{Attempt, EngineId, Span, Stream, TaskId, TaskTable};
use callboard::wire::frame::{FrameLimits, Lane, Message};
use callboard::wire::handshake::{Hello, Role};
use callboard::wire::outgoing::Outgoing;
use callboard::wire::protocol::{Body, Call, Encoded, End, Fault, FromEngine, Made, Print, ToEngine, decode, encode};
use proptest::prelude::*;
use proptest::sample::Index;

mod fuzzed;

const ID: TaskId = TaskId { client: 0x1234_5678_9abc_def0, seq: 77 };

/// Messages of every kind that travels.
fn messages() -> Vec<Message> {
    let inline = |bytes: &'static [u8]| Encoded { bytes: Body::Inline(Bytes::from_static(bytes)), blobs: vec![] };
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
        ToEngine::Run(vec![
            call(inline(b"\x01\0\0\0\x07\x01\0\0\0\x08")),
            call(Encoded { bytes: Body::Buffer(1), blobs: vec![0, 1] }),
        ]),
        ToEngine::Revoke(vec![ID, ID.plus(1)]),
        ToEngine::Recall,
        ToEngine::Stop,
    ];
    let from = [
        FromEngine::Ended(vec![
            end(Ok(Made::One(inline(b"value")))),
            end(Ok(Made::Each { values: inline(b"\0\0\0\0"), faults })),
            end(Err(Fault::Panicked("over".into()))),
        ]),
        FromEngine::Back(vec![(Span { first: ID, count: 9 }, Attempt(4))]),
        FromEngine::Printed(Print { task: Some((ID, Attempt(1))), stream: Stream::Stderr, text: "a line\n".into() }),
    ];
    let buffers = || vec![Bytes::from(vec![5; 20_000]), Bytes::from_static(b"small")];
    to.iter().map(|said| encode(said, buffers())).chain(from.iter().map(|said| encode(said, buffers()))).collect()
}

/// All of them as a stream.
fn stream() -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    for (lane, message) in [Lane::Bulk, Lane::Control].into_iter().cycle().zip(messages()) {
        outgoing.say(lane, message, FrameLimits::PEER).unwrap();
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

#[test]
fn what_is_not_understood_to_its_last_byte_is_refused() {
    for message in messages() {
        for more in 1..3 {
            let header = [&message.header[..], &vec![0; more]].concat();
            let message = Message { header: header.into(), buffers: message.buffers.clone() };
            assert!(decode::<ToEngine>(&message).is_err() && decode::<FromEngine>(&message).is_err());
        }
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
