//! A cluster for tests: its engines are of the kind that an environment variable names, and its controller here or in
//! another process.

use callboard::{Client, Error, Limits, Policy, Reply, prelude::Pending};

/// Describes `n` engines of the kind that `CALLBOARD_TEST_ENGINES` names: `threads`, if nothing; `processes`; `tcp`,
/// processes that dial the cluster; or `elsewhere`, threads of a controller that is a process of its own, of which this one
/// is a client. Each process is this very test program, run as its test `engine`, which calls [`engine`].
pub fn engines(n: usize) -> Engines {
    engines_of(std::env::var("CALLBOARD_TEST_ENGINES").as_deref().unwrap_or("threads"), n)
}

/// Describes `n` engines of one of these kinds.
pub fn engines_of(kind: &str, n: usize) -> Engines {
    let kind = match kind {
        "threads" => Kind::Threads,
        "processes" if cfg!(all(unix, feature = "remote")) => Kind::Processes,
        "tcp" if cfg!(all(unix, feature = "remote")) => Kind::Dialling,
        "elsewhere" if cfg!(all(unix, feature = "remote")) => Kind::Elsewhere,
        other => panic!("engines of the kind {other}: there are threads, processes, tcp and elsewhere"),
    };
    Engines { n, kind, limits: Limits::default(), policy: Policy::default() }
}

/// A cluster to be started.
pub struct Engines {
    pub(super) n: usize,
    kind: Kind,
    pub(super) limits: Limits,
    pub(super) policy: Policy,
}

enum Kind {
    Threads,
    Processes,
    Dialling,
    Elsewhere,
}

/// The arguments that have a test program run its test `engine`.
pub(super) const ENGINE: [&str; 3] = ["engine", "--exact", "--nocapture"];

/// What tells a test program to dial the cluster of this connection file.
pub const DIALS: &str = "CALLBOARD_TEST_DIALS";

/// What tells a test program to be a controller, and of what kind.
pub(super) const CONTROLS: &str = "CALLBOARD_TEST_CONTROLS";

impl Engines {
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Starts the cluster; its engines have joined when this returns.
    pub fn start(self) -> Result<Cluster, Error> {
        let own = |builder: callboard::ClusterBuilder| {
            builder.limits(self.limits.clone()).policy(self.policy).start().map(Box::new).map(Controller::Here)
        };
        let controller = match self.kind {
            Kind::Threads => own(callboard::Cluster::threads(self.n)),
            #[cfg(all(unix, feature = "remote"))]
            Kind::Processes => own(callboard::Cluster::processes(self.n).engine_args(ENGINE)),
            #[cfg(all(unix, feature = "remote"))]
            Kind::Dialling => {
                let started = own(callboard::Cluster::without_engines());
                if let Ok(Controller::Here(cluster)) = &started {
                    have_dialled(cluster, self.n);
                }
                started
            }
            #[cfg(all(unix, feature = "remote"))]
            Kind::Elsewhere => super::elsewhere::Elsewhere::start(&self).map(Controller::Elsewhere),
            #[cfg(not(all(unix, feature = "remote")))]
            _ => unreachable!("only threads are asked for"),
        };
        controller.map(|controller| Cluster { controller })
    }
}

/// A cluster as [`callboard::Cluster`], whose controller may be in another process.
pub struct Cluster {
    controller: Controller,
}

enum Controller {
    Here(Box<callboard::Cluster>),
    #[cfg(all(unix, feature = "remote"))]
    Elsewhere(super::elsewhere::Elsewhere),
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<Cluster of {:?}>", self.client())
    }
}

impl Cluster {
    pub fn client(&self) -> Client {
        match &self.controller {
            Controller::Here(cluster) => cluster.client(),
            #[cfg(all(unix, feature = "remote"))]
            Controller::Elsewhere(elsewhere) => elsewhere.client(),
        }
    }

    pub fn add_threads(&self, n: usize) -> Reply<Vec<callboard::EngineId>> {
        match &self.controller {
            Controller::Here(cluster) => cluster.add_threads(n),
            #[cfg(all(unix, feature = "remote"))]
            Controller::Elsewhere(elsewhere) => elsewhere.add_threads(n),
        }
    }

    pub fn remove_engines(&self, engines: impl IntoIterator<Item = callboard::EngineId>) -> Reply<()> {
        match &self.controller {
            Controller::Here(cluster) => cluster.remove_engines(engines),
            #[cfg(all(unix, feature = "remote"))]
            Controller::Elsewhere(elsewhere) => elsewhere.remove_engines(engines.into_iter().collect()),
        }
    }

    pub fn shutdown(self, pending: Pending) -> Reply<()> {
        match self.controller {
            Controller::Here(cluster) => cluster.shutdown(pending),
            #[cfg(all(unix, feature = "remote"))]
            Controller::Elsewhere(elsewhere) => elsewhere.shutdown(pending),
        }
    }
}

/// Starts processes that dial a cluster, and waits until all have joined.
#[cfg(all(unix, feature = "remote"))]
fn have_dialled(cluster: &callboard::Cluster, n: usize) {
    static CLUSTERS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = CLUSTERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = super::common(&format!("cluster-{number}"));
    let listening = cluster.listen(callboard::Listen::at("127.0.0.1:0").directory(directory)).unwrap();
    let rc = cluster.client();
    for _ in 0..n {
        let mut engine = std::process::Command::new(std::env::current_exe().unwrap());
        let mut engine = engine.args(ENGINE).env(DIALS, listening.engine_file()).spawn().unwrap();
        // So that it is no zombie when it has ended.
        std::thread::spawn(move || engine.wait());
    }
    // The tests may be in async code, where one must not wait.
    let wait = std::time::Duration::from_secs(20);
    std::thread::spawn(move || rc.wait_for_engines(n).get_timeout(wait).unwrap()).join().unwrap();
}

/// Turns this test program into an engine or a controller, if it was launched as one; then it ends here.
pub fn engine() {
    #[cfg(all(unix, feature = "remote"))]
    {
        callboard::init();
        if let Some(file) = std::env::var_os(DIALS) {
            // A controller that ended without a word does not come back here.
            let search = std::time::Duration::from_secs(2);
            let ended = callboard::Dial::with(file).search_for(search).run_engine();
            std::process::exit(ended.is_err().into());
        }
        super::elsewhere::control();
    }
    assert!(!is_child(), "an engine does not come back");
}

/// Returns whether this is a process that a test program has launched.
pub(super) fn is_child() -> bool {
    ["CALLBOARD_ENGINE", DIALS, CONTROLS].iter().any(|variable| std::env::var_os(variable).is_some())
}
