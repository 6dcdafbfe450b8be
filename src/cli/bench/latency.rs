//! `latency`: one task that does nothing and its result, one at a time, from a plain thread; microseconds.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::bare_socket::Socket;
use super::ping_pong::{self, Ends};
use super::report::{Figure, Params};
use super::yardsticks::{Setup, YARDSTICKS};
use super::{Contender, Fallible, Plan, bare_socket, callboard_itself, on_plain_thread, pin};

/// What the table says below its rows.
pub(super) const NOTE: &str = "\
latency: with `pinned true` the caller is held on one processor and what answers it (the other end of
channel_pingpong, all threads of callboard) on another. Unpinned, channel_pingpong has two speeds: the system puts
both ends on one processor, or on two, where each way costs a wake-up across processors. Compare like with like.";

const QUANTILES: [(&str, f64); 3] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99)];

/// Round trips before the clock starts.
const WARM_UP: usize = 200;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, trips) = (plan.engines, plan.full_or_quick(5_000, 1_000));
    let takes_calls = |(system, set_up): (&'static str, Setup), ends: Ends| -> Contender {
        Box::new(move || {
            let times = on_plain_thread(move || times_of(set_up, ends, engines, trips))?;
            let params = Params::new().with("engines", engines).with("pinned", ends.are_pinned());
            Ok(quantiles(system, &params, times))
        })
    };
    let [threads, processes, tcp, plain_tcp, elsewhere] = callboard_itself::ALL;
    let ping_pong = |ends: Ends| -> Contender {
        Box::new(move || {
            let times = on_plain_thread(move || ping_pong::times(ends, WARM_UP, trips))?;
            Ok(quantiles(ping_pong::NAME, &Params::new().with("pinned", ends.are_pinned()), times))
        })
    };
    let mut contenders = vec![takes_calls(threads, Ends::Anywhere), ping_pong(Ends::Anywhere)];
    if let Some(on) = pin::two_processors() {
        contenders.extend([takes_calls(threads, Ends::Pinned(on)), ping_pong(Ends::Pinned(on))]);
    }
    contenders.extend([
        takes_calls(processes, Ends::Anywhere),
        bare::<UnixStream>(trips),
        takes_calls(tcp, Ends::Anywhere),
        takes_calls(plain_tcp, Ends::Anywhere),
        takes_calls(elsewhere, Ends::Anywhere),
        bare::<TcpStream>(trips),
    ]);
    contenders.extend(YARDSTICKS.into_iter().map(|yardstick| takes_calls(yardstick, Ends::Anywhere)));
    contenders
}

/// Round trips of one byte between two threads.
fn bare<S: Socket>(trips: usize) -> Contender {
    Box::new(move || {
        let times = on_plain_thread(move || bare_socket::ping_pong::<S>(WARM_UP, trips))?;
        Ok(quantiles(S::PING_PONG, &Params::new().with("pinned", false), times))
    })
}

fn times_of(set_up: Setup, ends: Ends, engines: usize, trips: usize) -> Fallible<Vec<Duration>> {
    // Threads stay on the processor of the one that starts them.
    ends.take_place(1)?;
    let mut system = set_up(engines)?;
    ends.take_place(0)?;
    for _ in 0..WARM_UP {
        system.round_trip()?;
    }
    let mut times = Vec::with_capacity(trips);
    for _ in 0..trips {
        let start = Instant::now();
        system.round_trip()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn quantiles(system: &'static str, params: &Params, mut times: Vec<Duration>) -> Vec<Figure> {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let figure = |(name, share): (&'static str, f64)| {
        let time = times.get((last as f64 * share).round() as usize)?;
        let params = params.clone().with("quantile", name);
        Some(Figure { system, params, value: time.as_secs_f64() * 1e6, unit: "us" })
    };
    QUANTILES.into_iter().filter_map(figure).collect()
}
