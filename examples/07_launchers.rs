//! Engines on machines that are already there: started by what starts programs there, at the end of which nothing is left.
//!
//! `cargo run --example 07_launchers -- local`, or `ssh a b`, or `slurm --partition=short`, or `mpi --hostfile hosts`. Engines are this
//! very program, which has to be at the same path where they run.

use callboard::launchers::{Launched, Local, Mpi, Slurm, Ssh};
use callboard::prelude::*;
use callboard::{Error, Listen};

const ENGINES: usize = 3;

/// How many steps it takes to come from `n` to 1.
#[task]
fn collatz(n: u64) -> u32 {
    std::iter::successors(Some(n), |n| (*n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 })).count() as u32 - 1
}

#[task]
fn say_hello(cx: &TaskContext) {
    if let Some(engine) = cx.engine() {
        println!("hello from engine {engine}");
    }
}

fn main() -> Result<(), Error> {
    // Where this was launched as an engine, it is one from here on.
    callboard::init();
    let cluster = Cluster::without_engines().start()?;
    let directory = std::env::temp_dir().join(format!("callboard-launchers-{}", std::process::id()));
    cluster.listen(Listen::at("127.0.0.1:0").directory(&directory))?;

    let engines = launch(&cluster)?;
    let ids = engines.joined().get()?; // a program that ends before it has joined is an error, with what it printed
    println!("engines {ids:?} have joined");

    let rc = cluster.client();
    let steps = rc.load_balanced().map(collatz, 1..=10_000).get()?;
    println!("{:?} is the longest way to 1", (1..).zip(steps).max_by_key(|(_, steps)| *steps).unwrap_or_default());

    rc.all().apply(say_hello()).get()?;
    engines.end().get()?; // or drop it
    for ((name, _), output) in engines.states().into_iter().zip(engines.output()) {
        println!("{name} has printed {:?}", output.stdout);
    }
    println!("{:?} are left", rc.ids());
    drop(cluster);
    let _ = std::fs::remove_dir_all(directory);
    Ok(())
}

/// Launches as the arguments say.
fn launch(cluster: &Cluster) -> Result<Launched, Error> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("ssh") => cluster.launch(Ssh::to(arguments), ENGINES),
        Some("slurm") => cluster.launch(Slurm::new().args(arguments), ENGINES),
        Some("mpi") => cluster.launch(Mpi::new().args(arguments), ENGINES),
        _ => cluster.launch(Local::new(), ENGINES),
    }
}
