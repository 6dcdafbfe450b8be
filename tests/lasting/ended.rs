//! How a session that outlives its connections ends for good; and that one of one connection is no such session.

use std::time::Duration;

use callboard::wire::frame::Lane;
use callboard::wire::lasting::ResumeError;
use callboard::wire::retained::{Received, ReceivedError};
use callboard::wire::session::{Ending, SayError, Speaker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{Instant, sleep};

use super::{End, a_moment, blob, connect, limits, message, written};

#[tokio::test(start_paused = true)]
async fn a_close_without_a_connection_is_said_after_all_else_once_there_is_one() {
    let (here, there) = (End::lasting(), End::lasting());
    here.speaker.suspend();
    here.say(Lane::Bulk, "one");
    here.speaker.close("the night is over");
    assert!(here.speaker.is_closed() && !here.speaker.has_ended());
    assert_eq!(here.speaker.say(Lane::Bulk, message("too late")), Err(SayError::Closed));
    // Far longer than it may take with a connection.
    sleep(Duration::from_secs(3_600)).await;
    let (driven, other) = connect(&here, &there);
    assert_eq!(other.await.unwrap(), Ending::ClosedByPeer("the night is over".into()));
    assert_eq!(driven.await.unwrap(), Ending::Closed("the night is over".into()));
    assert_eq!(there.texts(), ["one"]);
    assert!(here.speaker.has_ended() && there.speaker.has_ended());
    assert_eq!(here.speaker.resume(Received::default()), Err(ResumeError::Ended));
    assert_eq!(there.speaker.say(Lane::Bulk, message("too late")), Err(SayError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_was_cut_off_is_said_again() {
    let (here, there) = (End::lasting(), End::lasting());
    // Of the close, some bytes are taken.
    let (a, b) = duplex(5);
    let driven = here.over(a);
    here.speaker.close("the night is over");
    a_moment().await;
    drop(b);
    assert_eq!(driven.await.unwrap(), Ending::Lost);
    assert!(!here.speaker.has_ended());
    let (_, other) = connect(&here, &there);
    assert_eq!(other.await.unwrap(), Ending::ClosedByPeer("the night is over".into()));
}

#[tokio::test(start_paused = true)]
async fn whoever_abandons_a_session_retains_nothing_and_tells_the_peer_if_it_can() {
    let (here, there) = (End::lasting(), End::lasting());
    here.speaker.suspend();
    here.say(Lane::Bulk, "one");
    here.speaker.abandon("it does not come back");
    assert_eq!(here.waiting(), (0, 0));
    assert_eq!(here.speaker.say(Lane::Bulk, message("two")), Err(SayError::Closed));
    assert_eq!(here.speaker.resume(Received::default()), Err(ResumeError::Ended));
    assert!(here.speaker.has_ended());

    let here = End::lasting();
    let (driven, other) = connect(&here, &there);
    for _ in 0..10 {
        here.speaker.say(Lane::Bulk, blob(50_000)).unwrap();
    }
    a_moment().await;
    there.say(Lane::Bulk, "it comes while all is over");
    here.speaker.abandon("no more of it");
    assert_eq!(here.waiting(), (0, 0));
    let began = Instant::now();
    assert_eq!(other.await.unwrap(), Ending::ClosedByPeer("no more of it".into()));
    assert_eq!(driven.await.unwrap(), Ending::Closed("no more of it".into()));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(here.speaker.has_ended() && there.speaker.has_ended());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_claims_to_have_what_was_not_said_is_not_resumed() {
    let here = End::lasting();
    here.say(Lane::Bulk, "one");
    here.say(Lane::Bulk, "two");
    let not_said = ReceivedError::NotSaid { lane: Lane::Bulk, claimed: 3, said: 2 };
    assert_eq!(here.speaker.resume(Received { control: 0, bulk: 3 }), Err(not_said.into()));
    here.speaker.resume(Received { control: 0, bulk: 2 }).unwrap();
    let fewer = ReceivedError::Fewer { lane: Lane::Bulk, claimed: 1, before: 2 };
    assert_eq!(here.speaker.resume(Received { control: 0, bulk: 1 }), Err(fewer.into()));

    // The same in an acknowledgement, where it ends the session.
    let cases =
        [(here, 9, "9 messages of the Bulk lane, of 2"), (End::lasting(), 1, "1 messages of the Bulk lane, of 0")];
    for (here, claimed, expected) in cases {
        let (a, mut peer) = duplex(1_000);
        let driven = here.over(a);
        peer.write_all(&written(Lane::Control, &[4, 0, claimed])).await.unwrap();
        let Ending::Protocol(reason) = driven.await.unwrap() else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
        assert!(here.speaker.has_ended());
        let mut told = Vec::new();
        peer.read_to_end(&mut told).await.unwrap();
        assert!(String::from_utf8_lossy(&told).contains(expected), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_one_connection_retains_nothing_and_ends_with_it() {
    let (a, mut peer) = duplex(64 << 10);
    let here = End { speaker: Speaker::new(limits()), ..End::lasting() };
    let driven = here.over(a);
    here.say(Lane::Bulk, "one");
    peer.write_all(&written(Lane::Control, &[3, 1, 9])).await.unwrap();
    a_moment().await;
    assert_eq!((here.waiting(), here.heard.lock().len()), ((0, 0), 1));
    assert_eq!(here.speaker.received(), Received::default());
    drop(peer);
    assert_eq!(driven.await.unwrap(), Ending::Lost);
    assert!(here.speaker.is_closed() && here.speaker.has_ended());
    assert_eq!(here.speaker.say(Lane::Bulk, message("two")), Err(SayError::Closed));
}
