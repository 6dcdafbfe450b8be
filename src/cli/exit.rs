//! How a command ends that has not done what it was to do: with a text for people, and a code for scripts.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::program::Program;

/// The exit codes, as `--help` tells them. 0 is clap's, and so is 2 where an argument is wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    Failed = 1,
    CommandLine = 2,
    NoCluster = 3,
    RunsAlready = 4,
    HadDied = 5,
    Interrupted = 130,
}

/// Why a command has not done what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Told by the command itself.
    Told { code: Code, text: String },
    /// Told already, to whoever started this process.
    ToldElsewhere(Code),
    /// What something said that it used.
    Error(Box<dyn Error + Send + Sync>),
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self::Told { code, text: text.into() }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Told { code, .. } | Self::ToldElsewhere(code) => *code,
            Self::Error(_) => Code::Failed,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Told { text, .. } => text.clone(),
            Self::ToldElsewhere(_) => String::new(),
            Self::Error(error) => error.to_string(),
        }
    }

    /// Tells it on standard error.
    pub(crate) fn report(&self, program: &Program) -> ExitCode {
        match self {
            // Who reads our output may have seen enough: `callboard bench --json | head -1`.
            Self::Error(error) if is_broken_pipe(&**error) => ExitCode::SUCCESS,
            Self::ToldElsewhere(code) => ExitCode::from(*code as u8),
            _ => {
                program.say(self.text());
                ExitCode::from(self.code() as u8)
            }
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
