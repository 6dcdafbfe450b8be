//! `payload`: a blob to an engine and back, one at a time; MB/s, which is twice its size by the time of the round trip.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use callboard::{Blob, Task, TaskContext, TaskFailure};
use serde::{Deserialize, Serialize};

use super::bare_socket::Socket;
use super::callboard_itself::Engines;
use super::report::{Figure, Params};
use super::{Contender, Fallible, Plan, bare_socket, on_plain_thread};

/// Gives back what it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Echo(Blob);

impl Task for Echo {
    type Output = Blob;
    const NAME: &'static str = "callboard::bench::echo";

    fn run(self, _: &TaskContext) -> Result<Blob, TaskFailure> {
        Ok(self.0)
    }

    fn size_hint(&self) -> usize {
        self.0.len()
    }
}

callboard::register_task!(Echo);

/// Round trips before the clock starts, which touch the memory.
const WARM_UP: usize = 2;

pub(super) fn contenders(plan: &Plan) -> Vec<Contender> {
    let sizes: &[usize] = plan.full_or_quick(&[1 << 10, 64 << 10, 1 << 20, 16 << 20], &[1 << 10, 1 << 20]);
    let total = plan.full_or_quick(256 << 20, 8 << 20);
    let mut contenders = Vec::new();
    for &bytes in sizes {
        let trips = (total / bytes).clamp(5, 500);
        let of = move |system: &'static str, measure: Box<dyn Fn() -> Fallible<f64> + Sync>| -> Contender {
            Box::new(move || {
                let value = on_plain_thread(&measure)?;
                Ok(vec![Figure { system, params: Params::new().with("bytes", bytes), value, unit: "MB/s" }])
            })
        };
        let echo = |engines: Engines| of(engines.name(), Box::new(move || echoed(engines, bytes, trips)));
        contenders.extend([
            echo(Engines::Threads),
            echo(Engines::Processes),
            of(UnixStream::BULK, Box::new(move || bare_socket::bulk::<UnixStream>(bytes, 2 * trips))),
            echo(Engines::Tcp),
            echo(Engines::PlainTcp),
            echo(Engines::Elsewhere),
            of(TcpStream::BULK, Box::new(move || bare_socket::bulk::<TcpStream>(bytes, 2 * trips))),
        ]);
    }
    contenders
}

fn echoed(engines: Engines, bytes: usize, trips: usize) -> Fallible<f64> {
    let cluster = engines.start(1)?;
    let engine = cluster.client().engine(0)?;
    let blob = Blob::from(vec![7; bytes]);
    let mut start = Instant::now();
    for trip in 0..WARM_UP + trips {
        if trip == WARM_UP {
            start = Instant::now();
        }
        let back = engine.apply(Echo(blob.clone())).take()?;
        if back.len() != bytes {
            return Err(format!("{} bytes came back of {bytes}", back.len()).into());
        }
    }
    Ok((2 * bytes * trips) as f64 / start.elapsed().as_secs_f64() / 1e6)
}
