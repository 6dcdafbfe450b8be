//! The IPython Parallel tutorial "Futures", cell by cell.
//!
//! `cargo run --release --example tutorial`; with a number after `--`, seconds are that much shorter or longer.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::future::Future;
use std::hash::BuildHasher;
use std::io::Write;
use std::time::Duration;

use callboard::prelude::*;

/// Makes `n` random numbers between 0 and 1 and computes their 2-norm.
#[task]
fn random_norm(n: usize) -> f64 {
    let mut state = RandomState::new().hash_one(n);
    let mut random = || {
        // SplitMix64, the top 53 bits as a fraction.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..n).map(|_| random()).map(|x| x * x).sum::<f64>().sqrt()
}

/// The process that runs the task.
#[task]
fn getpid() -> u32 {
    std::process::id()
}

/// Sleeps, then says where.
#[task]
fn sleep_task(ms: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(ms));
    std::process::id()
}

fn main() -> Result<(), Box<dyn Error>> {
    let second = Duration::from_secs_f64(match std::env::args().nth(1) {
        Some(argument) => argument.parse().map_err(|_| format!("not a number of seconds: {argument}"))?,
        None => 1.0,
    });

    // A cluster of four engines, and a view of all of them: rc[:].
    let cluster = Cluster::threads(4).start()?;
    let rc = cluster.client();
    let dv = rc.all();
    println!("{dv:?}");

    // The basic API: rc[-1].apply(random_norm, 100).
    let ar = rc.engine(-1)?.apply(random_norm(100));
    println!("{ar:?}");
    println!("{}", ar.get()?);

    // The result is a future, and has the methods of one.
    assert_future(&ar);
    println!("{}", ar.result()?);

    // A callback, called once, wherever the result is by then.
    let ar = rc.engine(-1)?.apply(getpid());
    let (called, wait_for_callback) = std::sync::mpsc::channel::<()>();
    ar.add_done_callback(move |ar| {
        if let Ok(pid) = ar.result() {
            println!("I got PID: {pid}");
        }
        drop(called);
    })?;
    let pid = ar.get()?;
    // The callback runs on a thread of its own; this line only keeps the output in the tutorial's order.
    let _ = wait_for_callback.recv();
    println!("{pid}");

    // An async program on a single thread: the background ticks on while the work waits.
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
        tokio::select! {
            () = background(second) => unreachable!("it ticks for ever"),
            done = work(&dv, second) => done,
        }
    })?;

    cluster.shutdown(Pending::Finish).get()?;
    Ok(())
}

fn assert_future<T>(_: &(impl Future<Output = Result<T, TaskError>> + Send + Unpin)) {}

/// Shows that nothing blocks.
async fn background(second: Duration) {
    // Half a beat early, so that the dots of a line are there before the line ends.
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + second / 2, second);
    loop {
        beat.tick().await;
        print!(". ");
        // A closed pipe ends the program at the next line that matters.
        let _ = std::io::stdout().flush();
    }
}

/// Submits work and prints the results when they are complete.
async fn work(dv: &callboard::DirectView, second: Duration) -> Result<(), Box<dyn Error>> {
    for t in 1..=4 {
        let pids = dv.apply(sleep_task((second * t).as_millis() as u64)).await?;
        println!("{pids:?}");
    }
    Ok(())
}
