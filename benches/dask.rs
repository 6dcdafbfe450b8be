//! What a task costs by way of `DaskExecutor`, beside a task that Python itself submits to the same cluster, in turn.
//!
//! `cargo bench --bench dask [tasks]`. Installs Dask under target/ as the tests do, and starts a cluster of its own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use callboard::prelude::*;

#[path = "../tests/dasking/site.rs"]
mod site;
use site::{Site, python};

const ROUNDS: usize = 5;

/// Submits as many tasks as a line says, one by one, and gathers their values; answers with the time.
const NATIVE: &str = "
import operator, sys, time
from distributed import Client
client = Client(sys.argv[1], set_as_default=False)
for line in sys.stdin:
    began = time.perf_counter()
    futures = [client.submit(operator.pos, n, pure=False) for n in range(int(line))]
    values = client.gather(futures)
    print(time.perf_counter() - began, flush=True)
    assert values == list(range(int(line)))
    del futures
";

#[task]
fn same(n: u64) -> u64 {
    n
}

struct Native(Child, ChildStdin, BufReader<ChildStdout>);

impl Native {
    fn start(address: &str) -> Self {
        let mut command = Command::new(python().unwrap());
        command.args(["-c", NATIVE, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self(child, stdin, stdout)
    }

    /// Returns how long `n` tasks take, in seconds.
    fn run(&mut self, n: u64) -> f64 {
        writeln!(self.1, "{n}").unwrap();
        let mut line = String::new();
        self.2.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn by_executor(ex: &callboard::DaskExecutor, n: u64) -> f64 {
    let began = Instant::now();
    let results: Vec<_> = (0..n).map(|n| ex.submit(same(n))).collect();
    let values: Vec<u64> = results.iter().map(|ar| ar.get().unwrap()).collect();
    let took = began.elapsed().as_secs_f64();
    assert!(values.into_iter().eq(0..n));
    took
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    callboard::init();
    let n = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_u64);
    if let Err(reason) = python() {
        println!("skipped: {reason}");
        return;
    }
    println!("{n} tasks that do nothing, submitted one by one; median of {ROUNDS}, in turn on one cluster");
    for (workers, threads) in [(1, 1), (2, 1), (1, 4)] {
        let mut site = Site::scheduler();
        (0..workers).for_each(|_| site.add_worker(threads));
        site.await_workers(workers);
        let (mut native, ex) = (Native::start(&site.address), site.connect());
        native.run(n);
        by_executor(&ex, n);
        let times: Vec<_> = (0..ROUNDS).map(|_| (native.run(n), by_executor(&ex, n))).collect();
        let (native, ours) = times.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let (native, ours) = (median(native), median(ours));
        let per_task = |seconds: f64| seconds * 1e6 / n as f64;
        println!(
            "{workers} workers of {threads} threads: client.submit {:.0} us a task, DaskExecutor {:.0} us, {:.2} x",
            per_task(native),
            per_task(ours),
            ours / native
        );
    }
}
