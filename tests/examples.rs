//! The numbered examples print what they promise, in time.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

mod support;
use support::{eventually, example};

/// Runs an example to its end and compares what it prints.
#[track_caller]
fn check(name: &str, expected: &[&str]) {
    let mut child = Command::new(example(name)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(&format!("{name} ends"), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{name}\n{err}");
}

#[test]
fn callbacks_as_messages() {
    check(
        "01_callbacks_as_messages",
        &["root done at attempt 1", "the root is 7", "root failed at attempt 1", "there is none: 50 is no square"],
    );
}

#[test]
fn an_actor_asks_a_view() {
    check(
        "02_an_actor_asks_a_view",
        &[
            "0 answered, and the clerk talks",
            "0 answered, and the clerk talks",
            "noted 81",
            "the square is 49; 2 answered",
        ],
    );
}
