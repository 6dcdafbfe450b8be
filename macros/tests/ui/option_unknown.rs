//! An option that there is not. What uses the task compiles.

use callboard::task;

#[task(version = 2, retries = 3)]
fn double(n: u32) -> u32 {
    2 * n
}

#[task("double")]
fn triple(n: u32) -> u32 {
    3 * n
}

fn main() {
    println!("{}", double(1).call() + triple(1).call());
}
