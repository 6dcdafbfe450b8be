//! Engines and clients behind a link that goes down without a word: a network namespace of their own, and a pair of virtual
//! interfaces, where these may be made. And processes that stand still: engines, of which the same is to be said, and controllers,
//! which are to blame nobody for it.
//!
//! With a `main` of its own: engines, clients and controllers are this very program. `CALLBOARD_CASES` is how often each happens,
//! `CALLBOARD_STILL_S` for how long a controller stands still; an argument is a part of the name of what is to run.
#![allow(clippy::unwrap_used)]

#[cfg(all(target_os = "linux", feature = "remote"))]
mod linux {
    use std::io::{BufRead, BufReader, Lines, Write};
    use std::path::Path;
    use std::process::{ChildStdin, ChildStdout, Command, Stdio};
    use std::time::{Duration, Instant};

    use callboard::prelude::*;
    use callboard::{Client, Listen, Listening};
    use rustix::process::{Pid, Signal, kill_process};

    use crate::support::{self, CommonGate, Ends, eventually};

    const PATIENCE: Duration = Duration::from_secs(20);

    #[task(idempotent)]
    fn square(x: u64) -> u64 {
        x * x
    }

    /// Says that it runs, and goes on until its gate opens.
    #[task]
    fn stay(begun: String, gate: String) -> u32 {
        CommonGate::named(begun).open();
        // A controller may stand still for long meanwhile.
        CommonGate::named(gate).pass_within(Duration::from_secs(60));
        std::process::id()
    }

    /// What tells this program to be a client.
    const CONNECTS: &str = "--connects";

    /// A namespace, and a link from here to there. Both are gone when this is.
    struct Network {
        namespace: String,
        here: String,
        there: String,
        address: String,
    }

    fn ip(arguments: &[&str]) -> Result<(), String> {
        let said = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
        let told = || format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr).trim());
        if said.status.success() { Ok(()) } else { Err(told()) }
    }

    impl Network {
        /// Makes them; or says why that cannot be.
        fn make() -> Result<Self, String> {
            let own = std::process::id();
            let (namespace, here, there) = (format!("cb{own}"), format!("cb{own}a"), format!("cb{own}b"));
            // One of 16 384 nets of two hosts, of a range that is for such tests.
            let (net, host) = (own / 64 % 256, own % 64 * 4);
            let [address, peer] = [1, 2].map(|at| format!("198.18.{net}.{}", host + at));
            ip(&["netns", "add", &namespace])?;
            // From here on dropping it takes away what was made.
            let network = Self { namespace, here, there, address };
            let Self { namespace, here, there, address } = &network;
            ip(&["link", "add", here, "type", "veth", "peer", "name", there, "netns", namespace])?;
            ip(&["address", "add", &format!("{address}/30"), "dev", here])?;
            ip(&["link", "set", here, "up"])?;
            ip(&["-n", namespace, "address", "add", &format!("{peer}/30"), "dev", there])?;
            ip(&["-n", namespace, "link", "set", there, "up"])?;
            Ok(network)
        }

        /// Takes the far end of the link up, or down: here what is sent is lost without a word.
        fn set(&self, state: &str) {
            ip(&["-n", &self.namespace, "link", "set", &self.there, state]).unwrap();
        }

        /// Starts this program in the namespace.
        fn within(&self) -> Command {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.namespace]).arg(std::env::current_exe().unwrap());
            command
        }
    }

    impl Drop for Network {
        fn drop(&mut self) {
            // The other end goes with it, and with the namespace.
            let _ = ip(&["link", "delete", &self.here]);
            let _ = ip(&["netns", "delete", &self.namespace]);
        }
    }

    fn engine(mut command: Command, file: &Path) -> Ends {
        Ends(command.env(support::DIALS, file).stderr(Stdio::null()).spawn().unwrap())
    }

    fn this_program() -> Command {
        Command::new(std::env::current_exe().unwrap())
    }

    /// A cluster without engines that listens, and one engine near it.
    struct Here {
        cluster: Cluster,
        listening: Listening,
        near: Ends,
        _directory: tempfile::TempDir,
    }

    fn here(host: &str) -> Here {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::without_engines().start().unwrap();
        let listening = cluster.listen(Listen::at(format!("{host}:0")).directory(directory.path())).unwrap();
        let near = engine(this_program(), &listening.engine_file());
        cluster.client().wait_for_engines(1).get_timeout(PATIENCE).unwrap();
        Here { cluster, listening, near, _directory: directory }
    }

    /// Takes an engine away without a word, by `away`, and has it back, by `back`; `case` names its gates. Returns after how long it was lost.
    fn lose(here: &Here, case: &str, away: impl FnOnce(), back: impl FnOnce()) -> Duration {
        let rc = here.cluster.client();
        let far = *rc.ids().last().unwrap();
        let gate = |what: &str| CommonGate::named(format!("{what} {case}"));
        let retried = rc.load_balanced().with().retries_on_loss(1);
        // One for each engine.
        let begun = ["first", "second"];
        let running = begun.map(|begun| retried.apply(stay(format!("{begun} {case}"), format!("gate {case}"))));
        begun.into_iter().for_each(|begun| gate(begun).pass());
        away();
        // The command that takes a link down may have to wait for others.
        let since = Instant::now();
        eventually("it is lost", || !rc.ids().contains(&far));
        let lost = since.elapsed();
        gate("gate").open();
        let ran_by = running.each_ref().map(|ar| ar.get_timeout(PATIENCE).unwrap());
        assert_eq!(ran_by, [here.near.0.id(); 2], "another engine has started it again");
        assert_eq!(running.map(|ar| ar.metadata().attempt.0).iter().sum::<u32>(), 3);
        back();
        rc.wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        let again = *rc.ids().last().unwrap();
        assert!(again > far, "it is another: {again} after {far}");
        assert_eq!(rc.engine(-1).unwrap().apply(square(12)).get_timeout(PATIENCE), Ok(144));
        lost
    }

    fn engines_behind_a_link_that_goes_down_are_lost_and_come_back(network: &Network, cases: usize) {
        let here = here(&network.address);
        let _far = engine(network.within(), &here.listening.engine_file());
        here.cluster.client().wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        for case in 0..cases {
            let lost = lose(&here, &format!("link {case}"), || network.set("down"), || network.set("up"));
            println!("link down: an engine is lost after {lost:?}");
            assert!((3.5..6.5).contains(&lost.as_secs_f64()), "{lost:?}");
        }
    }

    fn engines_that_stand_still_are_lost_and_come_back(cases: usize) {
        let here = here("127.0.0.1");
        let far = engine(this_program(), &here.listening.engine_file());
        here.cluster.client().wait_for_engines(2).get_timeout(PATIENCE).unwrap();
        for case in 0..cases {
            let signal = |signal| kill_process(Pid::from_child(&far.0), signal).unwrap();
            let lost = lose(&here, &format!("still {case}"), || signal(Signal::STOP), || signal(Signal::CONT));
            println!("stands still: an engine is lost after {lost:?}");
            assert!((3.5..6.5).contains(&lost.as_secs_f64()), "{lost:?}");
        }
    }

    /// A client or controller in a process of its own, which does as it is told line by line, and answers.
    struct Elsewhere {
        process: Ends,
        told: ChildStdin,
        says: Lines<BufReader<ChildStdout>>,
    }

    impl Elsewhere {
        fn of(mut command: Command) -> Self {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (told, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
            Self { process: Ends(child), told, says }
        }

        fn tell(&mut self, what: &str) {
            writeln!(self.told, "{what}").unwrap();
        }

        fn says(&mut self) -> String {
            self.says.next().unwrap().unwrap()
        }
    }

    /// Is such a client.
    fn connect(file: &str) {
        let rc = Client::connect(file).get().unwrap();
        println!("there");
        for line in std::io::stdin().lines().map(Result::unwrap) {
            match line.split_once(' ').unwrap() {
                ("square", x) => {
                    println!("{:?}", rc.load_balanced().apply(square(x.parse().unwrap())).get_timeout(PATIENCE));
                }
                ("stay", case) => {
                    let gate = |what: &str| format!("{what} of client {case}");
                    println!("{:?}", rc.load_balanced().apply(stay(gate("begun"), gate("gate"))).get_timeout(PATIENCE));
                }
                (_, engines) => {
                    rc.wait_for_engines(engines.parse().unwrap()).get_timeout(PATIENCE).unwrap();
                    println!("there");
                }
            }
        }
    }

    fn clients_behind_a_link_that_goes_down_are_told_and_work_again(network: &Network, cases: usize) {
        let here = here(&network.address);
        let mut client = network.within();
        client.arg(CONNECTS).arg(here.listening.client_file());
        let mut client = Elsewhere::of(client);
        assert_eq!(client.says(), "there");
        for case in 0..cases {
            client.tell(&format!("stay {case}"));
            eventually("it is there", || here.cluster.client().queue_status().get().unwrap().pending == 1);
            let command = Instant::now();
            network.set("down");
            let since = Instant::now();
            assert_eq!(client.says(), "Err(Disconnected)");
            let told = since.elapsed();
            println!("link down within {:?}: a client is told after {told:?}", since - command);
            assert!((3.9..6.0).contains(&told.as_secs_f64()), "{told:?}");
            network.set("up");
            client.tell("engines 1");
            assert_eq!(client.says(), "there");
            CommonGate::named(format!("gate of client {case}")).open();
            client.tell("square 12");
            assert_eq!(client.says(), "Ok(144)");
        }
    }

    /// What tells this program to be a controller, which writes its files into a directory.
    const LISTENS: &str = "--listens";

    /// Is such a controller: for each line of its input it has an engine run something, and says how that ended.
    fn listen(directory: &str) {
        let cluster = Cluster::without_engines().start().unwrap();
        let _listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
        let rc = cluster.client();
        println!("there");
        for case in std::io::stdin().lines().map(Result::unwrap) {
            rc.wait_for_engines(1).get_timeout(PATIENCE).unwrap();
            let gate = |what: &str| format!("{what} of controller {case}");
            let running = rc.load_balanced().apply(stay(gate("begun"), gate("gate")));
            let ended = running.get().map(drop);
            println!("{ended:?} at attempt {} on {:?}", running.metadata().attempt.0, rc.ids());
        }
    }

    fn controllers_that_stand_still_blame_nobody(cases: usize) {
        // By default longer than it takes an engine to give the connection up.
        let still = std::env::var("CALLBOARD_STILL_S").map_or(8, |seconds| seconds.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let mut controller = this_program();
        controller.arg(LISTENS).arg(directory.path());
        let mut controller = Elsewhere::of(controller);
        assert_eq!(controller.says(), "there");
        let engine = engine(this_program(), &directory.path().join("callboard-engine.json"));
        for case in 0..cases {
            controller.tell(&case.to_string());
            CommonGate::named(format!("begun of controller {case}")).pass();
            let signal = |signal| kill_process(Pid::from_child(&controller.process.0), signal).unwrap();
            signal(Signal::STOP);
            std::thread::sleep(Duration::from_secs(still));
            signal(Signal::CONT);
            let since = Instant::now();
            CommonGate::named(format!("gate of controller {case}")).open();
            assert_eq!(controller.says(), "Ok(()) at attempt 1 on [0]", "the same engine, and once");
            println!(
                "a controller stood still for {still} s: nobody is blamed, and all goes on after {:?}",
                since.elapsed()
            );
        }
        // Its input ends, and so do the two.
        drop((controller, engine));
    }

    /// Does this as often, if it is wanted.
    fn run(name: &str, wanted: &str, what: impl FnOnce()) {
        if name.contains(wanted) {
            what();
            println!("test {name} ... ok");
        }
    }

    pub(crate) fn main() {
        if let Some(file) = std::env::var_os(support::DIALS) {
            let ended = callboard::run_engine(file);
            std::process::exit(ended.is_err().into());
        }
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match &arguments[..] {
            [connects, file] if connects == CONNECTS => return connect(file),
            [listens, directory] if listens == LISTENS => return listen(directory),
            _ => {}
        }
        let cases = std::env::var("CALLBOARD_CASES").map_or(2, |cases| cases.parse().unwrap());
        let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
        match Network::make() {
            Ok(network) => {
                let engines = || engines_behind_a_link_that_goes_down_are_lost_and_come_back(&network, cases);
                run("engines_behind_a_link_that_goes_down_are_lost_and_come_back", wanted, engines);
                let clients = || clients_behind_a_link_that_goes_down_are_told_and_work_again(&network, cases);
                run("clients_behind_a_link_that_goes_down_are_told_and_work_again", wanted, clients);
            }
            Err(reason) => println!("no namespace can be made here ({reason}): no link goes down"),
        }
        let engines = || engines_that_stand_still_are_lost_and_come_back(cases);
        run("engines_that_stand_still_are_lost_and_come_back", wanted, engines);
        let controllers = || controllers_that_stand_still_blame_nobody(cases);
        run("controllers_that_stand_still_blame_nobody", wanted, controllers);
    }
}

#[cfg(all(target_os = "linux", feature = "remote"))]
mod support;

fn main() {
    #[cfg(all(target_os = "linux", feature = "remote"))]
    linux::main();
}
