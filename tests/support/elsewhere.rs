//! A controller that is a process of its own, and this program a client of it over TCP with TLS.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use callboard::prelude::*;
use callboard::{Client, Dial, EngineId, Error, Limits, Listen, Policy, Reply};
use tokio::sync::oneshot;

use super::cluster::{CONTROLS, ENGINE, Engines};

/// The controller. It ends with this.
pub(super) struct Elsewhere {
    client: Client,
    process: Option<Process>,
}

struct Process {
    child: Child,
    asks: Mutex<ChildStdin>,
    askers: Askers,
}

/// Who waits for which answer.
type Askers = Arc<Mutex<HashMap<usize, oneshot::Sender<String>>>>;

/// What a line of the controller's begins with that is an answer.
const ANSWER: &str = "answer: ";

impl Elsewhere {
    pub(super) fn start(engines: &Engines) -> Result<Self, Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let directory = super::common(&format!("controller-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let Engines { n, limits, policy, .. } = engines;
        limits.check()?;
        let told = [n.to_string(), format!("{policy:?}"), bounds(limits), directory.to_string_lossy().into_owned()];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(ENGINE)
            .env(CONTROLS, told.join(";"))
            .env_remove("CALLBOARD_TEST_ENGINES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, answers) = (Mutex::new(child.stdin.take().unwrap()), BufReader::new(child.stdout.take().unwrap()));
        let (tell, told) = oneshot::channel();
        let askers: Askers = Arc::new(Mutex::new([(0, tell)].into()));
        let process = Process { child, asks, askers: askers.clone() };
        std::thread::spawn(move || {
            for line in answers.lines().map_while(Result::ok) {
                // The test harness says something, too.
                let Some((number, answer)) = line.split_once(ANSWER).and_then(|(_, line)| line.split_once(' ')) else {
                    continue;
                };
                let asker = askers.lock().unwrap().remove(&number.parse().unwrap()).unwrap();
                drop(asker.send(answer.into()));
            }
        });
        let limits = limits.clone();
        // The tests may be in async code, where one must not wait.
        let connect = move || Dial::with(told.blocking_recv().unwrap()).limits(limits).connect().get();
        let client = std::thread::spawn(connect).join().unwrap()?;
        Ok(Self { client, process: Some(process) })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn add_threads(&self, n: usize) -> Reply<Vec<EngineId>> {
        let (client, asked) = (self.client.clone(), self.ask(&format!("add {n}")));
        Reply::new(async move {
            let ids: Vec<_> = asked.await?.split(',').filter_map(|id| id.parse().ok()).map(EngineId).collect();
            // The client hears of them soon.
            client.wait_for_engines(client.len().max(ids.len())).await?;
            super::eventually("the client has heard of it", || ids.iter().all(|id| client.ids().contains(id)));
            Ok(ids)
        })
    }

    pub(super) fn remove_engines(&self, engines: Vec<EngineId>) -> Reply<()> {
        let ids: Vec<String> = engines.iter().map(|id| id.0.to_string()).collect();
        let (client, asked) = (self.client.clone(), self.ask(&format!("remove {}", ids.join(","))));
        Reply::new(async move {
            asked.await?;
            super::eventually("the client has heard of it", || engines.iter().all(|id| !client.ids().contains(id)));
            Ok(())
        })
    }

    pub(super) fn shutdown(mut self, pending: Pending) -> Reply<()> {
        let (tell, told) = oneshot::channel();
        let (client, process) = (self.client.clone(), self.process.take());
        std::thread::spawn(move || {
            let ended = client.shutdown(pending).get();
            end(process);
            tell.send(ended)
        });
        Reply::new(async move { told.await.unwrap() })
    }

    fn ask(&self, what: &str) -> Reply<String> {
        // What was submitted before is there before: it comes another way. The tests may be in async code.
        let asked = self.client.queue_status();
        let _ = std::thread::spawn(move || asked.get()).join().unwrap();
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let ((tell, told), number) = (oneshot::channel(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let process = self.process.as_ref().unwrap();
        process.askers.lock().unwrap().insert(number, tell);
        writeln!(process.asks.lock().unwrap(), "{number} {what}").unwrap();
        let client = self.client.clone();
        Reply::new(async move {
            let answer = told.await.expect("the controller is there");
            match answer.strip_prefix("error ") {
                None => Ok(answer),
                Some("stopped") => Err(Error::ClusterStopped),
                Some(asked) => Err(Error::NoSuchEngine { asked: asked.parse().unwrap(), have: client.ids() }),
            }
        })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        end(self.process.take());
    }
}

fn end(process: Option<Process>) {
    let Some(Process { mut child, asks, .. }) = process else { return };
    drop(asks);
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
    answer("0", &listening.client_file().display().to_string());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let [number, what, of] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let ids = |of: &str| of.split(',').filter_map(|id| id.parse().ok()).map(EngineId).collect::<Vec<_>>();
        let asked = match what {
            "add" => cluster.add_threads(of.parse().unwrap()),
            "remove" => {
                let removed = cluster.remove_engines(ids(of));
                Reply::new(async move { removed.await.map(|()| Vec::new()) })
            }
            other => panic!("{other}?"),
        };
        let number = number.to_string();
        std::thread::spawn(move || {
            let done = match asked.get() {
                Ok(ids) => ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(","),
                Err(Error::NoSuchEngine { asked, .. }) => format!("error {asked}"),
                Err(Error::ClusterStopped) => "error stopped".into(),
                Err(other) => panic!("{other}"),
            };
            answer(&number, &done);
        });
    }
    drop(cluster);
    std::process::exit(0);
}

fn answer(number: &str, what: &str) {
    println!("{ANSWER}{number} {what}");
    std::io::stdout().flush().unwrap();
}
