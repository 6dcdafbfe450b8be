//! callboard itself, by where its engines are.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use callboard::{Cluster, Listen, LoadBalancedView};

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
}

impl Engines {
    /// The name in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Threads => "callboard-threads",
            Self::Processes => "callboard-processes",
            Self::Tcp => "callboard-tcp",
            Self::PlainTcp => "callboard-tcp-plain",
        }
    }

    /// Starts a cluster; its engines have joined when this returns.
    pub(super) fn start(self, engines: usize) -> Fallible<Started> {
        match self {
            Self::Threads => Ok(Started { cluster: Cluster::threads(engines).start()?, dialling: Dialling::default() }),
            Self::Processes => {
                Ok(Started { cluster: Cluster::processes(engines).start()?, dialling: Dialling::default() })
            }
            Self::Tcp => dialled(engines, |listen| listen),
            Self::PlainTcp => dialled(engines, Listen::plain_tcp),
        }
    }
}

/// All, by how to set them up for calls.
pub(super) const ALL: [(&str, Setup); 4] = [
    (Engines::Threads.name(), |engines| set_up(Engines::Threads, engines)),
    (Engines::Processes.name(), |engines| set_up(Engines::Processes, engines)),
    (Engines::Tcp.name(), |engines| set_up(Engines::Tcp, engines)),
    (Engines::PlainTcp.name(), |engines| set_up(Engines::PlainTcp, engines)),
];

/// A cluster that is there, and the processes that dialled it.
pub(super) struct Started {
    /// Ends before those, which end with it.
    cluster: Cluster,
    #[expect(dead_code, reason = "it ends them when it is dropped")]
    dialling: Dialling,
}

impl Deref for Started {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Processes that dial, and where their connection file is.
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("callboard-bench-{}-{number}", std::process::id()));
    let cluster = Cluster::without_engines().start()?;
    let listening = cluster.listen(how(Listen::at("127.0.0.1:0").directory(&directory)))?;
    let mut dialling = Dialling { processes: Vec::new(), directory: Some(directory) };
    for _ in 0..engines {
        let engine = Command::new(std::env::current_exe()?)
            .args(["engine", "--log", "error"])
            .arg(listening.engine_file())
            .spawn()?;
        dialling.processes.push(engine);
    }
    cluster.client().wait_for_engines(engines).get_timeout(Duration::from_secs(20))?;
    Ok(Started { cluster, dialling })
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
