//! What any bytes are put through that a peer may send: by a fuzzer (`fuzz/`), and bounded by `tests/nearly_right.rs`.
//!
//! Each ends in a value or an error; a panic, or more memory than came, is a bug.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fmt::Debug;
use std::time::Duration;

use callboard::wire::frame::{FrameLimits, Lane, Message};
use callboard::wire::handshake::{Hello, Role, join, welcome};
use callboard::wire::incoming::Incoming;
use callboard::wire::protocol::{FromEngine, ToEngine, decode, encode};
use tokio::io::{AsyncWriteExt, duplex};

/// Reads a stream in pieces, whose length the first byte says.
pub fn frames(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let mut incoming = Incoming::new(FrameLimits::PEER);
    let mut came = 0;
    for piece in stream.chunks(usize::from(*cut) + 1) {
        came += piece.len();
        let mut complete = 0;
        let taken = incoming.take_in(piece, |_, message| {
            complete += message.bytes();
            read_on(&message);
        });
        if taken.is_err() {
            return;
        }
        let held = incoming.under_way(Lane::Bulk) + incoming.under_way(Lane::Control);
        assert!(held + complete <= came, "{held} bytes are held of {came} that came");
    }
}

/// Is what a peer says in its handshake, to a controller and to an engine.
pub fn handshake(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let ours = |role| Hello { role, cluster: 7, incarnation: 1, build: 2 };
        let wait = Duration::from_secs(5);
        for is_controller in [true, false] {
            let (mut here, mut there) = duplex(1 << 20);
            let _ = there.write_all(bytes).await;
            let _ = there.shutdown().await;
            if is_controller {
                drop(welcome(&mut here, &ours(Role::Controller), &[Role::Engine, Role::Client], wait).await);
            } else {
                drop(join(&mut here, &ours(Role::Engine), &Default::default(), wait).await);
            }
        }
    });
}

/// Is what a peer says in a session: the header of a message whose buffers are its own halves.
pub fn envelope(bytes: &[u8]) {
    let (front, back) = bytes.split_at(bytes.len() / 2);
    let buffers = vec![front.to_vec().into(), back.to_vec().into()];
    read_on(&Message { header: bytes.to_vec().into(), buffers });
}

/// Reads a message as either side does. What can be read is written and read again as the same.
fn read_on(message: &Message) {
    let same = |said: &dyn Debug, again: Result<String, Box<str>>| assert_eq!(again, Ok(format!("{said:?}")));
    if let Ok(said) = decode::<ToEngine>(message) {
        same(&said, decode::<ToEngine>(&encode(&said, Vec::new())).map(|again| format!("{again:?}")));
        if let ToEngine::Run(calls) = said {
            calls.into_iter().for_each(|call| drop(call.arguments.take(&message.buffers)));
        }
    }
    if let Ok(said) = decode::<FromEngine>(message) {
        same(&said, decode::<FromEngine>(&encode(&said, Vec::new())).map(|again| format!("{again:?}")));
    }
}
