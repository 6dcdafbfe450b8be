//! A task that is built and forgotten.

#![deny(unused_must_use)]

use callboard::task;

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn main() {
    double(2);
}
