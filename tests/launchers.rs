//! Launchers against the real thing, on this machine: processes, ssh, Slurm and MPI, whose daemons are these tests' own. With a `main` of
//! its own: engines are this very program. What is not installed is skipped, and said so; `CALLBOARD_TEST_LAUNCHERS=all` makes that a
//! failure.
#![allow(clippy::unwrap_used)]

#[path = "support/home.rs"]
mod home;
mod launching;
mod support;
use support::own_main::run;

fn main() {
    if std::env::var_os("CALLBOARD_TEST_FORGETS_INIT").is_none() {
        callboard::init();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if launching::be_another(&arguments) {
        return;
    }
    if std::env::var("CALLBOARD_TEST_LAUNCHERS").as_deref() == Ok("later") {
        return println!("skipped: CALLBOARD_TEST_LAUNCHERS is \"later\"");
    }
    run(&launching::tests());
}
