//! An argument, and a result, without a type of their own.

use callboard::task;

#[task]
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.sum()
}

#[task]
fn evens(limit: u32) -> impl Iterator<Item = u32> {
    (0..limit).step_by(2)
}

fn main() {}
