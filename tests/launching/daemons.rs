//! Daemons of the tests' own: on ports, with keys and in folders of their own, ended by their ids.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Set where a package that is missing is to be a failure.
const ALL: &str = "CALLBOARD_TEST_LAUNCHERS";

/// Returns whether all of these programs are there; if not, says that a test is skipped.
pub(crate) fn are_there(programs: &[&str], packages: &str) -> bool {
    let Some(missing) = programs.iter().find(|program| find(program).is_none()) else { return true };
    assert!(std::env::var_os(ALL).is_none(), "{missing} is not there, and {ALL} says that it is: install {packages}");
    println!("skipped: there is no {missing} on this machine; on Debian it comes with {packages}");
    false
}

/// Finds a program, also where only administrators look.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|place| place.join(program)).find(|program| program.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A daemon that runs in the foreground. It ends with this.
struct Daemon(Child, &'static str);

impl Daemon {
    fn start(name: &'static str, command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let (out, err) = (Stdio::from(log.try_clone().unwrap()), Stdio::from(log));
        Self(command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap(), name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let by = Instant::now() + Duration::from_secs(10);
        while self.0.try_wait().unwrap().is_none() {
            if Instant::now() > by {
                eprintln!("{} does not end by itself", self.1);
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command that has to succeed; returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn wait_for(what: &str, log: &Path, mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < by, "{what}: {}", fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An ssh server, and a configuration with hosts `a` and `b`, which are both this machine; `stranger`, where another key is shown;
/// and `nowhere.invalid`.
pub(crate) struct Sshd {
    _daemon: Daemon,
    directory: tempfile::TempDir,
    made: Option<PathBuf>,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display().to_string();
        for key in ["host", "user", "stranger"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(directory.path().join(key)));
        }
        fs::copy(directory.path().join("user.pub"), directory.path().join("authorized")).unwrap();
        // An administrator's sshd wants an empty directory, which the system makes for it when it starts one.
        let empty = Path::new("/run/sshd");
        let made = rustix::process::geteuid().is_root() && fs::create_dir(empty).is_ok();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             MaxStartups 100\n"
        );
        fs::write(directory.path().join("sshd_config"), config).unwrap();
        let host = |names: &str, key: &str| {
            format!(
                "Host {names}\nHostName 127.0.0.1\nPort {port}\nIdentityFile {place}/{key}\nIdentitiesOnly yes\n\
                     IdentityAgent none\nUserKnownHostsFile {place}/known\nStrictHostKeyChecking accept-new\n"
            )
        };
        let config = [host("a b", "user"), host("stranger", "stranger")].concat();
        fs::write(directory.path().join("config"), config).unwrap();
        let (log, sshd) = (directory.path().join("sshd.log"), find("sshd").unwrap());
        let mut command = Command::new(sshd);
        let daemon =
            Daemon::start("sshd", command.args(["-D", "-e", "-f"]).arg(directory.path().join("sshd_config")), &log);
        wait_for("sshd listens", &log, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _daemon: daemon, directory, made: made.then(|| empty.to_owned()) }
    }

    /// Returns what has ssh use the configuration of these tests, and no other.
    pub(crate) fn args(&self) -> [String; 2] {
        ["-F".into(), self.directory.path().join("config").display().to_string()]
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            let _ = fs::remove_dir(made);
        }
    }
}

/// A Slurm of one node, which says that it has four processors.
pub(crate) struct SlurmCluster {
    // In the order in which they end.
    _node: Daemon,
    _controller: Daemon,
    _munge: Daemon,
    directory: tempfile::TempDir,
}

pub(crate) const SLURM: [&str; 8] = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun", "salloc"];

impl SlurmCluster {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Jobs of whichever user look into it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        ["state", "spool", "bin"].into_iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        let mut key = [0; 128];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut key).unwrap();
        fs::write(at("key"), key).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o400)).unwrap();
        let (host, user) = (run(&mut Command::new("hostname")), run(Command::new("id").arg("-un")));
        let (host, user, place) = (host.trim(), user.trim(), directory.path().display());
        let [port, node_port] = [free_port(), free_port()];
        let config = format!(
            "ClusterName=callboard\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={port}\nSlurmdPort={node_port}\n\
             SlurmUser={user}\nSlurmdUser={user}\nStateSaveLocation={place}/state\nSlurmdSpoolDir={place}/spool\n\
             SlurmctldPidFile={place}/slurmctld.pid\nSlurmdPidFile={place}/slurmd.pid\n\
             AuthType=auth/munge\nAuthInfo=socket={place}/munge.socket\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nJobAcctGatherType=jobacct_gather/none\n\
             AccountingStorageType=accounting_storage/none\nMpiDefault=none\nReturnToService=2\nMinJobAge=300\n\
             SlurmdParameters=config_overrides\n\
             NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN\n\
             PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE State=UP\n"
        );
        fs::write(at("slurm.conf"), config).unwrap();
        for command in ["sbatch", "squeue", "scancel", "srun", "salloc", "sinfo"] {
            let real = find(command).unwrap();
            let script = format!(
                "#!/bin/sh\nSLURM_CONF={place}/slurm.conf\nexport SLURM_CONF\nexec {} \"$@\"\n",
                real.display()
            );
            fs::write(at("bin").join(command), script).unwrap();
            fs::set_permissions(at("bin").join(command), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let option = |name: &str, file: &str| format!("--{name}={place}/{file}");
        let files = [("socket", "munge.socket"), ("key-file", "key"), ("log-file", "munge.log")];
        let more = [("pid-file", "munge.pid"), ("seed-file", "munge.seed")];
        let options = files.into_iter().chain(more).map(|(name, file)| option(name, file));
        let mut munged = Command::new(find("munged").unwrap());
        let munge = Daemon::start("munged", munged.args(["--foreground", "--force"]).args(options), &at("munged.log"));
        wait_for("munged is there", &at("munged.log"), || at("munge.socket").exists());
        let start = |name: &'static str, args: &[&str]| {
            let mut command = Command::new(find(name).unwrap());
            let log = at(&format!("{name}.log"));
            Daemon::start(name, command.arg("-D").arg("-f").arg(at("slurm.conf")).args(args), &log)
        };
        let controller = start("slurmctld", &[]);
        let node = start("slurmd", &["-N", "localhost"]);
        wait_for("a node is there", &at("slurmctld.log"), || {
            let mut sinfo = Command::new(at("bin").join("sinfo"));
            let output = sinfo.args(["--noheader", "--format=%t"]).output().unwrap();
            output.stdout.starts_with(b"idle")
        });
        Self { _node: node, _controller: controller, _munge: munge, directory }
    }

    /// Returns where commands are that speak with this one.
    pub(crate) fn commands(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.commands().join(name))
    }

    /// Returns the jobs that are not over, as `index|state`.
    pub(crate) fn queue(&self) -> Vec<String> {
        let said = run(self.command("squeue").args(["--noheader", "--array", "--format=%K|%T"]));
        said.lines().map(|line| line.trim().to_owned()).collect()
    }
}
