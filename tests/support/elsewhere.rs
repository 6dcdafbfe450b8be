//! A controller that is a process of its own, and this program a client of it over TCP with TLS.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use callboard::prelude::*;
use callboard::{Client, Dial, EngineId, Error, Limits, Listen, Policy, Reply};

use super::cluster::{CONTROLS, ENGINE, Engines};

/// The controller. It ends with this.
pub(super) struct Elsewhere {
    client: Client,
    process: Option<Mutex<Process>>,
}

struct Process {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a line of the controller's begins with that is an answer.
const ANSWER: &str = "answer: ";

impl Elsewhere {
    pub(super) fn start(engines: &Engines) -> Result<Self, Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let directory = super::common(&format!("controller-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let Engines { n, limits, policy, .. } = engines;
        let told = [n.to_string(), format!("{policy:?}"), bounds(limits), directory.to_string_lossy().into_owned()];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(ENGINE)
            .env(CONTROLS, told.join(";"))
            .env_remove("CALLBOARD_TEST_ENGINES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut process = Process { child, asks, answers };
        let file = process.answer();
        let connecting = Dial::with(file).limits(limits.clone()).connect();
        // The tests may be in async code, where one must not wait.
        let client = std::thread::spawn(move || connecting.get()).join().unwrap()?;
        Ok(Self { client, process: Some(Mutex::new(process)) })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn add_threads(&self, n: usize) -> Reply<Vec<EngineId>> {
        let ids = self.ask(&format!("add {n}")).map(|ids| self.seen(&ids));
        Reply::new(std::future::ready(ids))
    }

    pub(super) fn remove_engines(&self, engines: Vec<EngineId>) -> Reply<()> {
        let ids: Vec<String> = engines.iter().map(|id| id.0.to_string()).collect();
        let client = self.client.clone();
        let removed = self.ask(&format!("remove {}", ids.join(",")));
        if removed.is_ok() {
            super::eventually("the client has heard of it", || engines.iter().all(|id| !client.ids().contains(id)));
        }
        Reply::new(std::future::ready(removed.map(drop)))
    }

    /// Waits until the client has heard of engines, which it does soon.
    fn seen(&self, ids: &str) -> Vec<EngineId> {
        let ids: Vec<EngineId> = ids.split(',').filter_map(|id| id.parse().ok()).map(EngineId).collect();
        super::eventually("the client has heard of it", || ids.iter().all(|id| self.client.ids().contains(id)));
        ids
    }

    pub(super) fn shutdown(mut self, pending: Pending) -> Reply<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (client, process) = (self.client.clone(), self.process.take());
        std::thread::spawn(move || {
            let ended = client.shutdown(pending).get();
            end(process);
            tell.send(ended)
        });
        Reply::new(async move { told.await.unwrap() })
    }

    fn ask(&self, what: &str) -> Result<String, Error> {
        let mut process = self.process.as_ref().unwrap().lock().unwrap();
        writeln!(process.asks, "{what}").unwrap();
        let answer = process.answer();
        match answer.strip_prefix("error ") {
            None => Ok(answer),
            Some("stopped") => Err(Error::ClusterStopped),
            Some(asked) => Err(Error::NoSuchEngine { asked: asked.parse().unwrap(), have: self.client.ids() }),
        }
    }
}

impl Process {
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the controller has ended");
            // The test harness says something, too.
            if let Some((_, answer)) = line.trim_end().split_once(ANSWER) {
                return answer.into();
            }
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        end(self.process.take());
    }
}

fn end(process: Option<Mutex<Process>>) {
    let Some(process) = process else { return };
    let Process { mut child, asks, answers } = process.into_inner().unwrap();
    drop((asks, answers));
    // As with a cluster of this process, a thread that drives a runtime does not wait.
    if tokio::runtime::Handle::try_current().is_ok() {
        std::thread::spawn(move || child.wait());
    } else {
        child.wait().unwrap();
    }
}

/// The bounds that tests set, as text.
fn bounds(limits: &Limits) -> String {
    let Limits { pending_tasks_max, pending_bytes_max, records_max, kept_bytes_max, engine_outstanding_max, .. } =
        limits;
    format!("{pending_tasks_max},{pending_bytes_max},{records_max},{kept_bytes_max},{engine_outstanding_max}")
}

/// Is a controller, if this program was launched as one; then it ends here.
pub(super) fn control() {
    let Ok(told) = std::env::var(CONTROLS) else { return };
    let [n, policy, bounds, directory] = told.split(';').collect::<Vec<_>>().try_into().unwrap();
    let bounds: Vec<usize> = bounds.split(',').map(|bound| bound.parse().unwrap()).collect();
    let mut limits = Limits::default();
    limits.pending_tasks_max = bounds[0];
    limits.pending_bytes_max = bounds[1];
    limits.records_max = bounds[2];
    limits.kept_bytes_max = bounds[3];
    limits.engine_outstanding_max = bounds[4] as u32;
    let policies = [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted];
    let policy = policies.into_iter().find(|known| format!("{known:?}") == policy).unwrap();
    let builder = callboard::Cluster::threads(n.parse().unwrap()).limits(limits).policy(policy);
    let cluster = builder.start().unwrap();
    let listening = cluster.listen(Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    answer(&listening.client_file().display().to_string());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (what, of) = line.split_once(' ').unwrap();
        let ids = |of: &str| of.split(',').filter_map(|id| id.parse().ok()).map(EngineId).collect::<Vec<_>>();
        let done = match what {
            "add" => cluster.add_threads(of.parse().unwrap()).get(),
            "remove" => cluster.remove_engines(ids(of)).get().map(|()| Vec::new()),
            other => panic!("{other}?"),
        };
        answer(&match done {
            Ok(ids) => ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(","),
            Err(Error::NoSuchEngine { asked, .. }) => format!("error {asked}"),
            Err(Error::ClusterStopped) => "error stopped".into(),
            Err(other) => panic!("{other}"),
        });
    }
    drop(cluster);
    std::process::exit(0);
}

fn answer(what: &str) {
    println!("{ANSWER}{what}");
    std::io::stdout().flush().unwrap();
}
