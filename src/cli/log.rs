//! What is told of what happens: on standard error, from a level on, as text or as JSON.
//!
//! The library installs nothing; this is what its command installs. An engine that is a child process tells it on its own
//! standard error, which its parent passes on: so it comes to where the controller's is. One that dials tells its controller.

use std::io::{self, IsTerminal};

use clap::{Args, Parser, ValueEnum};
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;

use super::tell_controller::TellController;
use crate::error::Error;

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
        self.begin_with(if stays { Level::INFO } else { Level::ERROR }, None);
    }

    /// Begins to tell in an engine that dials: here, and to its controller.
    pub(crate) fn begin_in_one_that_dials(&self) -> Result<(), Error> {
        self.begin_with(Level::INFO, Some(TellController::begin()?));
        Ok(())
    }

    fn begin_with(&self, default: Level, controller: Option<TellController>) {
        let level = LevelFilter::from_level(self.level.unwrap_or(default));
        let told = tracing_subscriber::registry().with(level).with(controller);
        let here = layer().with_writer(io::stderr).with_target(false);
        match self.format {
            Format::Text => told.with(here.with_ansi(io::stderr().is_terminal())).init(),
            Format::Json => told.with(here.json().flatten_event(true)).init(),
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
