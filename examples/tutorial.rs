//! The IPython Parallel tutorial "Futures", cell by cell.
//!
//! `cargo run --release --example tutorial`; after `--` may follow how long a second is, the exponent of the largest array
//! (1 and 24 on the page), what the engines are (`threads`, `processes`, or the connection file of a cluster that runs
//! elsewhere, whose engines are `tutorial engine callboard-engine.json`), and further executors to compare at the end:
//! `tutorial 1 24 threads processes:4 dask:tcp://127.0.0.1:8786` compares the four mechanisms of the page.

#[path = "../src/bin/callboard/huge_pages.rs"]
mod huge_pages;

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::future::Future;
use std::hash::BuildHasher;
use std::io::Write;
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{ExecutorSpec, ThreadPoolExecutor};

/// The arrays below are large, and numpy, which the page uses, asks for huge pages.
#[global_allocator]
static ALLOCATOR: huge_pages::HugePages = huge_pages::HugePages;

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

/// `str` of Python.
#[task]
fn to_text(x: u32) -> String {
    x.to_string()
}

/// Makes an array of `n` ones and computes its 2-norm.
#[task(name = "task")]
fn norm_of_ones(n: usize) -> f64 {
    let array = vec![1.0_f64; n];
    // In eight lanes, so that the processor adds that many at once.
    let mut sums = [0.0; 8];
    for chunk in array.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

fn main() -> Result<(), Box<dyn Error>> {
    // Where engines are processes, each is this very program, and turns into an engine here.
    callboard::init();
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("engine").is_some() {
        return Ok(callboard::run_engine(arguments.next().ok_or("an engine needs a connection file")?)?);
    }
    let second = Duration::from_secs_f64(match arguments.next() {
        Some(argument) => argument.parse().map_err(|_| format!("not a number of seconds: {argument}"))?,
        None => 1.0,
    });
    let largest: f64 = match arguments.next() {
        Some(argument) => argument.parse().map_err(|_| format!("not an exponent of 2: {argument}"))?,
        None => 24.0,
    };

    // A cluster of four engines, and a view of all of them: rc[:].
    let cluster = match arguments.peek().map(String::as_str) {
        None | Some("threads") => Some(Cluster::threads(4).start()?),
        Some("processes") => Some(Cluster::processes(4).start()?),
        Some(_) => None,
    };
    let rc = match (&cluster, arguments.next()) {
        (Some(cluster), _) => cluster.client(),
        (None, file) => Client::connect(file.unwrap_or_default()).get()?,
    };
    let further = arguments.map(|argument| argument.parse()).collect::<Result<Vec<ExecutorSpec>, _>>()?;
    rc.wait_for_engines(4).get()?;
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

    // Every view has an executor; the assignment of work depends on the view.
    let ex_all = rc.all().executor();
    println!("{:?}", ex_all.view().targets());
    let even_lbview = rc.load_balanced_view(rc.ids().into_iter().step_by(2));
    let ex_even = even_lbview.executor();
    for pid in ex_even.map(|_| getpid(), 0..10) {
        println!("{}", pid?);
    }
    // Usually one wants that of all engines.
    let ex = rc.executor();
    println!("{:?}", ex.view());

    comparing_executors(&rc, &further, largest)?;
    cluster.map_or(Ok(()), |cluster| cluster.shutdown(Pending::Finish).get())?;
    Ok(())
}

/// The same work with the same API, by different mechanisms.
fn comparing_executors(rc: &Client, further: &[ExecutorSpec], largest: f64) -> Result<(), Box<dyn Error>> {
    let mut executors: Vec<Box<dyn Executor>> =
        vec![Box::new(ThreadPoolExecutor::new(4)?), Box::new(rc.executor_on(rc.ids())), Box::new(rc.all().executor())];
    for spec in further {
        executors.push(Box::new(spec.open()?));
    }
    for executor in &executors {
        println!("{}", executor.name());
        let texts: Vec<String> = executor.map(to_text, 0..5).collect::<Result<_, _>>()?;
        println!("{texts:?}");
    }

    // numpy.logspace(20, 24, 16, base=2, dtype=int)
    let sizes: Vec<usize> = (0..16).map(|i| (largest - 4.0 + 4.0 * f64::from(i) / 15.0).exp2() as usize).collect();
    println!("{sizes:?}");

    println!("Local time:");
    let local = || -> Vec<f64> { sizes.iter().map(|&n| norm_of_ones(n).call()).collect() };
    let reference = local();
    // The second time: the first one also waits for the system to find so much memory.
    let start = Instant::now();
    drop(local());
    println!("Wall time: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);

    const LOOPS: usize = 10;
    for executor in &executors {
        println!("{}", executor.name());
        let mut times = Vec::with_capacity(LOOPS);
        for _ in 0..LOOPS {
            let start = Instant::now();
            let norms: Vec<f64> = executor.map(norm_of_ones, sizes.iter().copied()).collect::<Result<_, _>>()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if norms != reference {
                return Err(format!("{norms:?} != {reference:?}").into());
            }
        }
        times.sort_by(f64::total_cmp);
        println!("{LOOPS} loops, best: {:.1} ms, median: {:.1} ms per loop", times[0], times[LOOPS / 2]);
        executor.shutdown(Pending::Finish).get()?;
    }
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
