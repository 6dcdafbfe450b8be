//! A context that is not the first parameter, or not a shared reference.

use callboard::prelude::*;

#[task]
fn last(n: u32, cx: &TaskContext) -> u32 {
    n + cx.attempt().0
}

#[task]
fn twice(cx: &TaskContext, _again: &TaskContext) -> u32 {
    cx.attempt().0
}

#[task]
fn owned(cx: TaskContext) -> u32 {
    cx.attempt().0
}

#[task]
fn exclusive(cx: &mut TaskContext) -> u32 {
    cx.attempt().0
}

#[task]
fn named(cx: &'static TaskContext) -> u32 {
    cx.attempt().0
}

fn main() {}
