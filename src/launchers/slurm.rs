//! Engines that Slurm starts: jobs in its queue, or, inside an allocation, steps of that.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::process::{ProcessJob, Start};
use super::program::{Program, args_setting, program_settings};
use super::quote::quoted;
use super::slurm_queue::{ArrayJob, Element};
use crate::error::Error;

/// Launches engines by Slurm: each an element of a job array that `sbatch` is given, which joins when it starts and leaves when its
/// time is over. Inside an allocation (`SLURM_JOB_ID` is set) they are a step of it, by `srun`.
///
/// The connection file is in the script that `sbatch` reads from its standard input, and nowhere else. What the jobs print goes to
/// files beside the cluster's own, which has to be a directory that nodes and this machine share; they go with the launch.
///
/// ```no_run
/// use callboard::launchers::Slurm;
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::without_engines().start()?;
/// cluster.listen(Listen::at("10.0.0.7:0").directory("/shared/run"))?;
/// let slurm = Slurm::new().args(["--partition=short", "--time=30", "--mem=2G"]).program("/shared/engine");
/// let engines = cluster.launch(slurm, 100)?;
/// cluster.client().wait_for_engines(1).get()?; // the others come when there is room for them
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Slurm {
    args: Vec<OsString>,
    program: Program,
    commands: Option<std::path::PathBuf>,
}

/// What Slurm sets inside an allocation.
const ALLOCATION: &str = "SLURM_JOB_ID";

impl Slurm {
    /// Launches with Slurm's own defaults.
    pub fn new() -> Self {
        Self::default()
    }

    args_setting!("Adds arguments of `sbatch` or `srun`: partition, time, memory. They are for one engine.");

    /// Sets the directory of `sbatch`, `squeue`, `scancel` and `srun`, by default wherever they are found.
    pub fn commands_in(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.commands = Some(directory.into());
        self
    }

    program_settings!();

    fn command(&self, name: &str) -> OsString {
        self.commands.as_ref().map_or_else(|| name.into(), |directory| directory.join(name).into_os_string())
    }

    /// Has them be a step of the allocation that this program is in.
    fn step(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let mut argv = vec![self.command("srun"), format!("--ntasks={n}").into()];
        // Each is there for itself: one that ends has the others go on.
        argv.extend(["--kill-on-bad-exit=0", "--wait=0"].map(OsString::from));
        argv.extend(self.args.iter().cloned());
        argv.extend(self.program.argv()?);
        let start = Start {
            name: "srun".into(),
            argv,
            folder: None,
            stdin: Some(file.leashed().into()),
            engines: n,
            hints: &[],
        };
        Ok(vec![Box::new(ProcessJob::start(start)?)])
    }

    /// Has them be elements of a job array.
    fn array(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let zero =
            || Error::Launch { by: "sbatch".into(), problem: "an argument of the program has a zero byte".into() };
        let line = quoted(&self.program.argv()?).ok_or_else(zero)?;
        let stem = file.directory().join(file.stem());
        let printed = |end: &str| {
            let mut option = OsString::from(format!("--{end}="));
            option.push(&stem);
            option.push(format!("-%a.{end}"));
            option
        };
        let mut argv = vec![self.command("sbatch"), "--parsable".into(), "--job-name=callboard".into()];
        argv.extend([printed("output"), printed("error")]);
        argv.extend(self.args.iter().cloned());
        argv.push(format!("--array=0-{}", n.saturating_sub(1)).into());
        let said = run("sbatch", &argv, &script(&line, file.text()))?;
        // With clusters it is `number;cluster`.
        let number = said.trim().split(';').next().and_then(|number| number.parse::<u64>().ok());
        let unread =
            || Error::Launch { by: "sbatch".into(), problem: format!("it said no number of a job: {said:?}").into() };
        let commands = [self.command("squeue"), self.command("scancel")];
        let array = Arc::new(ArrayJob::new(number.ok_or_else(unread)?, commands, stem));
        Ok((0..n).map(|index| Box::new(Element::new(array.clone(), index)) as Box<dyn LaunchedJob>).collect())
    }
}

/// Returns the script: it becomes the engine, with the connection file as its standard input.
fn script(line: &[u8], file: &str) -> Vec<u8> {
    // JSON in one line, so no line of it is this one.
    const END: &[u8] = b"END-OF-CONNECTION-FILE\n";
    [b"#!/bin/sh\nexec ", line, b" <<'", END.trim_ascii_end(), b"'\n", file.as_bytes(), END].concat()
}

/// Runs a command of Slurm's; returns what it printed.
///
/// # Errors
/// [`Error::Launch`] with its own words.
pub(super) fn run(by: &str, argv: &[OsString], stdin: &[u8]) -> Result<String, Error> {
    let refused = |problem: String| Error::Launch { by: by.into(), problem: problem.into() };
    let output = output(argv, stdin).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            refused(format!("there is no {by} on this machine; launch from where Slurm's commands are"))
        }
        _ => refused(error.to_string()),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ");
        let said = crate::catch::shortened(&said, SAID_BYTES_MAX);
        return Err(refused(format!("it ended with {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Longest part of what a command complains of that is told, in bytes.
const SAID_BYTES_MAX: usize = 1 << 10;

fn output(argv: &[OsString], stdin: &[u8]) -> io::Result<Output> {
    let [program, args @ ..] = argv else { return Err(io::ErrorKind::NotFound.into()) };
    let mut command = Command::new(program);
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it says why by itself.
        let _ = input.write_all(stdin);
    }
    child.wait_with_output()
}

impl Launcher for Slurm {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        match std::env::var_os(ALLOCATION) {
            Some(_) => self.step(file, n),
            None => self.array(file, n),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn the_script_becomes_the_program_and_gives_it_the_file() {
        let line = quoted(&["cat", "-"]).unwrap();
        let file = "{\"key\": \"$(reboot) `x` \\\\n 'y'\"}\n";
        let script = script(&line, file);
        let ran = output(&["sh".into(), "-c".into(), OsString::from_vec(script)], b"not this").unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), file);
    }

    #[test]
    fn what_refuses_is_told_in_its_own_words() {
        let [missing, refusing] = [&["/nowhere/sbatch"][..], &["sh", "-c", "echo no such partition >&2; exit 3"]];
        let told = |argv: &[&str]| {
            let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            run("sbatch", &argv, b"").unwrap_err().to_string()
        };
        assert!(told(missing).contains("there is no sbatch on this machine"), "{}", told(missing));
        assert!(told(refusing).ends_with("it ended with exit status: 3: no such partition"), "{}", told(refusing));
    }
}
