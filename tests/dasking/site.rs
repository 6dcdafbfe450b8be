//! A Dask cluster of a test's own: a scheduler and workers, on loopback and ports of their own, ended by their ids.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What is installed for the tests.
const PACKAGE: &str = "distributed==2026.8.0";

/// Returns an interpreter that has it: in an environment under target/, which whoever comes first makes.
///
/// # Errors
/// Why there is none.
pub(crate) fn python() -> Result<&'static Path, &'static str> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(install).as_deref().map_err(String::as_str)
}

fn install() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = root.join(PACKAGE.replace("==", "-"));
    let (python, mark) = (place.join("bin/python"), place.join("installed"));
    fs::create_dir_all(root).unwrap();
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !mark.exists() {
        let _ = fs::remove_dir_all(&place);
        let interpreter = std::env::var("CALLBOARD_PYTHON").unwrap_or_else(|_| "python3".into());
        succeeds(Command::new(interpreter).args(["-m", "venv"]).arg(&place))?;
        succeeds(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
        fs::write(mark, "").unwrap();
    }
    Ok(python)
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let said = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("{command:?} fails: {}", said.lines().last().unwrap_or_default()))
}

/// A scheduler and the workers that were started.
pub(crate) struct Site {
    directory: tempfile::TempDir,
    pub(crate) scheduler: Part,
    pub(crate) workers: Vec<Part>,
    pub(crate) address: String,
    security: Vec<String>,
}

/// A process of the cluster, in a group of its own. It ends with this.
pub(crate) struct Part(Child);

impl Site {
    /// Starts a scheduler.
    pub(crate) fn scheduler() -> Self {
        Self::scheduler_with(&[])
    }

    /// Starts a scheduler with more arguments.
    pub(crate) fn scheduler_with(args: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let security: Vec<String> = args.iter().filter(|arg| arg.starts_with("--tls")).cloned().collect();
        let (scheduler, address) = Self::listen(directory.path(), "0", args);
        Self { directory, scheduler, workers: Vec::new(), address, security }
    }

    /// Kills the scheduler; starts another at the same address.
    pub(crate) fn start_another_scheduler(&mut self) {
        self.scheduler.kill();
        let port = self.address.rsplit(':').next().unwrap();
        let (scheduler, address) = Self::listen(self.path(), port, &[]);
        assert_eq!(address, self.address);
        self.scheduler = scheduler;
    }

    fn listen(directory: &Path, port: &str, args: &[String]) -> (Part, String) {
        let file = directory.join("scheduler.json");
        let _ = fs::remove_file(&file);
        let mut all = vec![
            "--host=127.0.0.1".into(),
            format!("--port={port}"),
            "--dashboard-address=127.0.0.1:0".into(),
            format!("--scheduler-file={}", file.display()),
        ];
        all.extend(args.iter().cloned());
        let scheduler = Part::start(directory, "scheduler", &all, &[]);
        let facts = wait_for("the scheduler listens", || {
            serde_json::from_slice::<serde_json::Value>(&fs::read(&file).ok()?).ok()
        });
        (scheduler, facts["address"].as_str().unwrap().to_owned())
    }

    /// Starts a scheduler and so many workers of one thread each.
    pub(crate) fn of(workers: usize) -> Self {
        let mut site = Self::scheduler();
        (0..workers).for_each(|_| site.add_worker(1));
        site.await_workers(workers);
        site
    }

    /// Starts a worker without a nanny.
    pub(crate) fn add_worker(&mut self, threads: usize) {
        self.add_worker_with(threads, &["--no-nanny"], &[]);
    }

    pub(crate) fn add_worker_with(&mut self, threads: usize, args: &[&str], env: &[(&str, &str)]) {
        let mut all = vec![
            self.address.clone(),
            "--host=127.0.0.1".into(),
            "--no-dashboard".into(),
            format!("--nthreads={threads}"),
            format!("--local-directory={}", self.path().join(format!("worker-{}", self.workers.len())).display()),
        ];
        all.extend(self.security.iter().cloned());
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        self.workers.push(Part::start(self.path(), "worker", &all, env));
    }

    /// Returns the addresses of the workers that the scheduler knows.
    pub(crate) fn workers_addresses(&self) -> Vec<String> {
        let script = "import sys; from distributed import Client; print(*Client(sys.argv[1]).nthreads())";
        let output = Command::new(python().unwrap()).args(["-c", script, &self.address]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(Into::into).collect()
    }

    /// Returns the names of the plugins that workers get of programs.
    pub(crate) fn plugins(&self) -> Vec<String> {
        let script = "import sys; from distributed import Client\n\
                      def names(dask_scheduler): return list(dask_scheduler.worker_plugins)\n\
                      print(*Client(sys.argv[1]).run_on_scheduler(names))";
        let output = Command::new(python().unwrap()).args(["-c", script, &self.address]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).unwrap();
        names.split_whitespace().filter(|name| name.starts_with("callboard-")).map(Into::into).collect()
    }

    /// Waits until the scheduler knows so many workers.
    pub(crate) fn await_workers(&self, n: usize) {
        let script = format!(
            "import sys; from distributed import Client, Security\n\
             security = Security(tls_ca_file=sys.argv[2], tls_client_cert=sys.argv[3], tls_client_key=sys.argv[3]) \
             if len(sys.argv) > 2 else None\n\
             Client(sys.argv[1], security=security).wait_for_workers({n}, timeout=30)"
        );
        let values = self.security.iter().filter_map(|arg| arg.split_once('=')).map(|(_, value)| value);
        let values: Vec<&str> = values.take(2).collect();
        let mut command = Command::new(python().unwrap());
        succeeds(command.args(["-c", &script, &self.address]).args(values)).unwrap();
    }

    /// Returns where the cluster has its files.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the port of the dashboard.
    pub(crate) fn dashboard(&self) -> u16 {
        let facts = fs::read(self.path().join("scheduler.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
        facts["services"]["dashboard"].as_u64().unwrap() as u16
    }

    /// Describes an executor on this cluster.
    pub(crate) fn builder(&self) -> callboard::DaskBuilder {
        callboard::DaskExecutor::builder(&self.address).python(python().unwrap().display().to_string())
    }

    pub(crate) fn connect(&self) -> callboard::DaskExecutor {
        self.builder().connect().unwrap()
    }
}

impl Part {
    fn start(directory: &Path, part: &str, args: &[String], env: &[(&str, &str)]) -> Self {
        let log = File::options().append(true).create(true).open(directory.join(format!("{part}.log"))).unwrap();
        let mut command = Command::new(python().unwrap());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dasking/run.py")).arg(part).args(args);
        command.envs(env.iter().copied()).stdin(Stdio::piped());
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(command.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills it, and what it has started of its own group.
    pub(crate) fn kill(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            self.0.wait().unwrap();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["scheduler.log", "worker.log"] {
                eprintln!("{log}:\n{}", fs::read_to_string(self.path().join(log)).unwrap_or_default());
            }
        }
    }
}

/// Waits until there is something, and fails after half a minute.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < by, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
