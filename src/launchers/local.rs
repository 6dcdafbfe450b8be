//! Engines that are processes of this machine and dial.

use super::engine_file::EngineFile;
use super::launcher::{LaunchedJob, Launcher};
use super::process::{ProcessJob, Start};
use super::program::{Program, program_settings};
use crate::error::Error;
use crate::limits::check_workers;

/// Launches processes of this machine, each an engine that dials.
///
/// Beside [`Cluster::processes`](crate::Cluster::processes): these may be another program for each launch, and end one launch at a time.
///
/// ```no_run
/// use callboard::launchers::Local;
/// use callboard::{Listen, prelude::*};
///
/// fn main() -> Result<(), callboard::Error> {
///     callboard::init(); // this program is its own engines
///     let cluster = Cluster::without_engines().start()?;
///     cluster.listen(Listen::at("127.0.0.1:0").directory("run"))?;
///     let engines = cluster.launch(Local::new(), 4)?;
///     assert_eq!(engines.joined().get()?.len(), 4);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "engines are launched by cluster.launch(..)"]
pub struct Local {
    program: Program,
}

impl Local {
    /// Launches this program.
    pub fn new() -> Self {
        Self::default()
    }

    program_settings!();
}

impl Launcher for Local {
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
        check_workers("the number of engines", n)?;
        let argv = self.program.argv()?;
        let start = |number| {
            let name = format!("process {number}");
            ProcessJob::start(Start {
                name,
                argv: argv.clone(),
                folder: None,
                stdin: Some(file.leashed().into()),
                engines: 1,
                hints: &[],
            })
        };
        (0..n).map(|number| Ok(Box::new(start(number)?) as Box<dyn LaunchedJob>)).collect()
    }
}
