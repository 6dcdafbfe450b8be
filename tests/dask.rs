//! Tasks on a Dask cluster: a real scheduler and real workers, from the package registry. With a `main` of its own, since the engines
//! on the workers are this very program. Where Python or the registry is missing the tests are skipped, and say so;
//! `CALLBOARD_TEST_DASK=all` makes that a failure.
#![allow(clippy::unwrap_used)]

mod conformance;
mod dasking;
mod killed;
mod support;
use support::own_main::run;

fn main() {
    if std::env::var_os("CALLBOARD_TEST_FORGETS_INIT").is_none() {
        callboard::init();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if dasking::be_another(&arguments) {
        return;
    }
    if std::env::var("CALLBOARD_TEST_DASK").as_deref() == Ok("later") {
        return println!("skipped: CALLBOARD_TEST_DASK is \"later\"");
    }
    if let Err(reason) = dasking::site::python() {
        assert!(std::env::var_os("CALLBOARD_TEST_DASK").is_none(), "CALLBOARD_TEST_DASK is set, and {reason}");
        println!("skipped: {reason}");
        return;
    }
    run(&dasking::tests());
}
