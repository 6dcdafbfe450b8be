//! Engines on other machines, by ssh.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::program::{Program, args_setting, command_setting, program_settings};
use super::quote::quoted;
use super::template::Template;
use crate::error::Error;

/// Launches engines on hosts, by the user's own `ssh`: his configuration, his agent, his known hosts.
///
/// It asks nothing (`BatchMode`): a host that wants a password, or is not known, is an error with what ssh says. The connection file
/// goes through ssh's standard input, and is in no file there. Engines leave when ssh ends, whichever way.
///
/// ```no_run
/// use callboard::launchers::Ssh;
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::without_engines().start()?;
/// cluster.listen(Listen::at("10.0.0.7:0").directory("run"))?;
/// let engines = cluster.launch(Ssh::to(["a", "b"]).program("/opt/engine"), 8)?;
/// assert_eq!(engines.joined().get()?.len(), 8);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Ssh {
    hosts: Vec<String>,
    per_host: Option<usize>,
    command: OsString,
    args: Vec<OsString>,
    program: Program,
}

/// What ssh's own codes mean, and those of the shell there.
const HINTS: &[(i32, &str)] = &[
    (255, "ssh could not connect; it has to work without a question: ssh -o BatchMode=yes HOST true"),
    (127, "the program is not there; copy it to that host, or name where it is"),
    (126, "the program cannot be run there; it may be for another kind of machine"),
];

impl Ssh {
    /// Launches on these hosts, as ssh names them: `user@host`, or what the configuration calls one. Engines are dealt out in turn.
    pub fn to(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let hosts = hosts.into_iter().map(Into::into).collect();
        Self { hosts, per_host: None, command: "ssh".into(), args: Vec::new(), program: Program::default() }
    }

    /// Sets how many engines one host may have, by default as many as it comes to.
    pub fn engines_per_host(mut self, n: usize) -> Self {
        self.per_host = Some(n);
        self
    }

    args_setting!("Adds arguments of ssh, before the host.");

    command_setting!("Sets the ssh that is called, by default the one that is found.");

    program_settings!();
}

impl Launcher for Ssh {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let zero = || Error::Launch { by: "ssh".into(), problem: "an argument of the program has a zero byte".into() };
        // ssh joins what comes behind the host, and a shell there takes it apart.
        let line = quoted(&self.program.argv()?).ok_or_else(zero)?;
        let line = OsString::from_vec([b"exec ", &line[..]].concat());
        // Of an option that is given twice ssh takes the first.
        let template = Template::new(&self.command)
            .args(self.args.iter().cloned())
            .args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"])
            .args(["--", "{host}", "{program}"])
            .hosts(self.hosts.iter().cloned())
            .program(line);
        let mut template = match self.per_host {
            Some(n) => template.engines_per_host(n),
            None => template,
        };
        template.hints = HINTS;
        template.launch(file, n)
    }
}
