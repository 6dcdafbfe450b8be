//! Sessions that outlive their connections, in virtual time: whatever is cut and whenever, each message is heard once.
#![allow(clippy::unwrap_used)]

mod cuts;
mod ended;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callboard::wire::frame::{FrameLimits, Lane, Message};
use callboard::wire::outgoing::Outgoing;
use callboard::wire::pump::run;
use callboard::wire::retained::Received;
use callboard::wire::session::{Ending, Heard, SayError, SessionLimits, Speaker};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const WINDOW: u64 = 256 << 10;

fn limits() -> SessionLimits {
    SessionLimits { window_bytes: WINDOW, ..SessionLimits::default() }
}

/// One end of a session, and what it has heard over all connections. Credits are held.
#[derive(Clone)]
struct End {
    speaker: Speaker,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl End {
    fn lasting() -> Self {
        Self { speaker: Speaker::lasting(limits()), heard: Arc::default() }
    }

    /// Drives it over a connection.
    fn over(&self, stream: DuplexStream) -> JoinHandle<Ending> {
        let Self { speaker, heard } = self.clone();
        tokio::spawn(async move {
            let (reader, writer) = split(stream);
            let hear = |message| {
                heard.lock().push(message);
                Ok(())
            };
            run(reader, writer, &speaker, hear).await
        })
    }

    fn say(&self, lane: Lane, text: &str) {
        self.speaker.say(lane, message(text)).unwrap();
    }

    fn texts(&self) -> Vec<String> {
        let text = |heard: &Heard| String::from_utf8_lossy(&heard.message.header).into_owned();
        self.heard.lock().iter().map(text).collect()
    }

    fn waiting(&self) -> (usize, usize) {
        (self.speaker.waiting(Lane::Control), self.speaker.waiting(Lane::Bulk))
    }
}

/// Connects two ends, each of which knows what the other has received.
fn connect(here: &End, there: &End) -> (JoinHandle<Ending>, JoinHandle<Ending>) {
    let (a, b) = duplex(64 << 10);
    resume(here, there);
    (here.over(a), there.over(b))
}

fn resume(here: &End, there: &End) {
    let (received, theirs) = (here.speaker.suspend(), there.speaker.suspend());
    here.speaker.resume(theirs).unwrap();
    there.speaker.resume(received).unwrap();
}

fn message(text: &str) -> Message {
    Message { header: Bytes::from(text.to_owned()), buffers: Vec::new() }
}

fn blob(bytes: usize) -> Message {
    Message { header: Bytes::from_static(b"blob"), buffers: vec![Bytes::from(vec![7; bytes])] }
}

/// Long enough for whatever goes without a wait, too short for a beat.
async fn a_moment() {
    sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_there_is_no_connection_is_heard_over_the_next() {
    let (here, there) = (End::lasting(), End::lasting());
    let (driven, other) = connect(&here, &there);
    here.say(Lane::Bulk, "one");
    a_moment().await;
    other.abort();
    assert_eq!(driven.await.unwrap(), Ending::Lost);

    assert!(!here.speaker.is_closed() && !here.speaker.has_ended());
    here.say(Lane::Bulk, "two");
    here.say(Lane::Control, "urgent");
    assert_eq!(here.speaker.waiting(Lane::Bulk), message("one").bytes() + message("two").bytes());
    let _driven = connect(&here, &there);
    a_moment().await;
    assert_eq!(there.texts(), ["one", "urgent", "two"]);
    assert_eq!(there.speaker.received(), Received { control: 1, bulk: 2 });
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_connection_only_suspends_the_session() {
    // Silent, and stalled for who speaks but does not read.
    for (speaks, expected) in
        [(false, Ending::Silent(Duration::from_secs(5))), (true, Ending::Stalled(Duration::from_secs(10)))]
    {
        let (here, there) = (End::lasting(), End::lasting());
        let (a, mut deaf) = duplex(1_000);
        here.speaker.say(Lane::Bulk, blob(10_000)).unwrap();
        let driven = here.over(a);
        let beats = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_secs(1)).await;
                let beat = [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
                if speaks && deaf.write_all(&beat).await.is_err() {
                    return;
                }
            }
        });
        assert_eq!(driven.await.unwrap(), expected);
        beats.abort();
        assert!(!here.speaker.is_closed());
        let _driven = connect(&here, &there);
        a_moment().await;
        assert_eq!(there.texts(), ["blob"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_retained_no_more_and_half_a_window_is_at_once() {
    let (here, there) = (End::lasting(), End::lasting());
    let _driven = connect(&here, &there);
    here.say(Lane::Control, "urgent");
    here.speaker.say(Lane::Bulk, blob(100_000)).unwrap();
    a_moment().await;
    assert_eq!(there.heard.lock().len(), 2);
    assert!(here.waiting().0 > 0 && here.waiting().1 > 100_000, "{:?}", here.waiting());
    here.speaker.say(Lane::Bulk, blob(50_000)).unwrap();
    a_moment().await;
    assert_eq!(here.waiting(), (0, 0));

    // The rest with the next beat.
    here.say(Lane::Bulk, "more");
    a_moment().await;
    assert!(here.waiting().1 > 0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(here.waiting(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_speaks_all_the_time_acknowledges_too() {
    let (here, there) = (End::lasting(), End::lasting());
    let _driven = connect(&here, &there);
    for n in 0..50 {
        // So often that neither is ever due to beat.
        here.say(Lane::Control, "here");
        there.say(Lane::Control, "there");
        sleep(Duration::from_millis(100)).await;
        let at_most = 12 * (message("there").bytes() + 10);
        assert!(here.waiting().0 <= at_most && there.waiting().0 <= at_most, "{n}: {:?}", here.waiting());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_beats_and_does_nothing_else() {
    let (a, mut peer) = duplex(64 << 10);
    let here = End::lasting();
    let driven = here.over(a);
    // One message on the bulk lane, which is acknowledged once.
    peer.write_all(&written(Lane::Bulk, b"hello")).await.unwrap();
    assert_eq!(driven.await.unwrap(), Ending::Silent(Duration::from_secs(5)));
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    let beat = written(Lane::Control, &[4, 0, 1]);
    assert!(said == beat.repeat(4) || said == beat.repeat(5), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn bulk_beyond_the_window_flows_after_a_cut_and_old_credits_do_not_count() {
    let (here, there) = (End::lasting(), End::lasting());
    let (driven, other) = connect(&here, &there);
    for _ in 0..10 {
        here.speaker.say(Lane::Bulk, blob(50_000)).unwrap();
    }
    a_moment().await;
    let old: Vec<Heard> = std::mem::take(&mut *there.heard.lock());
    assert_eq!(old.len(), 5, "as many as fit into the window");
    other.abort();
    assert_eq!(driven.await.unwrap(), Ending::Lost);

    let mut old = old.into_iter();
    // One while it is suspended, the others while there is a connection: none gives the peer any room.
    drop(old.next());
    let (driven, other) = connect(&here, &there);
    drop(old);
    a_moment().await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(there.heard.lock().len(), 5);
    assert!(!driven.is_finished() && !other.is_finished());
    for _ in 0..10 {
        here.speaker.say(Lane::Bulk, blob(50_000)).unwrap();
    }
    for _ in 0..20 {
        let dealt_with = std::mem::take(&mut *there.heard.lock());
        drop(dealt_with);
        a_moment().await;
    }
    assert_eq!(there.speaker.received().bulk, 20);
    here.speaker.say(Lane::Bulk, blob(3 * WINDOW as usize)).unwrap();
    a_moment().await;
    assert_eq!(there.heard.lock().pop().unwrap().message, blob(3 * WINDOW as usize));
}

#[tokio::test(start_paused = true)]
async fn a_pump_that_was_superseded_hears_nothing_and_says_nothing() {
    let (here, there) = (End::lasting(), End::lasting());
    let (old, mut stale) = duplex(64 << 10);
    let old = here.over(old);
    a_moment().await;
    resume(&here, &there);
    // It has not been dropped, and something comes for it.
    here.say(Lane::Bulk, "for the new one");
    stale.write_all(&written(Lane::Bulk, b"too late")).await.unwrap();
    assert_eq!(old.await.unwrap(), Ending::Lost);
    let (a, b) = duplex(64 << 10);
    let driven = (here.over(a), there.over(b));
    a_moment().await;
    assert_eq!((here.texts(), there.texts()), (vec![], vec!["for the new one".to_owned()]));
    assert!(!driven.0.is_finished() && !driven.1.is_finished());
    let mut said = Vec::new();
    stale.read_to_end(&mut said).await.unwrap();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_one_pump_and_a_suspended_session_none() {
    let (here, there) = (End::lasting(), End::lasting());
    let (driven, other) = connect(&here, &there);
    a_moment().await;
    let (stream, _peer) = duplex(1_000);
    assert_eq!(here.over(stream).await.unwrap(), Ending::Lost);
    a_moment().await;
    assert!(!driven.is_finished() && !other.is_finished());
    here.speaker.suspend();
    assert_eq!((driven.await.unwrap(), other.await.unwrap()), (Ending::Lost, Ending::Lost));
    let (stream, _peer) = duplex(1_000);
    assert_eq!(here.over(stream).await.unwrap(), Ending::Lost);
}

#[tokio::test(start_paused = true)]
async fn what_is_retained_is_bounded_with_a_connection_and_without() {
    let bounds = SessionLimits { outbound_bytes_max: 100_000, ..limits() };
    let (here, there) = (End { speaker: Speaker::lasting(bounds), ..End::lasting() }, End::lasting());
    let full = |waiting| Err(SayError::Full { waiting, max: 100_000 });
    let (driven, other) = connect(&here, &there);
    here.speaker.say(Lane::Bulk, blob(60_000)).unwrap();
    a_moment().await;
    // It was heard, and is not acknowledged.
    assert_eq!(there.heard.lock().len(), 1);
    assert_eq!(here.speaker.say(Lane::Bulk, blob(60_000)), full(60_016));
    sleep(Duration::from_secs(1)).await;
    here.speaker.say(Lane::Bulk, blob(60_000)).unwrap();
    a_moment().await;
    other.abort();
    driven.await.unwrap();
    assert_eq!(here.speaker.say(Lane::Bulk, blob(60_000)), full(60_016));
    here.speaker.say(Lane::Bulk, blob(30_000)).unwrap();
    let too_large = here.speaker.say(Lane::Control, Message { header: vec![0; 17 << 20].into(), buffers: vec![] });
    assert!(matches!(too_large, Err(SayError::TooLarge(_))), "{too_large:?}");
    let _driven = connect(&here, &there);
    a_moment().await;
    assert_eq!(there.speaker.received().bulk, 3);
}

/// The bytes of one message.
fn written(lane: Lane, header: &[u8]) -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    let message = Message { header: Bytes::copy_from_slice(header), buffers: Vec::new() };
    outgoing.say(lane, message, FrameLimits::PEER).unwrap();
    let mut write = outgoing.next_write(usize::MAX);
    let len = bytes::Buf::remaining(&write);
    bytes::Buf::copy_to_bytes(&mut write, len).to_vec()
}
