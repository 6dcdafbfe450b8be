//! What a launcher is, and what it gives back.

use super::engine_file::EngineFile;
use crate::error::Error;

/// Starts engines somewhere.
///
/// There are [`Local`](super::Local), [`Ssh`](super::Ssh), [`Slurm`](super::Slurm) and [`Mpi`](super::Mpi); for what is started by another
/// command, [`Template`](super::Template). Write one of your own where neither will do:
///
/// ```
/// use std::io::Write;
/// use std::process::{Child, Command, Stdio};
///
/// use callboard::launchers::{EngineFile, JobOutput, JobState, LaunchedJob, Launcher};
/// use callboard::{Error, prelude::*};
/// use std::sync::Mutex;
///
/// /// Starts a program that reads its connection file from the standard input, and leaves when that ends.
/// struct Plain(&'static str);
///
/// struct Started(Mutex<Child>);
///
/// impl Launcher for Plain {
///     fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error> {
///         let failed = |error: std::io::Error| Error::Launch { by: "plain".into(), problem: error.to_string().into() };
///         let start = || {
///             let mut child = Command::new(self.0).stdin(Stdio::piped()).spawn()?;
///             child.stdin.as_mut().expect("it is piped").write_all(file.leashed().as_bytes())?;
///             Ok(Box::new(Started(Mutex::new(child))) as Box<dyn LaunchedJob>)
///         };
///         (0..n).map(|_| start().map_err(failed)).collect()
///     }
/// }
///
/// impl LaunchedJob for Started {
///     fn name(&self) -> String {
///         "a plain process".into()
///     }
///     fn engines(&self) -> usize {
///         1
///     }
///     fn state(&self) -> JobState {
///         match self.0.lock().unwrap().try_wait() {
///             Ok(None) => JobState::Running,
///             Ok(Some(status)) => JobState::Ended { cause: status.to_string().into() },
///             Err(error) => JobState::Ended { cause: error.to_string().into() },
///         }
///     }
///     fn output(&self) -> JobOutput {
///         JobOutput::default() // it prints where this program does
///     }
///     fn leave(&self) {
///         self.0.lock().unwrap().stdin = None;
///     }
///     fn kill(&self) {
///         let _ = self.0.lock().unwrap().kill();
///     }
/// }
///
/// impl Drop for Started {
///     fn drop(&mut self) {
///         self.kill();
///     }
/// }
///
/// let cluster = Cluster::without_engines().start()?;
/// # let directory = tempfile::tempdir().unwrap();
/// cluster.listen(callboard::Listen::at("127.0.0.1:0").directory(directory.path()))?;
/// let refused = cluster.launch(Plain("/nowhere/engine"), 2).unwrap_err();
/// assert!(matches!(&refused, Error::Launch { by, .. } if &**by == "plain"), "{refused}");
/// # Ok::<(), Error>(())
/// ```
pub trait Launcher {
    /// Starts `n` engines that dial with this connection file; returns what was started, which is `n` engines together. What it has
    /// started when it fails ends when it is dropped.
    ///
    /// # Errors
    /// [`Error::Launch`] with what refused, and why.
    fn launch(&self, file: &EngineFile, n: usize) -> Result<Vec<Box<dyn LaunchedJob>>, Error>;
}

/// One thing that was started for engines: a process of this machine, or a job in the queue of a batch system. Dropping it ends it.
pub trait LaunchedJob: Send + Sync {
    /// Returns what it is, in words: `ssh b`, `Slurm job 17_2`.
    fn name(&self) -> String;

    /// Returns how many engines it is.
    fn engines(&self) -> usize;

    /// Returns whether it runs. May ask somebody, and so take a moment.
    fn state(&self) -> JobState;

    /// Returns the last part of what it has printed.
    fn output(&self) -> JobOutput;

    /// Tells its engines to leave. Does not wait for it.
    fn leave(&self);

    /// Ends it, whatever runs there. Does not wait for it.
    fn kill(&self);

    /// Returns whether it has died: it is over, and its engines did not leave in good order. `None`, which is the default, where it is
    /// not for this program to start it [`again`](Self::again).
    fn has_died(&self) -> Option<bool> {
        None
    }

    /// Starts once more what has died, for [`Launched::restarting`](super::Launched::restarting).
    ///
    /// # Errors
    /// [`Error::Launch`], as when it was started first; it is asked again then.
    fn again(&self) -> Result<Box<dyn LaunchedJob>, Error> {
        Err(Error::Launch { by: self.name().into(), problem: "it is not started again from here".into() })
    }

    /// Removes what it has in files, once it is over. What it printed can still be had.
    fn tidy(&self) {}
}

/// Whether something that was launched runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It is in a queue.
    Waiting {
        /// For what, as the batch system says.
        reason: Box<str>,
    },
    /// It runs.
    Running,
    /// It is over.
    Ended {
        /// How it ended.
        cause: Box<str>,
    },
}

impl JobState {
    /// Returns whether it is over.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// What was printed, of each stream the last 64 KiB. What is no UTF-8 is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobOutput {
    /// On the standard output.
    pub stdout: String,
    /// On the standard error.
    pub stderr: String,
}

/// Longest part of what was printed that is told with an error, in lines and in bytes.
const TOLD_MAX: (usize, usize) = (3, 600);

impl JobOutput {
    /// Returns the last lines that say something, for an error.
    pub(super) fn last_lines(&self) -> Option<String> {
        [&self.stderr, &self.stdout].into_iter().find_map(|text| {
            let says_something = |line: &&str| line.chars().any(char::is_alphanumeric);
            let mut lines: Vec<_> = text.lines().rev().map(str::trim).filter(says_something).take(TOLD_MAX.0).collect();
            lines.reverse();
            let told = lines.join(" / ");
            (!told.is_empty()).then(|| crate::catch::shortened(&told, TOLD_MAX.1).to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_printed_the_last_lines_that_say_something_are_told() {
        let told = |stdout: &str, stderr: &str| JobOutput { stdout: stdout.into(), stderr: stderr.into() }.last_lines();
        assert_eq!(told("out\n", "one\ntwo\n-----\n\n three \nfour\n").as_deref(), Some("two / three / four"));
        assert_eq!(told("out\n", "\n--\n").as_deref(), Some("out"));
        assert_eq!(told("", ""), None);
        assert_eq!(told("", &"x".repeat(10_000)).map(|told| told.len() <= 600 + 3), Some(true));
    }
}
