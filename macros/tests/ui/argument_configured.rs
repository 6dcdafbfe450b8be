//! An argument that is there in some programs only.

use callboard::task;

#[task]
fn solve(size: usize, #[cfg(unix)] seed: u64) -> u64 {
    size as u64 + seed
}

fn main() {}
