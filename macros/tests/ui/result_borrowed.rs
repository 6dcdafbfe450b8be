//! Results that borrow.

use callboard::prelude::*;

#[task]
fn name() -> &'static str {
    "callboard"
}

#[task]
fn label(cx: &TaskContext) -> Result<&str, String> {
    cx.label().ok_or("none".into())
}

#[task]
fn error_behind_a_lifetime(cx: &TaskContext) -> Result<u8, &str> {
    cx.label().map_or(Ok(1), Err)
}

fn main() {}
