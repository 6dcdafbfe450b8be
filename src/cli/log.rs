//! What is told of what happens: on standard error, from a level on, as text or as JSON.
//!
//! The library installs nothing; this is what its command installs. An engine that is a child process tells it on its own
//! standard error, which its parent passes on: so it comes to where the controller's is.

use std::io::{self, IsTerminal};

use clap::{Args, Parser, ValueEnum};
use tracing::Level;

/// What is told, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// What is told on standard error: error, warn, info, debug or trace [default: info of what stays, else error]
    #[arg(long = "log", value_name = "LEVEL", global = true)]
    level: Option<Level>,
    /// How it is told: a line for people, or an object a line for programs
    #[arg(long = "log-format", value_name = "text|json", global = true, value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Logging {
    /// Begins to tell. What `stays` tells more than what is done soon.
    pub(crate) fn begin(&self, stays: bool) {
        let level = self.level.unwrap_or(if stays { Level::INFO } else { Level::ERROR });
        let told = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
        match self.format {
            Format::Text => told.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
            Format::Json => told.json().flatten_event(true).with_target(false).init(),
        }
    }

    /// Returns the arguments by which another process of this program tells as much, as what stays does.
    pub(crate) fn to_args(&self) -> [String; 4] {
        let format = if self.format == Format::Json { "json" } else { "text" };
        let level = self.level.unwrap_or(Level::INFO).to_string().to_lowercase();
        ["--log".into(), level, "--log-format".into(), format.into()]
    }
}

/// What an engine is launched with: nothing but this.
#[derive(Parser)]
struct Engine {
    #[command(flatten)]
    logging: Logging,
}

/// Begins to tell in a process that is an engine, if it is one, as its parent does.
pub(crate) fn begin_in_engine() {
    if !crate::process::is_child() {
        return;
    }
    // A program of yours may have launched it, with arguments of its own or none, and then it is as quiet as that.
    if let Ok(Engine { logging }) = Engine::try_parse()
        && logging.level.is_some()
    {
        logging.begin(true);
    }
}
