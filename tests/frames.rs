//! Frames: whatever is said comes out as it was said, however the stream is cut; whatever else comes is an error, and
//! takes no more memory than its bytes.
//!
//! `CALLBOARD_CASES` is how many streams each property tries.
#![allow(clippy::unwrap_used)]

use bytes::{Buf, Bytes};
use callboard::wire::frame::{FRAME_BYTES_MAX, FrameError, FrameLimits, Lane, Message, UNCOPIED_BYTES_MIN};
use callboard::wire::incoming::Incoming;
use callboard::wire::outgoing::Outgoing;
use proptest::prelude::*;
use proptest::sample::Index;

const PEER: FrameLimits = FrameLimits::PEER;

/// A message with recognisable bytes.
fn message(seed: u8, header: usize, buffers: &[usize]) -> Message {
    let bytes = |n: usize, len: usize| Bytes::from_iter((0..len).map(|i| (i + n) as u8 ^ seed));
    Message {
        header: bytes(0, header),
        buffers: buffers.iter().enumerate().map(|(n, &len)| bytes(n + 1, len)).collect(),
    }
}

/// What a peer would write, with at most `bulk_max` bytes of bulk at once.
fn written(said: &[(Lane, Message)], bulk_max: usize) -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    for (lane, message) in said {
        outgoing.say(*lane, message.clone(), PEER).unwrap();
    }
    let mut stream = Vec::new();
    loop {
        let mut write = outgoing.next_write(bulk_max);
        if !write.has_remaining() {
            return stream;
        }
        stream.extend_from_slice(&write.copy_to_bytes(write.remaining()));
    }
}

/// Reads a stream in pieces of these lengths, directly into large buffers where there is room.
fn read(stream: &[u8], cuts: &[usize], limits: FrameLimits) -> Result<Vec<(Lane, Message)>, FrameError> {
    let (mut incoming, mut heard) = (Incoming::new(limits), Vec::new());
    let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let len = (*cuts.next().unwrap()).clamp(1, rest.len());
        if let Some(mut room) = incoming.room() {
            let len = bytes::BufMut::remaining_mut(&room).min(len);
            bytes::BufMut::put(&mut room, &rest[..len]);
            incoming.filled(len, |lane, message| heard.push((lane, message)));
            rest = &rest[len..];
        } else {
            incoming.take_in(&rest[..len], |lane, message| heard.push((lane, message)))?;
            rest = &rest[len..];
        }
    }
    Ok(heard)
}

fn of(lane: Lane, all: &[(Lane, Message)]) -> Vec<Message> {
    all.iter().filter(|(of, _)| *of == lane).map(|(_, message)| message.clone()).collect()
}

fn a_length() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..200_usize,
        2 => UNCOPIED_BYTES_MIN - 2..UNCOPIED_BYTES_MIN + 3,
        1 => 60_000..150_000_usize,
    ]
}

fn said() -> impl Strategy<Value = Vec<(Lane, Message)>> {
    let control = (any::<u8>(), a_length()).prop_map(|(seed, header)| (Lane::Control, message(seed, header, &[])));
    let bulk = (any::<u8>(), a_length(), prop::collection::vec(a_length(), 0..4))
        .prop_map(|(seed, header, buffers)| (Lane::Bulk, message(seed, header, &buffers)));
    prop::collection::vec(prop_oneof![control, bulk], 0..8)
}

fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("CALLBOARD_CASES").map_or(usual, |cases| cases.parse().unwrap());
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_said_is_heard_in_the_order_of_its_lane_however_the_stream_is_cut(
        said in said(),
        cuts in prop::collection::vec(1..70_000_usize, 1..6),
        bulk_max in prop_oneof![Just(1), Just(1_000), Just(FRAME_BYTES_MAX)],
    ) {
        // One byte a frame is for small streams.
        let bulk_max = if said.iter().any(|(_, said)| said.buffers.len() > 1) { bulk_max.max(1_000) } else { bulk_max };
        let heard = read(&written(&said, bulk_max), &cuts, PEER).unwrap();
        for lane in [Lane::Control, Lane::Bulk] {
            prop_assert_eq!(of(lane, &heard), of(lane, &said));
        }
    }

    #[test]
    fn a_stream_that_was_tampered_with_is_an_error_or_other_messages_and_no_more_than_its_bytes(
        said in said(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        limits in prop_oneof![Just(PEER), Just(FrameLimits::STRANGER)],
    ) {
        let mut stream = written(&said, FRAME_BYTES_MAX);
        prop_assume!(!stream.is_empty());
        for (at, byte) in changes {
            // Where lengths are, more often than chance would have it.
            let at = if byte % 2 == 0 { at.index(stream.len().min(24)) } else { at.index(stream.len()) };
            stream[at] = byte;
        }
        if let Ok(heard) = read(&stream, &[4_096], limits) {
            let parts = heard.iter().flat_map(|(_, message)| message.buffers.iter().chain([&message.header]));
            prop_assert!(parts.map(Bytes::len).sum::<usize>() <= stream.len());
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_to_an_error_or_the_end(stream in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&stream, &[7], PEER);
    }
}

#[test]
fn control_goes_first_and_waits_for_at_most_one_frame_of_bulk() {
    let mut outgoing = Outgoing::default();
    let large = message(1, 10, &[5 * FRAME_BYTES_MAX]);
    outgoing.say(Lane::Bulk, large.clone(), PEER).unwrap();
    let mut stream = Vec::new();
    let mut take = |outgoing: &mut Outgoing, bulk_max| {
        let mut write = outgoing.next_write(bulk_max);
        let (bulk, len) = (write.bulk(), write.remaining());
        stream.extend_from_slice(&write.copy_to_bytes(len));
        (bulk, len - bulk)
    };
    assert_eq!(take(&mut outgoing, usize::MAX), (FRAME_BYTES_MAX, 8));
    let cancel = message(2, 20, &[]);
    outgoing.say(Lane::Control, cancel.clone(), PEER).unwrap();
    assert_eq!(take(&mut outgoing, 1_000), (1_000, 8 + 8 + 20 + 8), "both have a head, and so has the message");
    assert_eq!(take(&mut outgoing, 0), (0, 0), "no bulk may go now");
    while take(&mut outgoing, usize::MAX).0 > 0 {}
    assert_eq!((outgoing.waiting(Lane::Control), outgoing.waiting(Lane::Bulk)), (0, 0));
    let heard = read(&stream, &[100_000], PEER).unwrap();
    assert_eq!(heard, [(Lane::Control, cancel), (Lane::Bulk, large)]);
}

#[test]
fn small_messages_share_a_frame_and_large_buffers_are_not_copied() {
    let mut outgoing = Outgoing::default();
    for seed in 0..100 {
        outgoing.say(Lane::Bulk, message(seed, 30, &[]), PEER).unwrap();
    }
    let buffer = Bytes::from(vec![7; UNCOPIED_BYTES_MIN]);
    let with_buffer = Message { header: Bytes::from_static(b"large"), buffers: vec![buffer.clone()] };
    outgoing.say(Lane::Bulk, with_buffer, PEER).unwrap();
    let write = outgoing.next_write(usize::MAX);
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    assert_eq!(write.chunks_vectored(&mut slices), 3, "the head, what is small, the buffer");
    assert_eq!(slices[1].len(), 100 * (8 + 30) + 12 + 5);
    assert_eq!(slices[2].as_ptr(), buffer.as_ptr());
}

#[test]
fn what_a_peer_claims_is_checked_before_anything_is_allocated_for_it() {
    let head = |length: u32, lane: u8| [&length.to_le_bytes()[..], &[lane, 0, 0, 0]].concat();
    let said = |header: u32, buffers: &[u32]| {
        let numbers = [header, buffers.len() as u32].into_iter().chain(buffers.iter().copied());
        let body: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        [head(body.len() as u32, 1), body].concat()
    };
    let too_large = |what, claimed, max| Err(FrameError::TooLarge { what, claimed, max });
    let frame_max = FRAME_BYTES_MAX as u32;
    let stranger = FrameLimits::STRANGER;
    let cases = [
        (head(frame_max + 1, 0), PEER, too_large("a frame", FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX)),
        (head(u32::MAX, 1), PEER, too_large("a frame", u32::MAX as usize, FRAME_BYTES_MAX)),
        (head(0, 1), PEER, Err(FrameError::NoFrame { length: 0, lane: 1 })),
        (head(5, 2), PEER, Err(FrameError::NoFrame { length: 5, lane: 2 })),
        (b"GET / HTTP/1.1\r\n".to_vec(), PEER, Err(FrameError::NoFrame { length: 0x2054_4547, lane: b'/' })),
        (said(u32::MAX, &[]), PEER, too_large("a header", u32::MAX as usize, PEER.header_bytes_max)),
        (said(5_000, &[]), stranger, too_large("a header", 5_000, 4_096)),
        (said(5, &[0; 4_097]), PEER, too_large("a number of buffers", 4_097, 4_096)),
        (said(5, &[0]), stranger, too_large("a number of buffers", 1, 0)),
        (said(5, &[1 << 30, (1 << 30) + 1]), PEER, too_large("a buffer", (1 << 30) + 1, 1 << 30)),
        (said(5, &[1 << 30; 3]), PEER, too_large("a message", 5 + (3 << 30), PEER.message_bytes_max)),
        // As large as may be, and nothing of it there: no message, no error.
        (said(16 << 20, &[1 << 30]), PEER, Ok(vec![])),
    ];
    for (stream, limits, expected) in cases {
        assert_eq!(read(&stream, &[3, 5], limits), expected, "{:?}", &stream[..8]);
    }
    let mut outgoing = Outgoing::default();
    let refused = outgoing.say(Lane::Bulk, message(0, 5_000, &[]), stranger);
    assert_eq!(refused, Err(FrameError::TooLarge { what: "a header", claimed: 5_000, max: 4_096 }));
    // Nothing holds the control lane up.
    let buffers = too_large("a number of buffers", 1, 0);
    assert_eq!(outgoing.say(Lane::Control, message(0, 5, &[1]), PEER).map(|()| vec![]), buffers);
    assert_eq!((outgoing.waiting(Lane::Bulk), outgoing.waiting(Lane::Control)), (0, 0));
    let on_control = [&(24_u32.to_le_bytes())[..], &[0, 0, 0, 0], &5_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    assert_eq!(read(&on_control, &[7], PEER), buffers);
}

#[test]
fn a_buffer_grows_with_the_bytes_that_come() {
    let large = message(3, 10, &[8 << 20]);
    let stream = written(&[(Lane::Bulk, large.clone())], FRAME_BYTES_MAX);
    let (mut incoming, mut heard) = (Incoming::new(PEER), Vec::new());
    let (mut rest, mut most) = (&stream[..], 0);
    while !rest.is_empty() {
        let came = stream.len() - rest.len();
        let len = match incoming.room() {
            Some(mut room) => {
                // What may be filled is what was allocated.
                let ahead = bytes::BufMut::remaining_mut(&room);
                assert!(ahead <= came.max(64 << 10), "{ahead} are ahead of {came}");
                most = most.max(ahead);
                let len = ahead.min(rest.len());
                bytes::BufMut::put(&mut room, &rest[..len]);
                incoming.filled(len, |_, message| heard.push(message));
                len
            }
            None => {
                let len = rest.len().min(50);
                incoming.take_in(&rest[..len], |_, message| heard.push(message)).unwrap();
                len
            }
        };
        rest = &rest[len..];
    }
    assert!(most > 500_000, "large parts are read at once: {most}");
    assert_eq!(heard, [large]);
}
