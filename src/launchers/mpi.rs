//! Engines that `mpiexec` starts, wherever it does.

use std::ffi::OsString;

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::program::{Program, args_setting, command_setting, program_settings};
use super::template::Template;
use crate::error::Error;

/// Launches engines by `mpiexec -n N`. They are no MPI programs: it is only who starts them.
///
/// `mpiexec` gives its standard input to the first process only; so each reads the connection file from a file, which has to be seen
/// where they run: the directory of [`Listen`](crate::Listen) is on a file system that they share.
///
/// ```no_run
/// use callboard::launchers::Mpi;
/// use callboard::{Listen, prelude::*};
///
/// let cluster = Cluster::without_engines().start()?;
/// cluster.listen(Listen::at("10.0.0.7:0").directory("/shared/run"))?;
/// let engines = cluster.launch(Mpi::new().args(["--hostfile", "hosts"]).program("/shared/engine"), 64)?;
/// assert_eq!(engines.joined().get()?.len(), 64);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Mpi {
    command: OsString,
    args: Vec<OsString>,
    program: Program,
}

/// What each process does: it becomes the engine, with the file as its standard input. Nothing is put into this line.
const READ_FROM_FILE: &str = "exec \"$@\" <\"$0\"";

impl Mpi {
    /// Launches by the `mpiexec` that is found.
    pub fn new() -> Self {
        Self { command: "mpiexec".into(), args: Vec::new(), program: Program::default() }
    }

    args_setting!("Adds arguments of `mpiexec`: where, and how many at each place.");

    command_setting!("Sets the command that is called in place of `mpiexec`.");

    program_settings!();
}

impl Default for Mpi {
    fn default() -> Self {
        Self::new()
    }
}

impl Launcher for Mpi {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        let mut template = Template::new(&self.command).args(self.args.iter().cloned()).args([
            "-n",
            "{n}",
            "sh",
            "-c",
            READ_FROM_FILE,
            "{file}",
            "{program}",
        ]);
        template.program = self.program.clone();
        template.launch(file, n)
    }
}
