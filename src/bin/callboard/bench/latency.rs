//! `latency`: one task that does nothing and its result, one at a time, from a plain thread; microseconds.

use std::time::{Duration, Instant};

use super::ping_pong::{self, Ends};
use super::report::{Figure, Params};
use super::yardsticks::{Setup, YARDSTICKS};
use super::{Contender, Fallible, Plan, callboard_threads, on_plain_thread, pin};

/// What the table says below its rows.
pub(super) const NOTE: &str = "\
latency: with `pinned true` the two threads of channel_pingpong are held on two processors, one each. callboard's
threads are never pinned, so the row to compare them with is the unpinned one. That one has two speeds: the system
puts both threads on one processor, or on two, where each way costs a wake-up across processors.";

const QUANTILES: [(&str, f64); 3] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99)];

/// Round trips before the clock starts.
const WARM_UP: usize = 200;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let (engines, trips) = (plan.engines, plan.full_or_quick(5_000, 1_000));
    let takes_calls = |(system, set_up): (&'static str, Setup)| -> Contender {
        Box::new(move || {
            let times = on_plain_thread(|| times_of(set_up, engines, trips))?;
            Ok(quantiles(system, &Params::new().with("engines", engines), times))
        })
    };
    let ping_pong = |ends: Ends| -> Contender {
        Box::new(move || {
            let times = on_plain_thread(move || ping_pong::times(ends, WARM_UP, trips))?;
            Ok(quantiles(ping_pong::NAME, &Params::new().with("pinned", ends.are_pinned()), times))
        })
    };
    let mut contenders = vec![takes_calls((callboard_threads::NAME, callboard_threads::set_up))];
    contenders.push(ping_pong(Ends::Anywhere));
    contenders.extend(pin::two_processors().map(|on| ping_pong(Ends::Pinned(on))));
    contenders.extend(YARDSTICKS.into_iter().map(takes_calls));
    contenders
}

fn times_of(set_up: Setup, engines: usize, trips: usize) -> Fallible<Vec<Duration>> {
    let mut system = set_up(engines)?;
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
