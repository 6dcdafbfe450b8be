//! A program that was built a moment ago runs on a machine where nobody installed it. Here that machine is a process of this one.
//!
//! `cargo run --example 09_hosts`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use callboard::prelude::*;
use callboard::{Host, Listen};

/// The longest way down to 1 from below `n`, with where it begins; and which program found it.
#[task]
fn longest_way(n: u64) -> (u32, u64, PathBuf) {
    let steps = |x: u64| {
        std::iter::successors(Some(x), |x| (*x > 1).then(|| if x % 2 == 0 { x / 2 } else { 3 * x + 1 })).count()
    };
    let (length, from) = (1..n).map(|x| (steps(x) as u32 - 1, x)).max().unwrap_or_default();
    (length, from, std::env::current_exe().unwrap_or_default())
}

fn main() -> Result<(), Box<dyn Error>> {
    // On the host this very program is an engine.
    callboard::init();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [role, file, cache] if role == "host" => {
            Ok(Host::with(file).cache(cache).engines_max(2).allow_programs().run()?)
        }
        _ => work(),
    }
}

fn work() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("callboard-hosts-{}", std::process::id()));
    // The files are made once, and one is copied to each host: there `callboard host --allow-programs callboard-engine.json` runs.
    let address = {
        let cluster = Cluster::without_engines().start()?;
        cluster.listen(Listen::at("127.0.0.1:0").directory(&directory))?.address().to_string()
    };
    let (file, cache) = (directory.join("callboard-engine.json"), directory.join("cache"));
    let mut host = Command::new(std::env::current_exe()?).arg("host").args([&file, &cache]).spawn()?;
    for time in ["first", "second"] {
        let cluster = Cluster::hosts(2, Listen::at(&address).directory(&directory)).start()?;
        let ways = cluster.client().load_balanced().map(longest_way, [10, 100, 1_000, 10_000]).get()?;
        println!("{:?}", ways.iter().map(|(length, from, _)| (length, from)).collect::<Vec<_>>());
        let is_shipped = ways.iter().all(|(_, _, program)| program.starts_with(&cache));
        println!("the {time} time it ran what was shipped: {is_shipped}, {} program is kept", kept(&cache)?);
        cluster.shutdown(Pending::Finish).get()?;
    }
    host.kill()?;
    host.wait()?;
    Ok(std::fs::remove_dir_all(directory)?)
}

fn kept(cache: &Path) -> std::io::Result<usize> {
    Ok(std::fs::read_dir(cache.join("programs"))?.count())
}
