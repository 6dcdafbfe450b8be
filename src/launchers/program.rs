//! The program that engines are.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;

/// What has this very program be an engine, in [`init`](crate::init): its first argument.
pub(crate) const DIAL_ARGUMENT: &str = "--callboard-dial";

/// A program and its arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// This one, if none is named.
    pub(super) path: Option<PathBuf>,
    pub(super) args: Vec<OsString>,
}

impl Program {
    /// Returns it with its arguments.
    pub(super) fn argv(&self) -> Result<Vec<OsString>, Error> {
        let mut argv = match &self.path {
            Some(path) => vec![path.clone().into_os_string()],
            None => {
                let path = std::env::current_exe();
                let path = path.map_err(|error| Error::System {
                    doing: "finding out where this program is",
                    reason: error.to_string(),
                })?;
                vec![path.into_os_string(), DIAL_ARGUMENT.into()]
            }
        };
        argv.extend(self.args.iter().cloned());
        Ok(argv)
    }
}

/// The two settings that each launcher has of its program, which it has as `self.program`.
macro_rules! program_settings {
    () => {
        /// Sets the program that the engines are, by default this one.
        ///
        /// It reads its connection file from the standard input: its `main` is `callboard::run_engine("-")`, or it is `callboard` itself
        /// with the arguments `engine -`. This very program is an engine where its `main` calls [`init`](crate::init) first, and is
        /// looked for at the same path.
        pub fn program(mut self, program: impl Into<std::path::PathBuf>) -> Self {
            self.program.path = Some(program.into());
            self
        }

        /// Sets the arguments that the program gets, by default none.
        pub fn program_args(mut self, args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Self {
            self.program.args = args.into_iter().map(Into::into).collect();
            self
        }
    };
}
pub(super) use program_settings;

/// The setting of arguments that one launcher's command gets, which it has as `self.args`; what they are for, it says itself.
macro_rules! args_setting {
    ($what:literal) => {
        #[doc = $what]
        pub fn args(mut self, args: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Self {
            self.args.extend(args.into_iter().map(Into::into));
            self
        }
    };
}
pub(super) use args_setting;

/// The setting of the command that is called, which a launcher has as `self.command`.
macro_rules! command_setting {
    ($what:literal) => {
        #[doc = $what]
        pub fn command(mut self, command: impl Into<std::ffi::OsString>) -> Self {
            self.command = command.into();
            self
        }
    };
}
pub(super) use command_setting;
