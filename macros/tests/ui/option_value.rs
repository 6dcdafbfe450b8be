//! Options with a value that they cannot have.

use callboard::task;

#[task(name = "")]
fn unnamed() {}

#[task(name = unquoted)]
fn unquoted() {}

#[task(name)]
fn without_value() {}

#[task(version = "2")]
fn text() {}

#[task(version = -1)]
fn negative() {}

#[task(version = 4_294_967_296)]
fn large() {}

#[task(idempotent = true)]
fn assigned() {}

#[task(name = "a", name = "b")]
fn twice() {}

#[task(idempotent, idempotent)]
fn idempotent_twice() {}

fn main() {}
