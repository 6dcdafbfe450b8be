//! Tasks that show that an engine is there, and works.

use std::path::PathBuf;
use std::time::Duration;

use callboard::prelude::*;

#[task(idempotent)]
pub fn square(x: u64) -> u64 {
    x * x
}

#[task]
pub fn pid() -> u32 {
    std::process::id()
}

/// Says that it runs, by a file, and goes on for a while.
#[task]
pub fn nap(begun: PathBuf, ms: u64) -> u64 {
    std::fs::write(begun, "").unwrap();
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Has engines make so many squares, and looks at them.
#[track_caller]
pub fn squares(rc: &Client, n: u64) {
    let squares = rc.load_balanced().map(square, 0..n).get_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(squares, (0..n).map(|x| x * x).collect::<Vec<u64>>());
}
