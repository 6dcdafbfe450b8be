//! Hosts: this very program is shipped to a stock `callboard host` and runs there. With a `main` of its own: engines are this program.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::launchers::{Hosts, JobState};
use callboard::prelude::*;
use callboard::{Error, Listen};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod support;
use support::own_main::{run, tests};
use support::{Ends, eventually, is_there};

const PATIENCE: Duration = Duration::from_secs(30);

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// Where an engine is: its process, its program and the directory that it runs in.
#[task]
fn place() -> (u32, PathBuf, PathBuf) {
    (std::process::id(), std::env::current_exe().unwrap(), std::env::current_dir().unwrap())
}

#[task]
fn say(words: String) {
    println!("out: {words}");
}

#[task]
fn sleep_ms(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// A `callboard host`, with what it says. It ends with this.
struct Daemon {
    process: Ends,
    cache: PathBuf,
    /// How many programs have come to it.
    shipped: Arc<AtomicUsize>,
}

impl Daemon {
    fn start(directory: &Path, name: &str, args: &[&str]) -> Self {
        let cache = directory.join(name);
        let mut process = Command::new(env!("CARGO_BIN_EXE_callboard"))
            .args(["--log", "info", "host", "--name", name, "--cache"])
            .arg(&cache)
            .args(args)
            .arg(directory.join("callboard-engine.json"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (shipped, stderr) = (Arc::new(AtomicUsize::new(0)), process.stderr.take().unwrap());
        let counted = shipped.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("a program has come") {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                eprintln!("{line}");
            }
        });
        Self { process: Ends(process), cache, shipped }
    }

    fn allowed(directory: &Path, name: &str) -> Self {
        Self::start(directory, name, &["--allow-programs", "--engines", "2"])
    }

    fn shipped(&self) -> usize {
        self.shipped.load(Ordering::Relaxed)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    /// Returns the files of programs that it keeps.
    fn programs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.cache.join("programs")).unwrap();
        folders
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect()
    }

    fn runs(&self) -> usize {
        fs::read_dir(self.cache.join("runs")).unwrap().count()
    }
}

/// A cluster for hosts.
struct Fixture {
    cluster: Cluster,
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::without_engines().start().unwrap();
        cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap();
        Self { cluster, directory }
    }

    fn refused(&self, hosts: Hosts, n: usize) -> String {
        match self.cluster.launch(hosts, n) {
            Err(Error::Launch { by, problem }) => format!("{by}: {problem}"),
            other => panic!("{other:?}"),
        }
    }
}

fn a_program_runs_where_nobody_installed_it_and_travels_once() {
    let fixture = Fixture::new();
    let host = Daemon::allowed(fixture.directory.path(), "a");
    let rc = fixture.cluster.client();
    let mut pids = Vec::new();
    for _ in 0..2 {
        let engines = fixture.cluster.launch(Hosts::any(), 2).unwrap();
        assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 2);
        let squares = rc.load_balanced().map(square, 0..1_000).get_timeout(PATIENCE).unwrap();
        assert_eq!(squares, (0..1_000).map(|x| x * x).collect::<Vec<u64>>());
        let places = rc.all().apply(place()).get_timeout(PATIENCE).unwrap();
        for (pid, program, folder) in &places {
            assert_ne!(*pid, std::process::id());
            assert!(program.starts_with(host.cache.join("programs")), "{program:?}");
            assert!(folder.starts_with(host.cache.join("runs")), "{folder:?}");
        }
        assert_ne!(places[0].2, places[1].2, "each has a folder of its own");
        rc.all().apply(say("hello".into())).get_timeout(PATIENCE).unwrap();
        eventually("what it printed has come", || {
            engines.output().iter().all(|output| output.stdout.contains("out: hello"))
        });
        pids.extend(places.iter().map(|place| place.0));
        engines.end().get_timeout(PATIENCE).unwrap();
        assert!(engines.states().iter().all(|(_, state)| state.is_ended()));
    }
    assert_eq!((host.shipped(), host.programs().len(), host.runs()), (1, 1, 0));
    assert_eq!(fs::read(&host.programs()[0]).unwrap(), fs::read(std::env::current_exe().unwrap()).unwrap());
    eventually("no engine is left", || pids.iter().all(|pid| !is_there(*pid)));
}

fn a_wait_without_an_end_is_over_when_what_it_is_for_has_come() {
    let fixture = Fixture::new();
    let _host = Daemon::allowed(fixture.directory.path(), "a");
    let engines = fixture.cluster.launch(Hosts::any().wait_for(Duration::MAX), 1).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 1);
    engines.end_within(Duration::MAX).get_timeout(PATIENCE).unwrap();
}

fn what_does_not_run_there_is_refused_with_what_each_host_is() {
    let fixture = Fixture::new();
    let soon = || Hosts::any().wait_for(Duration::ZERO);
    let told = fixture.refused(soon(), 1);
    assert!(told.starts_with("hosts: no host is there; start `callboard host --allow-programs FILE`"), "{told}");
    let closed = Daemon::start(fixture.directory.path(), "closed", &[]);
    let _open = Daemon::allowed(fixture.directory.path(), "open");
    eventually("both are there", || {
        let told = fixture.refused(soon(), 3);
        told.contains("3 engines are wanted, and ")
            && told.contains("host open has room for 2")
            && told.contains("host closed: it runs no programs that are shipped; start it with --allow-programs")
    });
    // A program of another architecture, and one with another libc: this one, changed in its headers.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let interpreter = program.windows(10).position(|bytes| bytes == b"/ld-linux-").unwrap();
    let (changed, arch) = (fixture.directory.path().join("changed"), std::env::consts::ARCH);
    let (other, number) = if arch == "x86_64" { ("aarch64", [183, 0]) } else { ("x86_64", [62, 0]) };
    let musl = format!("{arch} with musl");
    for (at, bytes, needs) in [(18, &number[..], other), (interpreter, b"/ld-musl--", &musl)] {
        let mut program = program.clone();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&changed, &program).unwrap();
        let told = fixture.refused(soon().program(&changed), 1);
        assert!(told.contains(&format!("host open: the program is for {needs}")), "{told}");
        assert!(told.contains(&format!("and the host is {arch} with glibc 2.")), "{told}");
    }
    let told = fixture.refused(soon().program("/etc/passwd"), 1);
    assert!(told.contains("/etc/passwd: it is no program for Linux"), "{told}");
    let told = fixture.refused(soon().program("/nowhere"), 1);
    assert!(told.contains("/nowhere cannot be read: No such file"), "{told}");
    assert_eq!((closed.shipped(), closed.programs().len()), (0, 0));
}

fn a_program_that_is_no_engine_is_told_as_one() {
    let fixture = Fixture::new();
    let _host = Daemon::allowed(fixture.directory.path(), "a");
    let engines = fixture.cluster.launch(Hosts::any().program("/bin/true"), 1).unwrap();
    match engines.joined().get_timeout(PATIENCE) {
        Err(Error::EngineFailed { cause }) => {
            assert!(cause.contains("host a (0): it ended with exit status: 0"), "{cause}")
        }
        other => panic!("{other:?}"),
    }
}

fn programs_that_were_used_longest_ago_make_place() {
    let fixture = Fixture::new();
    let size = fs::metadata(std::env::current_exe().unwrap()).unwrap().len().div_ceil(1 << 20) + 1;
    let host = Daemon::start(
        fixture.directory.path(),
        "small",
        &["--allow-programs", "--engines", "1", "--cache-mib", &size.to_string()],
    );
    let run = |hosts: Hosts| {
        let engines = fixture.cluster.launch(hosts, 1).unwrap();
        let joined = engines.joined().get_timeout(PATIENCE);
        engines.end().get_timeout(PATIENCE).unwrap();
        joined
    };
    run(Hosts::any()).unwrap();
    // Another build of the same program: there is room for one.
    let other = fixture.directory.path().join("other");
    let mut program = fs::read(std::env::current_exe().unwrap()).unwrap();
    program.push(0);
    fs::write(&other, &program).unwrap();
    // As this program, told so in the way that it is told.
    run(Hosts::any().program(&other).program_args(["--callboard-dial"])).unwrap();
    assert_eq!(host.programs().iter().map(|file| file.file_name().unwrap().to_owned()).collect::<Vec<_>>(), ["other"]);
    run(Hosts::any()).unwrap();
    assert_eq!(host.shipped(), 3);
    // One for which there is no room at all.
    program.resize((size as usize + 1) << 20, 0);
    fs::write(&other, &program).unwrap();
    match run(Hosts::any().program(&other)) {
        Err(Error::EngineFailed { cause }) => assert!(cause.contains("keeps at most"), "{cause}"),
        other => panic!("{other:?}"),
    }
    // What was kept is there still, and what was damaged comes again.
    let kept = host.programs().remove(0);
    fs::write(&kept, b"damaged").unwrap();
    match run(Hosts::any()) {
        Err(Error::EngineFailed { cause }) => assert!(cause.contains("damaged; it is removed"), "{cause}"),
        other => panic!("{other:?}"),
    }
    run(Hosts::any()).unwrap();
    assert_eq!(host.shipped(), 4);
}

fn a_host_that_dies_leaves_no_engine_and_its_work_moves_on() {
    let fixture = Fixture::new();
    let mut dies = Daemon::allowed(fixture.directory.path(), "dies");
    let engines = fixture.cluster.launch(Hosts::any(), 2).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let rc = fixture.cluster.client();
    let pids: Vec<_> =
        rc.all().apply(place()).get_timeout(PATIENCE).unwrap().into_iter().map(|place| place.0).collect();
    let work = rc.load_balanced().with().retries(3).map(sleep_ms, vec![20; 100]);
    dies.process.0.kill().unwrap();
    dies.process.0.wait().unwrap();
    eventually("its engines have ended", || pids.iter().all(|pid| !is_there(*pid)));
    // It is not taken for others while it may come back.
    let told = fixture.refused(Hosts::any().wait_for(Duration::ZERO), 1);
    assert!(told.contains("host dies: the connection to it is lost"), "{told}");
    let lost = |state: &JobState| matches!(state, JobState::Ended { cause } if cause.contains("the host is gone"));
    let _other = Daemon::allowed(fixture.directory.path(), "other");
    let more = fixture.cluster.launch(Hosts::any(), 2).unwrap();
    more.joined().get_timeout(PATIENCE).unwrap();
    assert_eq!(work.get_timeout(PATIENCE).unwrap(), vec![20; 100]);
    eventually("it is told", || engines.states().iter().all(|(_, state)| lost(state)));
}

/// A task that sleeps so long on each engine; each has begun when this returns.
fn on_each(rc: &Client, ms: u64) -> Vec<AsyncResult<u64>> {
    let tasks: Vec<_> = rc.ids().iter().map(|id| rc.engine(id.0.into()).unwrap().apply(sleep_ms(ms))).collect();
    eventually("they run", || tasks.iter().all(|ar| ar.running().get_timeout(PATIENCE).unwrap()));
    tasks
}

fn what_dies_on_a_host_is_started_again_also_on_another() {
    let fixture = Fixture::new();
    let mut first = Daemon::allowed(fixture.directory.path(), "first");
    let engines = fixture.cluster.launch(Hosts::any(), 2).unwrap().restarting().unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let rc = fixture.cluster.client();
    let places = || rc.all().apply(place()).get_timeout(PATIENCE).unwrap();
    let (killed, pid) = (rc.ids()[0], places()[0].0);
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    eventually("another runs", || !is_there(pid) && rc.len() == 2 && !rc.ids().contains(&killed));
    assert_eq!(first.runs(), 2);
    let before = places();
    // With the host that has the program all are gone, until another has it, and room.
    let second = Daemon::allowed(fixture.directory.path(), "second");
    let once = fixture.cluster.launch(Hosts::any(), 2).unwrap();
    once.joined().get_timeout(PATIENCE).unwrap();
    first.process.0.kill().unwrap();
    first.process.0.wait().unwrap();
    eventually("its engines have ended", || before.iter().all(|place| !is_there(place.0)));
    eventually("that is known", || rc.ids() == once.engines());
    once.end().get_timeout(PATIENCE).unwrap();
    eventually("they run on the other", || rc.len() == 2 && rc.ids() == engines.engines());
    assert_eq!((second.runs(), second.shipped(), places().len()), (2, 1, 2));
    engines.end().get_timeout(PATIENCE).unwrap();
    eventually("none is left", || second.runs() == 0 && rc.is_empty());
}

fn a_host_that_is_told_to_leave_lets_its_engines_finish() {
    let fixture = Fixture::new();
    let mut host = Daemon::allowed(fixture.directory.path(), "leaves");
    let engines = fixture.cluster.launch(Hosts::any(), 2).unwrap();
    engines.joined().get_timeout(PATIENCE).unwrap();
    let rc = fixture.cluster.client();
    let running = on_each(&rc, 1_500);
    host.signal(Signal::TERM);
    for ar in running {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(1_500));
    }
    assert!(host.process.0.wait().unwrap().success());
    eventually("they have left", || rc.is_empty());
}

fn a_cluster_of_hosts_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    // The files are there before the first start of the program, as on a machine that is set up once.
    let address = {
        let cluster = Cluster::without_engines().start().unwrap();
        cluster.listen(Listen::at("127.0.0.1:0").directory(directory.path())).unwrap().address().to_string()
    };
    let host = Daemon::allowed(directory.path(), "a");
    for _ in 0..2 {
        let cluster = Cluster::hosts(2, Listen::at(&address).directory(directory.path())).start().unwrap();
        assert_eq!(cluster.client().len(), 2);
        let ar = cluster.client().load_balanced().map(square, 0..100);
        let began = Instant::now();
        cluster.shutdown(Pending::Finish).get().unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "the host is asked no more: {:?}", began.elapsed());
        assert_eq!(ar.get().unwrap(), (0..100).map(|x| x * x).collect::<Vec<u64>>());
    }
    assert_eq!(host.shipped(), 1);
    eventually("nothing is left there", || host.runs() == 0);
}

fn a_cluster_with_a_name_has_its_engines_on_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let (files, home) = (directory.path().join("files"), directory.path().join("home"));
    let address = {
        let cluster = Cluster::without_engines().start().unwrap();
        cluster.listen(Listen::at("127.0.0.1:0").directory(&files)).unwrap().address().to_string()
    };
    let host = Daemon::allowed(&files, "a");
    let callboard = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
        let output = command.env("CALLBOARD_HOME", &home).args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    for _ in 0..2 {
        let files = files.to_str().unwrap();
        let start =
            ["cluster", "start", "night", "-n", "2", "--engines", "hosts", "--listen", &address, "--directory", files];
        let said = callboard(&[&start[..], &["--daemonize"]].concat());
        assert!(said.contains("its engines answer (2 on hosts)"), "{said}");
        // Whoever knows it by its name finds it.
        let status = callboard(&["status", "night", "--json"]);
        assert_eq!(status.matches("\"slots\":1").count(), 2, "{status}");
        assert_eq!(host.runs(), 2);
        callboard(&["cluster", "stop", "night"]);
        eventually("its engines have gone", || host.runs() == 0);
        assert_eq!(fs::read_dir(&home).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);
    }
    assert_eq!(host.shipped(), 1);
    assert_eq!(host.programs()[0].file_name().unwrap(), "callboard");
}

fn a_client_ships_its_program_by_way_of_the_controller() {
    let directory = tempfile::tempdir().unwrap();
    // A stock controller, that has none of this program's tasks.
    let _controller = Ends(
        Command::new(env!("CARGO_BIN_EXE_callboard"))
            .args(["controller", "--listen", "127.0.0.1:0", "--directory"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let file = directory.path().join("callboard-client.json");
    eventually("the controller has written its files", || file.exists());
    let hosts = [Daemon::allowed(directory.path(), "a"), Daemon::allowed(directory.path(), "b")];
    let rc = Client::connect(&file).get_timeout(PATIENCE).unwrap();
    for times in 1..3 {
        let on_hosts = rc.run_on_hosts(4).get_timeout(PATIENCE).unwrap();
        assert_eq!(on_hosts.engines().len(), 4);
        let squares = rc.load_balanced().map(square, 0..1_000).get_timeout(PATIENCE).unwrap();
        assert_eq!(squares, (0..1_000).map(|x| x * x).collect::<Vec<u64>>());
        let places = rc.all().apply(place()).get_timeout(PATIENCE).unwrap();
        assert_eq!(hosts.iter().map(Daemon::runs).sum::<usize>(), 4);
        let running = on_each(&rc, 300);
        if times == 1 {
            // What runs then is finished.
            on_hosts.end().get_timeout(PATIENCE).unwrap();
            for ar in running {
                assert_eq!(ar.get_timeout(PATIENCE), Ok(300));
            }
        } else {
            drop(on_hosts);
        }
        eventually("they have gone", || places.iter().all(|place| !is_there(place.0)) && rc.is_empty());
    }
    assert_eq!(hosts.iter().map(Daemon::shipped).collect::<Vec<_>>(), [1, 1]);
    // What cannot be is told, also after it has waited.
    let told = rc.run_on_hosts_with(Hosts::any().wait_for(Duration::from_millis(50)), 5).get_timeout(PATIENCE);
    match told {
        Err(Error::Launch { problem, .. }) => {
            assert!(
                problem.contains("5 engines are wanted, and host a has room for 2; host b has room for 2"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }
    let told = rc.run_on_hosts_with(Hosts::any().program("/bin/false"), 1).get_timeout(PATIENCE);
    assert!(matches!(&told, Err(Error::Launch { problem, .. }) if problem.contains("exit status: 1")), "{told:?}");
    // What nobody waits for does not stay.
    for ms in [0, 50, 150, 400, 800] {
        drop(rc.run_on_hosts(2).get_timeout(Duration::from_millis(ms)));
    }
    // All the room there is.
    drop(rc.run_on_hosts(4).get_timeout(PATIENCE).unwrap());
    // A client that goes takes its engines with it.
    let on_hosts = rc.run_on_hosts(2).get_timeout(PATIENCE).unwrap();
    let places = rc.all().apply(place()).get_timeout(PATIENCE).unwrap();
    drop((rc, on_hosts));
    eventually("its engines have gone", || places.iter().all(|place| !is_there(place.0)));
    eventually("nothing is left there", || hosts.iter().all(|host| host.runs() == 0));
    // A client of this process is told what does it.
    let cluster = Cluster::threads(1).start().unwrap();
    let told = cluster.client().run_on_hosts(1).get_timeout(PATIENCE);
    assert!(matches!(&told, Err(Error::Launch { problem, .. }) if problem.contains("cluster.launch(Hosts::any(), n)")));
}

/// A client that is killed is waited for a minute; so this runs only where it is asked for.
fn a_client_that_is_killed_takes_its_engines_with_it() {
    if std::env::var_os("CALLBOARD_TEST_SLOW").is_none() {
        return println!("a minute is not waited for: CALLBOARD_TEST_SLOW is not set");
    }
    let fixture = Fixture::new();
    let host = Daemon::allowed(fixture.directory.path(), "a");
    let mut client = Ends(
        Command::new(std::env::current_exe().unwrap())
            .arg(BE_CLIENT)
            .arg(fixture.directory.path().join("callboard-client.json"))
            .spawn()
            .unwrap(),
    );
    let rc = fixture.cluster.client();
    rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
    let places = rc.all().apply(place()).get_timeout(PATIENCE).unwrap();
    client.0.kill().unwrap();
    client.0.wait().unwrap();
    std::thread::sleep(Duration::from_secs(60));
    eventually("its engines have gone", || places.iter().all(|place| !is_there(place.0)) && host.runs() == 0);
    assert!(rc.is_empty());
}

/// Has this program be a client that runs on two hosts.
const BE_CLIENT: &str = "--be-client";

fn main() {
    callboard::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [be_client, file] = &arguments[..]
        && be_client == BE_CLIENT
    {
        let client = Client::connect(file).get_timeout(PATIENCE).unwrap();
        let _on_hosts = client.run_on_hosts(2).get_timeout(PATIENCE).unwrap();
        return std::thread::sleep(Duration::from_secs(120));
    }
    run(tests![
        a_program_runs_where_nobody_installed_it_and_travels_once,
        a_wait_without_an_end_is_over_when_what_it_is_for_has_come,
        what_does_not_run_there_is_refused_with_what_each_host_is,
        a_program_that_is_no_engine_is_told_as_one,
        programs_that_were_used_longest_ago_make_place,
        a_host_that_dies_leaves_no_engine_and_its_work_moves_on,
        what_dies_on_a_host_is_started_again_also_on_another,
        a_host_that_is_told_to_leave_lets_its_engines_finish,
        a_cluster_of_hosts_is_one_line,
        a_cluster_with_a_name_has_its_engines_on_hosts,
        a_client_ships_its_program_by_way_of_the_controller,
        a_client_that_is_killed_takes_its_engines_with_it,
    ]);
}
