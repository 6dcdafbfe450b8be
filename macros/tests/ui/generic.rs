//! Tasks with parameters that are not arguments.

use callboard::prelude::*;

#[task]
fn largest<T: Ord>(values: Vec<T>) -> Option<T>
where
    T: Clone,
{
    values.into_iter().max()
}

#[task]
fn attempt<'a>(cx: &'a TaskContext) -> u32 {
    cx.attempt().0
}

#[task]
fn filled<const N: usize>(value: u8) -> Vec<u8> {
    vec![value; N]
}

#[task]
fn length(text: String) -> usize
where
    String: Clone,
{
    text.len()
}

fn main() {}
