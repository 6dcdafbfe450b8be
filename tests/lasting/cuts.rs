//! Random talk over connections that are cut after random bytes: each message is heard once, in the order of its lane.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callboard::wire::frame::{Lane, Message};
use callboard::wire::session::Ending;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex, split};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::{End, connect, resume};

const LANES: [Lane; 2] = [Lane::Control, Lane::Bulk];

/// A message to be said, and how long after the one before, in milliseconds.
type Line = (Lane, Message, u64);

/// What one side has heard.
type Hearing = Arc<Mutex<Vec<(Lane, Message)>>>;

/// After how many bytes a connection is cut, there and back, and how.
#[derive(Clone, Copy, Debug)]
struct Cut {
    bytes: [usize; 2],
    pumps: Pumps,
}

/// What becomes of the pumps of a connection that was cut.
#[derive(Clone, Copy, Debug)]
enum Pumps {
    /// They end of themselves, late.
    End,
    /// They are dropped.
    Dropped,
    /// They go on while the next connection is there.
    Left,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let bytes = prop_oneof![0..100_usize, 16_000..17_000_usize, Just(60_000)];
    let line = (prop_oneof![Just(Lane::Control), Just(Lane::Bulk)], prop::collection::vec(bytes, 0..3), 0..40_u64);
    prop::collection::vec(line, 0..40).prop_map(|lines| {
        let line = |(n, (lane, buffers, wait)): (usize, (Lane, Vec<usize>, u64))| {
            let buffers = buffers.into_iter().filter(|_| lane == Lane::Bulk);
            let buffers = buffers.map(|len| Bytes::from(vec![n as u8; len])).collect();
            (lane, Message { header: Bytes::from(n.to_string()), buffers }, wait)
        };
        lines.into_iter().enumerate().map(line).collect()
    })
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let bytes = || prop_oneof![0..300_usize, 0..100_000_usize, 0..1_000_000_usize];
    let pumps = prop_oneof![Just(Pumps::End), Just(Pumps::Dropped), Just(Pumps::Left)];
    let cut = ([bytes(), bytes()], pumps).prop_map(|(bytes, pumps)| Cut { bytes, pumps });
    prop::collection::vec(cut, 0..8)
}

/// Says all of it, and drops the credits of what was heard, late and several at once.
async fn talk(end: End, lines: Vec<Line>, heard: Hearing) {
    let saying = async {
        for (lane, message, wait) in lines {
            sleep(Duration::from_millis(wait)).await;
            end.speaker.say(lane, message).unwrap();
        }
    };
    let hearing = async {
        loop {
            sleep(Duration::from_millis(70)).await;
            let all = std::mem::take(&mut *end.heard.lock());
            heard.lock().extend(all.iter().map(|heard| (heard.lane, heard.message.clone())));
        }
    };
    tokio::join!(saying, hearing);
}

/// Passes on what comes from either side, until so much has passed.
async fn relay(here: DuplexStream, there: DuplexStream, [forth, back]: [usize; 2]) {
    let ((mut here_reads, mut here_writes), (mut there_reads, mut there_writes)) = (split(here), split(there));
    async fn pass(
        from: &mut (impl tokio::io::AsyncRead + Unpin),
        to: &mut (impl tokio::io::AsyncWrite + Unpin),
        bytes: usize,
    ) {
        let _ = tokio::io::copy(&mut from.take(bytes as u64), to).await;
    }
    tokio::select! {
        () = pass(&mut here_reads, &mut there_writes, forth) => {}
        () = pass(&mut there_reads, &mut here_writes, back) => {}
    }
}

async fn each_is_heard_once(lines: [Vec<Line>; 2], cuts: Vec<Cut>) {
    let ends = [End::lasting(), End::lasting()];
    let heard: [Hearing; 2] = Default::default();
    for n in 0..2 {
        tokio::spawn(talk(ends[n].clone(), lines[n].clone(), heard[n].clone()));
    }
    let [here, there] = &ends;
    for Cut { bytes, pumps } in cuts {
        let ((a, b), (c, d)) = (duplex(20_000), duplex(20_000));
        resume(here, there);
        let pumped = [here.over(a), there.over(d)];
        // A pump belongs to the connection that there is when it begins.
        yield_now().await;
        // An idle one is cut some time, too.
        let _ = timeout(Duration::from_millis(1_500), relay(b, c, bytes)).await;
        for pump in pumped {
            match pumps {
                Pumps::Left => {}
                Pumps::End => assert_eq!(pump.await.unwrap(), Ending::Lost),
                Pumps::Dropped => {
                    pump.abort();
                    let _ = pump.await;
                }
            }
        }
    }
    let driven = connect(here, there);
    sleep(Duration::from_secs(60)).await;
    for driven in [driven.0, driven.1] {
        let ended = timeout(Duration::ZERO, driven).await;
        assert!(ended.is_err(), "{ended:?}");
    }
    for n in 0..2 {
        let (said, heard) = (&lines[n], heard[1 - n].lock());
        for lane in LANES {
            let said: Vec<&Message> = said.iter().filter(|line| line.0 == lane).map(|line| &line.1).collect();
            let heard: Vec<&Message> = heard.iter().filter(|(of, _)| *of == lane).map(|(_, message)| message).collect();
            assert!(said == heard, "said {}, heard {} of {lane:?}", said.len(), heard.len());
        }
        assert_eq!(ends[n].waiting(), (0, 0));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn each_message_is_heard_once_in_the_order_of_its_lane_wherever_connections_are_cut(
        lines in [lines(), lines()],
        cuts in cuts(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(each_is_heard_once(lines, cuts));
    }
}

fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("CALLBOARD_CASES").map_or(usual, |cases| cases.parse().unwrap());
    ProptestConfig { cases, ..ProptestConfig::default() }
}
