//! The program whose command line this is: its name in help, in errors, and in what it advises.

use std::fmt;
use std::io::{Write, stderr};
use std::path::Path;

use clap::Command;

/// This program, by the name under which it was called.
#[derive(Clone, Debug)]
pub(crate) struct Program(String);

/// What stands for the name in texts.
const PLACE: &str = "{program}";

/// The name of the stock binary.
const STOCK: &str = "callboard";

impl Program {
    /// Returns the name under which this program was called, without its folder.
    pub(crate) fn find() -> Self {
        let called = std::env::args_os().next();
        let name = called.as_deref().and_then(|called| Path::new(called).file_name());
        Self(name.map_or(STOCK.into(), |name| name.to_string_lossy().into_owned()))
    }

    /// Puts the name into a command line and all its texts.
    pub(crate) fn name(&self, command: Command) -> Command {
        let version = env!("CARGO_PKG_VERSION");
        let version = if self.0 == STOCK { version.into() } else { format!("with {STOCK} {version}") };
        self.name_texts(command.name(self.0.clone()).bin_name(self.0.clone()).version(version))
    }

    fn name_texts(&self, mut command: Command) -> Command {
        if let Some(text) = command.get_after_help() {
            let text = self.tell(&text.to_string());
            command = command.after_help(text);
        }
        command.mut_subcommands(|subcommand| self.name_texts(subcommand))
    }

    /// Says something on standard error. Where nobody reads that, nobody is told.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        let _ = writeln!(stderr(), "{self}: {text}");
    }

    /// Puts the name where its place is in a text.
    pub(crate) fn tell(&self, text: &str) -> String {
        text.replace(PLACE, &self.0)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
