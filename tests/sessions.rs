//! Sessions over a pipe within the process, in virtual time: what is said is heard; beats, credits and the end.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use callboard::wire::frame::{FrameLimits, Lane, Message};
use callboard::wire::outgoing::Outgoing;
use callboard::wire::pump::run;
use callboard::wire::session::{Ending, Heard, SayError, SessionLimits, Speaker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

const WINDOW: u64 = 1 << 20;

fn limits() -> SessionLimits {
    SessionLimits { window_bytes: WINDOW, ..SessionLimits::default() }
}

/// One end of a session, driven by a task.
struct End {
    speaker: Speaker,
    heard: UnboundedReceiver<Heard>,
    ending: JoinHandle<Ending>,
}

impl End {
    fn of(stream: DuplexStream, limits: SessionLimits) -> Self {
        let speaker = Speaker::new(limits);
        let (tell, heard) = unbounded_channel();
        let ending = tokio::spawn({
            let speaker = speaker.clone();
            async move {
                let (reader, writer) = split(stream);
                run(reader, writer, &speaker, |heard| tell.send(heard).map_err(|_| "nobody listens".into())).await
            }
        });
        Self { speaker, heard, ending }
    }

    fn say(&self, lane: Lane, text: &str) {
        self.speaker.say(lane, message(text)).unwrap();
    }

    async fn hear(&mut self) -> Heard {
        self.heard.recv().await.expect("the session goes on")
    }

    async fn text(&mut self) -> String {
        String::from_utf8(self.hear().await.message.header.to_vec()).unwrap()
    }

    async fn ending(self) -> Ending {
        drop(self.heard);
        self.ending.await.unwrap()
    }
}

fn message(text: &str) -> Message {
    Message { header: Bytes::from(text.to_owned()), buffers: Vec::new() }
}

fn blob(bytes: usize) -> Message {
    Message { header: Bytes::from_static(b"blob"), buffers: vec![Bytes::from(vec![7; bytes])] }
}

fn pair() -> (End, End) {
    let (here, there) = duplex(64 << 10);
    (End::of(here, limits()), End::of(there, limits()))
}

/// One end of a session, and a stream on which a test plays the other.
fn half() -> (End, DuplexStream) {
    let (here, there) = duplex(64 << 10);
    (End::of(here, limits()), there)
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_heard_both_ways_in_the_order_of_its_lane() {
    let (mut here, mut there) = pair();
    for n in 0..100 {
        here.say(Lane::Bulk, &format!("bulk {n}"));
        there.say(Lane::Bulk, &format!("back {n}"));
    }
    here.say(Lane::Control, "urgent");
    let mut bulk = Vec::new();
    for _ in 0..101 {
        let heard = there.hear().await;
        let text = String::from_utf8(heard.message.header.to_vec()).unwrap();
        assert_eq!(heard.lane == Lane::Control, text == "urgent");
        if heard.lane == Lane::Bulk {
            bulk.push(text);
        }
    }
    assert_eq!(bulk, (0..100).map(|n| format!("bulk {n}")).collect::<Vec<_>>());
    for n in 0..100 {
        assert_eq!(here.text().await, format!("back {n}"));
    }
    here.speaker.say(Lane::Bulk, blob(3_000_000)).unwrap();
    let heard = there.hear().await;
    assert_eq!(heard.message, blob(3_000_000));
}

#[tokio::test(start_paused = true)]
async fn the_control_lane_passes_where_bulk_has_no_credit_and_credit_lets_it_go_on() {
    let (here, mut there) = pair();
    for _ in 0..40 {
        here.speaker.say(Lane::Bulk, blob(100_000)).unwrap();
    }
    // As many as fit into the window; nobody deals with them.
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(there.hear().await);
    }
    here.say(Lane::Control, "cancel");
    assert_eq!(there.text().await, "cancel");
    sleep(Duration::from_secs(60)).await;
    assert!(there.heard.try_recv().is_err(), "no more may be sent");

    // A minute is no fault of anybody's. Dealt with, they let the others pass.
    drop(held);
    for n in 10..40 {
        let heard = there.hear().await;
        assert_eq!(heard.message.buffers[0].len(), 100_000, "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_window_passes_also_behind_others() {
    let (here, mut there) = pair();
    for bytes in [10_000, 5 * WINDOW as usize, 10_000, 3 * WINDOW as usize] {
        here.speaker.say(Lane::Bulk, blob(bytes)).unwrap();
        let heard = there.hear().await;
        assert_eq!(heard.message.buffers[0].len(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn beats_keep_an_idle_session_and_silence_ends_it() {
    let (here, there) = pair();
    sleep(Duration::from_secs(3_600)).await;
    assert!(!here.ending.is_finished() && !there.ending.is_finished());

    let (here, mut silent) = half();
    let began = Instant::now();
    assert_eq!(here.ending().await, Ending::Silent(Duration::from_secs(5)));
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    let beat = [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    // One a second; the last is due as the session ends.
    assert!(said == beat.repeat(4) || said == beat.repeat(5), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stood_still_blames_nobody() {
    let (here, there) = pair();
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        // As after a suspend: half a minute has passed at once.
        advance(Duration::from_secs(30)).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert!(!here.ending.is_finished() && !there.ending.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_off() {
    let (here, mut deaf) = half();
    here.speaker.say(Lane::Bulk, blob(500_000)).unwrap();
    let began = Instant::now();
    // It speaks, so it is not silent.
    let beats = tokio::spawn(async move {
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            let beat = [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            if deaf.write_all(&beat).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(here.ending().await, Ending::Stalled(Duration::from_secs(10)));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    beats.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_comes_after_what_was_said_and_tells_why() {
    let (here, mut there) = pair();
    for _ in 0..5 {
        here.speaker.say(Lane::Bulk, blob(100_000)).unwrap();
    }
    here.speaker.close("the night is over");
    here.speaker.close("another reason");
    assert_eq!(here.speaker.say(Lane::Bulk, message("too late")), Err(SayError::Closed));
    for _ in 0..5 {
        there.hear().await;
    }
    assert_eq!(there.ending().await, Ending::ClosedByPeer("the night is over".into()));
    assert!(here.speaker.is_closed());
    assert_eq!(here.ending().await, Ending::Closed("the night is over".into()));
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_credit_for_ever() {
    let (here, mut there) = pair();
    for _ in 0..20 {
        here.speaker.say(Lane::Bulk, blob(100_000)).unwrap();
    }
    here.speaker.close("the night is over");
    let began = Instant::now();
    let mut held = Vec::new();
    while let Some(heard) = there.heard.recv().await {
        held.push(heard);
    }
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(held.len(), 10);
    assert_eq!(there.ending().await, Ending::ClosedByPeer("the night is over".into()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_without_a_word_is_lost() {
    let (here, stream) = half();
    drop(stream);
    assert_eq!(here.ending().await, Ending::Lost);
}

#[tokio::test(start_paused = true)]
async fn what_peers_do_not_send_ends_the_session_and_they_are_told() {
    let frame = |lane, header: &[u8], times| {
        let mut outgoing = Outgoing::default();
        for _ in 0..times {
            let message = Message { header: Bytes::copy_from_slice(header), buffers: Vec::new() };
            outgoing.say(lane, message, FrameLimits::PEER).unwrap();
        }
        let mut bytes = Vec::new();
        loop {
            let mut write = outgoing.next_write(usize::MAX);
            if !bytes::Buf::has_remaining(&write) {
                return bytes;
            }
            let len = bytes::Buf::remaining(&write);
            bytes.extend_from_slice(&bytes::Buf::copy_to_bytes(&mut write, len));
        }
    };
    let control = |header: &[u8]| {
        let mut bytes = vec![8 + header.len() as u8, 0, 0, 0, 0, 0, 0, 0, header.len() as u8, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(header);
        bytes
    };
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "this is no frame"),
        (control(&[9]), "a word of 1 bytes cannot be read"),
        (control(&[0, 0]), "a word of 2 bytes cannot be read"),
        (control(&[1, 5]), "credit for 5 bytes that it was not sent"),
        (frame(Lane::Bulk, &[0; 100_000], 20), "more than it had credit for"),
    ];
    for (bytes, expected) in cases {
        let (here, mut peer) = half();
        let mut held = here.heard;
        let holding = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(heard) = held.recv().await {
                all.push(heard);
            }
        });
        let told = tokio::spawn(async move {
            // It may be cut off before all of it is written.
            let _ = peer.write_all(&bytes).await;
            let mut told = Vec::new();
            let _ = peer.read_to_end(&mut told).await;
            String::from_utf8_lossy(&told).into_owned()
        });
        let Ending::Protocol(reason) = here.ending.await.unwrap() else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
        let told = told.await.unwrap();
        assert!(told.contains(expected) && told.contains("protocol: "), "{told:?}");
        holding.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_may_end_the_session() {
    let (here, there) = pair();
    drop(there.heard);
    here.say(Lane::Bulk, "hello");
    assert_eq!(there.ending.await.unwrap(), Ending::Protocol("nobody listens".into()));
    assert_eq!(here.ending().await, Ending::ClosedByPeer("protocol: nobody listens".into()));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_a_large_message_goes_alone() {
    let bounds = SessionLimits { outbound_bytes_max: 100_000, ..limits() };
    let speaker = Speaker::new(bounds);
    speaker.say(Lane::Bulk, blob(2_000_000)).unwrap();
    let refused = speaker.say(Lane::Bulk, message("more"));
    assert!(matches!(refused, Err(SayError::Full { waiting: 2_000_016, max: 100_000 })), "{refused:?}");
    speaker.say(Lane::Control, message("cancel")).unwrap();
    let too_large = speaker.say(Lane::Bulk, Message { header: vec![0; 17 << 20].into(), buffers: vec![] });
    assert!(matches!(too_large, Err(SayError::Full { .. })));
    let fresh = Speaker::new(limits());
    let too_large = fresh.say(Lane::Bulk, Message { header: vec![0; 17 << 20].into(), buffers: vec![] });
    assert!(matches!(too_large, Err(SayError::TooLarge(_))), "{too_large:?}");
}
