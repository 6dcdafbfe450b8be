//! Controller, engine and client: three programs that may be on three machines. Here they are three processes of this one.
//!
//! `cargo run --example 06_over_the_network`

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use callboard::prelude::*;
use callboard::{Client, Listen};

/// The sum of the primes below `n`, and in which process it was computed.
#[task]
fn sum_of_primes(n: u64) -> (u64, u32) {
    let is_prime = |x: &u64| (2..).take_while(|d| d * d <= *x).all(|d| !x.is_multiple_of(d));
    ((2..n).filter(is_prime).sum(), std::process::id())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [role, file] if role == "engine" => Ok(callboard::run_engine(file)?),
        [role, file] if role == "client" => client(file),
        _ => controller(),
    }
}

/// Listens, and has the two others started. `callboard controller` does this without a program of yours.
fn controller() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("callboard-example-{}", std::process::id()));
    let cluster = Cluster::without_engines().start()?;
    // Elsewhere than on one machine: the address that others know, and the files copied to where they are.
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(&directory))?;
    let start = |role: &str, file| Command::new(std::env::current_exe()?).arg(role).arg(file).spawn();
    let engines: Vec<Child> = (0..2).map(|_| start("engine", listening.engine_file())).collect::<Result<_, _>>()?;
    let client = start("client", listening.client_file())?.wait()?;
    // Engines end with their cluster.
    cluster.shutdown(Pending::Finish).get()?;
    for mut engine in engines {
        println!("an engine has ended: {}", engine.wait()?);
    }
    std::fs::remove_dir_all(directory)?;
    if client.success() { Ok(()) } else { Err(format!("the client: {client}").into()) }
}

/// Does what it would do with a cluster of its own.
fn client(file: &str) -> Result<(), Box<dyn Error>> {
    let rc = Client::connect(file).get()?;
    rc.wait_for_engines(2).get_timeout(Duration::from_secs(20))?;
    println!("{rc:?}");
    let sums = rc.load_balanced().map(sum_of_primes, [10, 100, 1_000, 10_000]).get()?;
    println!("{:?}", sums.iter().map(|(sum, _)| sum).collect::<Vec<_>>());
    let places = rc.all().apply(sum_of_primes(2)).get()?;
    println!("none here: {}", places.iter().all(|(_, process)| *process != std::process::id()));
    println!("{} tasks settled", rc.queue_status().get()?.settled);
    Ok(())
}
