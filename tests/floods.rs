//! Strangers without end, while a cluster works: connections that say nothing, or anything, and handshakes by a certificate
//! of another cluster. Whoever belongs here joins, and tasks run; how fast is a figure that is printed, not judged.
//!
//! With a `main` of its own: engines and strangers are this very program. The strangers run on the same processors, where in
//! earnest they have their own: so the figure is compared with that beside processes which do nothing but compute for as long as
//! the strangers did. `CALLBOARD_CASES` is how many seconds each is measured.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callboard::prelude::*;
use callboard::{Client, Dial, Listen, Listening};

mod support;
use support::{descriptors, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
fn nothing() {}

/// Computes for a tenth of a millisecond.
#[task]
fn something() {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(100) {
        std::hint::spin_loop();
    }
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

/// What tells this program to be strangers, at an address and with a file of another cluster.
const FLOODS: &str = "--floods";

/// What tells this program to compute, for so many hundredths of the time.
const COMPUTES: &str = "--computes";

/// How many processes there are of the strangers.
const STRANGERS: usize = 4;

/// Processes that are killed with this.
struct Processes(Vec<Child>);

impl Processes {
    /// Starts this program as often, with less to say on the processors than others.
    fn start(n: usize, arguments: &[&str]) -> Self {
        let start = |_| {
            let mut command = Command::new("nice");
            command.args(["-n", "10"]).arg(std::env::current_exe().unwrap()).args(arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        Self((0..n).map(start).collect())
    }

    /// Returns the computing time that they took.
    fn computed(&self) -> Duration {
        let ticks = |child: &Child| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
            fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>()
        };
        Duration::from_millis(self.0.iter().map(ticks).sum::<u64>() * 10)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Connects without end: a third each are silent, say half a hello, say what makes no sense; two hundred at a time.
fn connect_without_end(address: &str) {
    let hello = [&[0x16, 3, 1, 2, 0][..], &[1, 0, 1, 0xfc, 3, 3]].concat();
    let mut open = VecDeque::new();
    for how in 0.. {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let said: &[u8] = [&b""[..], &hello, &[0xff; 40_000]][how % 3];
        let _ = stream.write_all(said);
        open.push_back(stream);
        if open.len() > 200 {
            open.pop_front();
        }
    }
}

/// Makes handshakes without end, with a certificate that is not taken.
fn greet_without_end(file: &str) {
    loop {
        let _ = Dial::with(file).search_for(Duration::ZERO).run_engine();
    }
}

/// Computes for so many hundredths of the time, a millisecond or so at a time.
fn compute_without_end(share: f64) {
    const TURN: Duration = Duration::from_millis(1);
    loop {
        let began = Instant::now();
        while began.elapsed() < TURN {
            std::hint::spin_loop();
        }
        std::thread::sleep(began.elapsed().mul_f64((100.0 / share - 1.0).max(0.0)));
    }
}

/// Returns how many tasks run in a second, measured for a while.
fn tasks_per_s<T: Task<Output = ()>>(rc: &Client, seconds: u64, task: fn() -> T) -> f64 {
    const TASKS: usize = 2_000;
    let view = rc.load_balanced();
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        view.map(|()| task(), vec![(); TASKS]).get_timeout(PATIENCE).unwrap();
        done += TASKS;
    }
    done as f64 / began.elapsed().as_secs_f64()
}

/// A file of another cluster that trusts the authority of this one: its handshakes cost most.
fn impostor(listening: &Listening, directory: &Path) -> String {
    let theirs = Cluster::without_engines().start().unwrap();
    let elsewhere = theirs.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    let read = |path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap();
    let (ours, mut file) = (read(listening.engine_file()), read(elsewhere.engine_file()));
    file["address"] = ours["address"].clone();
    file["cluster"] = ours["cluster"].clone();
    file["tls"]["authority"] = ours["tls"]["authority"].clone();
    std::fs::write(elsewhere.engine_file(), file.to_string()).unwrap();
    elsewhere.engine_file().display().to_string()
}

fn main() {
    if let Some(file) = std::env::var_os(support::DIALS) {
        let ended = callboard::run_engine(file);
        std::process::exit(ended.is_err().into());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [floods, address, file] if floods == FLOODS => {
            std::thread::scope(|scope| {
                scope.spawn(|| connect_without_end(address));
                scope.spawn(|| greet_without_end(file));
            });
        }
        [computes, share] if computes == COMPUTES => compute_without_end(share.parse().unwrap()),
        _ => work_in_a_flood(),
    }
}

fn work_in_a_flood() {
    let seconds = std::env::var("CALLBOARD_CASES").map_or(2, |cases| cases.parse().unwrap());
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Cluster::threads(1).start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
    let rc = Client::connect(listening.client_file()).get().unwrap();
    let here = cluster.client();
    let file = impostor(&listening, elsewhere.path());
    tasks_per_s(&here, 1, nothing);
    let (before, alone) = (descriptors(), tasks_per_s(&here, seconds, nothing));
    let computing_alone = tasks_per_s(&here, seconds, something);

    let flood = Processes::start(STRANGERS, &[FLOODS, &listening.address().to_string(), &file]);
    eventually("so many came that some were cut off", || listening.refused() > 200);
    let (refused, computed) = (listening.refused(), flood.computed());
    let flooded = tasks_per_s(&here, seconds, nothing);
    let (refused, computed) = (listening.refused() - refused, flood.computed() - computed);
    println!(
        "tasks a second: {alone:.0}; {flooded:.0} in a flood of {:.0} strangers a second, which compute {computed:.1?}: {:.0} %",
        refused as f64 / seconds as f64,
        100.0 * flooded / alone,
    );
    let computing = tasks_per_s(&here, seconds, something);
    println!(
        "tasks of 0.1 ms a second: {computing_alone:.0}; {computing:.0} in the flood: {:.0} %",
        100.0 * computing / computing_alone
    );
    // Who belongs here joins, and works.
    let began = Instant::now();
    let mut engine = Command::new(std::env::current_exe().unwrap());
    let engine = Processes(vec![engine.env(support::DIALS, listening.engine_file()).spawn().unwrap()]);
    here.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    println!("an engine joined within {:?} meanwhile", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    let pids = rc.all().apply(pid()).get_timeout(PATIENCE).unwrap();
    assert_eq!(pids, [std::process::id(), engine.0[0].id()]);
    assert!(Client::connect(listening.client_file()).get().is_ok(), "so does a client");
    drop((flood, engine));
    eventually("the engine is lost", || here.len() == 1);
    let share = 100.0 * computed.as_secs_f64() / (seconds * STRANGERS as u64) as f64;
    let computing = Processes::start(STRANGERS, &[COMPUTES, &share.to_string()]);
    let before_it = computing.computed();
    let beside = tasks_per_s(&here, seconds, nothing);
    println!(
        "tasks a second: {beside:.0} beside processes that compute {:.1?}: in the flood {:.0} % of that",
        computing.computed() - before_it,
        100.0 * flooded / beside
    );
    drop(computing);
    eventually("no descriptor is left", || descriptors() <= before + 2);
}
