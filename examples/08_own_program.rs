//! A program of your own with the whole command line: its tasks are compiled into it, and its engines are this program too.
//!
//! ```console
//! $ cargo build --example 08_own_program
//! $ target/debug/examples/08_own_program cluster start weather -n 4 --daemonize
//! $ target/debug/examples/08_own_program ask
//! $ target/debug/examples/08_own_program status weather
//! $ target/debug/examples/08_own_program cluster stop weather
//! ```

use std::process::ExitCode;

use callboard::prelude::*;

/// How warm it is at a degree of latitude, in a world that is simple.
#[task]
fn warmth(latitude: f64) -> f64 {
    tracing::debug!(latitude, "somebody asks");
    30.0 * latitude.to_radians().cos() - 5.0
}

fn main() -> ExitCode {
    // An engine has other arguments, or none.
    if std::env::args().nth(1).as_deref() != Some("ask") {
        return callboard::cli::main();
    }
    match ask() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A client of the cluster that was started: of this program, or any other that has its tasks.
fn ask() -> Result<(), callboard::Error> {
    let rc = Client::connect_to("weather").get()?;
    println!("{} engines", rc.len());
    for warmth in &rc.load_balanced().map(warmth, [0.0, 45.0, 60.0]) {
        println!("{:.1}", warmth?);
    }
    Ok(())
}
