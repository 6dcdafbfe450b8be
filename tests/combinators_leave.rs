//! What executors around executors leave behind. Alone in its process, where threads and memory are counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use callboard::executors::RetryPolicy;
use callboard::prelude::*;
use callboard::{Pending, ThreadPoolExecutor};

mod support;
use support::{eventually, our_threads, resident};

const LONG: Duration = Duration::from_secs(3_600);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[test]
fn a_million_tasks_start_no_thread_and_leave_nothing() {
    const TASKS: u64 = 100_000;
    let before = our_threads().len();
    let ex = ThreadPoolExecutor::new(2).unwrap().limit(64).retry(RetryPolicy::new(3)).timeout(LONG);
    let squares = || {
        let sum = ex.map(square, 0..TASKS).map(Result::unwrap).sum::<u64>();
        assert_eq!(sum, (0..TASKS).map(|x| x * x).sum::<u64>());
    };
    // What a burst takes the allocator keeps.
    squares();
    squares();
    let (threads, bytes) = (our_threads().len(), resident());
    (0..8).for_each(|_| squares());
    assert!(our_threads().len() <= threads + 1, "{:?}", our_threads());
    // 8 times as many tasks more: with 20 bytes left of each it were 16 MB.
    let grown = resident().saturating_sub(bytes);
    assert!(grown < 16 << 20, "{grown} bytes more");
    ex.shutdown(Pending::Finish).get_timeout(Duration::from_secs(20)).unwrap();
    drop(ex);
    eventually("no thread is left", || our_threads().len() <= before);
}
