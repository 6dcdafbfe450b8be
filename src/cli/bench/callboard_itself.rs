//! callboard itself, by where its engines are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use callboard::{Client, Cluster, Listen, LoadBalancedView, Pending};

use super::Fallible;
use super::noop::Noop;
use super::yardsticks::{Setup, System};

/// Where engines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Engines {
    /// Threads of this process.
    Threads,
    /// Child processes.
    Processes,
    /// Processes that dial this one over TCP on loopback, with TLS.
    Tcp,
    /// The same without TLS.
    PlainTcp,
    /// Processes that dial a controller in a process of its own, of which this one is a client, both over TCP with TLS.
    Elsewhere,
}

impl Engines {
    /// The name in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Threads => "callboard-threads",
            Self::Processes => "callboard-processes",
            Self::Tcp => "callboard-tcp",
            Self::PlainTcp => "callboard-tcp-plain",
            Self::Elsewhere => "callboard-tcp-client",
        }
    }

    /// Starts a cluster; its engines have joined when this returns.
    pub(super) fn start(self, engines: usize) -> Fallible<Started> {
        match self {
            Self::Threads => Ok(Started::here(Cluster::threads(engines).start()?)),
            Self::Processes => Ok(Started::here(Cluster::processes(engines).start()?)),
            Self::Tcp => dialled(engines, |listen| listen),
            Self::PlainTcp => dialled(engines, Listen::plain_tcp),
            Self::Elsewhere => elsewhere(engines),
        }
    }
}

/// All, by how to set them up for calls.
pub(super) const ALL: [(&str, Setup); 5] = [
    (Engines::Threads.name(), |engines| set_up(Engines::Threads, engines)),
    (Engines::Processes.name(), |engines| set_up(Engines::Processes, engines)),
    (Engines::Tcp.name(), |engines| set_up(Engines::Tcp, engines)),
    (Engines::PlainTcp.name(), |engines| set_up(Engines::PlainTcp, engines)),
    (Engines::Elsewhere.name(), |engines| set_up(Engines::Elsewhere, engines)),
];

/// A cluster that is there, and the processes that dialled it.
pub(super) struct Started {
    client: Client,
    /// Ends before those, which end with it; `None` if it is one of them.
    cluster: Option<Cluster>,
    #[expect(dead_code, reason = "it waits for them when it is dropped")]
    dialling: Dialling,
}

impl Started {
    fn here(cluster: Cluster) -> Self {
        Self { client: cluster.client(), cluster: Some(cluster), dialling: Dialling::default() }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.cluster.is_none() {
            // What is in the way is told where it matters: by the test that follows.
            let _ = self.client.shutdown(Pending::Cancel).get();
        }
    }
}

/// Processes that dial, and where their connection files are.
#[derive(Default)]
struct Dialling {
    processes: Vec<Child>,
    directory: Option<PathBuf>,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.wait();
        }
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Starts a cluster that is dialled by so many processes, each of which is this program as `callboard engine`.
fn dialled(engines: usize, how: fn(Listen) -> Listen) -> Fallible<Started> {
    let directory = new_directory();
    let cluster = Cluster::without_engines().start()?;
    let listening = cluster.listen(how(Listen::at("127.0.0.1:0").directory(&directory)))?;
    let mut dialling = Dialling { processes: Vec::new(), directory: Some(directory) };
    dialling.dial(engines, &listening.engine_file())?;
    let client = cluster.client();
    client.wait_for_engines(engines).get_timeout(PATIENCE)?;
    Ok(Started { client, cluster: Some(cluster), dialling })
}

/// Starts a controller and so many engines, each this program as `callboard controller` and `callboard engine`, and connects.
fn elsewhere(engines: usize) -> Fallible<Started> {
    let directory = new_directory();
    let mut controller = Command::new(std::env::current_exe()?)
        .args(["controller", "--log", "error", "--listen", "127.0.0.1:0", "--directory"])
        .arg(&directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = controller.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    let mut dialling = Dialling { processes: vec![controller], directory: Some(directory.clone()) };
    if said.take(3).count() < 3 {
        return Err("the controller does not listen".into());
    }
    dialling.dial(engines, &directory.join("callboard-engine.json"))?;
    let client = Client::connect(directory.join("callboard-client.json")).get()?;
    client.wait_for_engines(engines).get_timeout(PATIENCE)?;
    Ok(Started { client, cluster: None, dialling })
}

/// How long engines may take to join.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names a directory that nobody else has.
pub(super) fn new_directory() -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("callboard-bench-{}-{number}", std::process::id()))
}

impl Dialling {
    fn dial(&mut self, engines: usize, file: &Path) -> Fallible<()> {
        for _ in 0..engines {
            let mut engine = Command::new(std::env::current_exe()?);
            self.processes.push(engine.args(["engine", "--log", "error"]).arg(file).spawn()?);
        }
        Ok(())
    }
}

struct Itself {
    view: LoadBalancedView,
    /// Ends with this, and the view's engines with it.
    _cluster: Started,
}

fn set_up(kind: Engines, engines: usize) -> Fallible<Box<dyn System>> {
    let cluster = kind.start(engines)?;
    Ok(Box::new(Itself { view: cluster.client().load_balanced(), _cluster: cluster }))
}

impl System for Itself {
    fn burst(&mut self, tasks: usize) -> Fallible<()> {
        let results: Vec<_> = (0..tasks).map(|_| self.view.apply(Noop)).collect();
        for result in results {
            result.get()?;
        }
        Ok(())
    }

    fn round_trip(&mut self) -> Fallible<()> {
        Ok(self.view.apply(Noop).get()?)
    }
}
