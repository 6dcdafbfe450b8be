//! Engines that another command starts: a template of its arguments, and what is put in for each launch.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::process::{ProcessJob, Start};
use super::program::{Program, args_setting, program_settings};
use crate::error::Error;

/// Launches engines by a command of yours: a program and its arguments, never a line for a shell.
///
/// In each argument, alone or within it, is put in:
///
/// - `{program}`: the program that engines are; as an argument of its own, followed by its arguments.
/// - `{host}`: a host, in turn.
/// - `{n}`: how many engines the command is to start. Where this is nowhere, each command is to start one.
/// - `{file}`: the path of the connection file, of mode 0600. Where this is nowhere, it comes on the command's standard input, which
///   is kept open until the engines are to leave.
///
/// ```no_run
/// use callboard::launchers::Template;
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::without_engines().start()?;
/// cluster.listen(Listen::at("10.0.0.7:0").directory("run"))?;
/// let nice = Template::new("nice").args(["-n", "19", "{program}"]).program("/opt/engine");
/// let in_containers = Template::new("docker")
///     .args(["run", "--rm", "-i", "--network=host", "engines:{host}", "{program}"])
///     .program("/opt/engine")
///     .hosts(["debian", "alpine"]);
/// let engines = [cluster.launch(nice, 4)?, cluster.launch(in_containers, 4)?];
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Template {
    command: OsString,
    args: Vec<OsString>,
    pub(super) program: Program,
    hosts: Vec<String>,
    per_host: Option<usize>,
    pub(super) hints: &'static [(i32, &'static str)],
}

impl Template {
    /// Launches by this command.
    pub fn new(command: impl Into<OsString>) -> Self {
        let (args, hosts) = (Vec::new(), Vec::new());
        Self { command: command.into(), args, program: Program::default(), hosts, per_host: None, hints: &[] }
    }

    args_setting!("Adds arguments of the command.");

    program_settings!();

    /// Sets the hosts that `{host}` is, in turn.
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many engines one host may have, by default as many as it comes to.
    pub fn engines_per_host(mut self, n: usize) -> Self {
        self.per_host = Some(n);
        self
    }

    fn has(&self, placeholder: &str) -> bool {
        self.args.iter().any(|arg| arg.to_str().is_some_and(|arg| arg.contains(placeholder)))
    }

    /// Returns how many engines each host gets; one place without a name, where no host is asked for.
    fn shares(&self, n: usize) -> Result<Vec<(&str, usize)>, String> {
        if !self.has("{host}") {
            return Ok(vec![("", n)]);
        }
        let hosts = self.hosts.len();
        if hosts == 0 {
            return Err("it is to put in a host, and has none; name some by .hosts(..)".into());
        }
        if let Some(bad) = self.hosts.iter().find(|host| host.is_empty() || host.starts_with('-')) {
            return Err(format!("{bad:?} is no name of a host, and a command might take it for something else"));
        }
        if let Some(max) = self.per_host
            && n > hosts.saturating_mul(max)
        {
            return Err(format!(
                "{n} engines are asked for, and {hosts} hosts have {max} each; name more hosts, or ask for fewer"
            ));
        }
        let share = |at: usize| n / hosts + usize::from(at < n % hosts);
        let shares = self.hosts.iter().enumerate().map(|(at, host)| (&**host, share(at)));
        Ok(shares.filter(|(_, n)| *n > 0).collect())
    }

    /// Returns the command with everything put in.
    fn filled(&self, program: &[OsString], host: &str, n: usize, file: Option<&Path>) -> Vec<OsString> {
        let number = n.to_string();
        let alone = program.first().cloned().unwrap_or_default();
        let values: [(&str, &OsStr); 4] = [
            ("{program}", &alone),
            ("{host}", host.as_ref()),
            ("{n}", number.as_ref()),
            ("{file}", file.map_or(OsStr::new(""), Path::as_os_str)),
        ];
        let mut filled = vec![self.command.clone()];
        for arg in &self.args {
            if arg == "{program}" {
                filled.extend(program.iter().cloned());
            } else {
                filled.push(put_in(arg, &values));
            }
        }
        filled
    }
}

/// Puts values in the places of names, each once: what is put in is not looked at again.
fn put_in(arg: &OsStr, values: &[(&str, &OsStr)]) -> OsString {
    let Some(mut rest) = arg.to_str() else { return arg.to_owned() };
    let mut filled = OsString::new();
    let next = |rest: &str| values.iter().filter_map(|(name, value)| Some((rest.find(name)?, *name, *value))).min();
    while let Some((at, name, value)) = next(rest) {
        filled.push(&rest[..at]);
        filled.push(value);
        rest = &rest[at + name.len()..];
    }
    filled.push(rest);
    filled
}

impl Launcher for Template {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let command = Path::new(&self.command).file_name().unwrap_or(&self.command).display().to_string();
        let shares = self.shares(n);
        let shares =
            shares.map_err(|problem| Error::Launch { by: command.as_str().into(), problem: problem.into() })?;
        let program = if self.has("{program}") { self.program.argv()? } else { Vec::new() };
        let path = if self.has("{file}") { Some(file.path()?) } else { None };
        let mut jobs: Vec<Box<dyn LaunchedJob>> = Vec::new();
        for (host, n) in shares {
            let (commands, engines) = if self.has("{n}") { (1, n) } else { (n, 1) };
            let argv = self.filled(&program, host, engines, path);
            let name = if host.is_empty() { command.clone() } else { format!("{command} {host}") };
            for _ in 0..commands {
                let stdin = if path.is_none() { Some(file.leashed().into()) } else { None };
                let (name, argv, hints) = (name.clone(), argv.clone(), self.hints);
                let start = Start { name, argv, folder: None, stdin, engines, hints };
                jobs.push(Box::new(ProcessJob::start(start)?));
            }
        }
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(args: &[&str], host: &str, n: usize) -> Vec<String> {
        let template = Template::new("run").args(args.iter().copied());
        let program = ["/opt/my engine", "{n}", "-"].map(OsString::from);
        let filled = template.filled(&program, host, n, Some(Path::new("/run/{host}.json")));
        filled.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_put_in_stays_one_argument_and_is_not_looked_at_again() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["{program}"], &["/opt/my engine", "{n}", "-"]),
            (&["-n", "{n}", "{host}"], &["-n", "3", "a b;c"]),
            (&["--at={host}:{n}", "x{file}{file}"], &["--at=a b;c:3", "x/run/{host}.json/run/{host}.json"]),
            (&["exec={program}"], &["exec=/opt/my engine"]),
            (&["{", "{}", "{N}", "{{n}}"], &["{", "{}", "{N}", "{3}"]),
        ];
        for (args, expected) in cases {
            assert_eq!(filled(args, "a b;c", 3)[1..], *expected);
        }
    }

    #[test]
    fn engines_are_dealt_out_to_hosts_in_turn() {
        let on = |hosts: &[&str]| Template::new("ssh").args(["{host}"]).hosts(hosts.iter().copied());
        assert_eq!(on(&["a", "b"]).shares(5).unwrap(), [("a", 3), ("b", 2)]);
        assert_eq!(on(&["a", "b", "c"]).shares(2).unwrap(), [("a", 1), ("b", 1)]);
        assert_eq!(on(&["a"]).shares(7).unwrap(), [("a", 7)]);
        assert!(on(&[]).shares(1).unwrap_err().contains("has none"));
        assert!(on(&["-oProxyCommand=x"]).shares(1).unwrap_err().contains("no name of a host"));
        assert!(on(&["a", "b"]).engines_per_host(3).shares(7).unwrap_err().contains("2 hosts have 3 each"));
        assert_eq!(on(&["a", "b"]).engines_per_host(usize::MAX).shares(2).unwrap(), [("a", 1), ("b", 1)]);
        assert_eq!(Template::new("nice").shares(9).unwrap(), [("", 9)]);
    }
}
