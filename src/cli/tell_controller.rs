//! An engine elsewhere tells its controller what it tells here: so an operator looks at one log.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::error::Error;
use crate::remote::log_uplink;
use crate::wire::protocol::LogLevel;

/// A layer of a program's `tracing` subscriber by which the controller is told what this process tells, of engines that dial.
///
/// `callboard engine` has it. A program of yours that is an engine by [`run_engine`](crate::run_engine) adds it to its own subscriber: callboard
/// installs none. At the controller each event is told by `tracing` again, at its level, with the fields `engine`, `target` and, where a
/// task told it, `task` and `attempt`; within 4 KiB a line and 256 KiB a second, as text without control characters. No task
/// waits for it: what is too much is left out, and the next line says how many were, as `left_out`.
///
/// ```no_run
/// use tracing_subscriber::prelude::*;
///
/// fn main() -> Result<(), callboard::Error> {
///     let here = tracing_subscriber::fmt::layer();
///     let there = callboard::cli::TellController::begin()?;
///     let level = tracing_subscriber::filter::LevelFilter::INFO;
///     tracing_subscriber::registry().with(level).with(here).with(there).init();
///     callboard::run_engine("callboard-engine.json")
/// }
/// ```
#[derive(Debug)]
pub struct TellController(());

impl TellController {
    /// Makes it. What is told before there is a session waits for that, as far as there is room.
    ///
    /// # Errors
    /// [`Error::System`] if there is no thread to be had.
    pub fn begin() -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::System { doing: "starting a thread", reason: error.to_string() };
        log_uplink::begin().map_err(failed)?;
        Ok(Self(()))
    }
}

impl<S: Subscriber> Layer<S> for TellController {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, fields } = text;
        let metadata = event.metadata();
        log_uplink::tell(level(*metadata.level()), metadata.target(), &(message + &fields));
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}

/// An event as text: what is said, and then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes whatever is written.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
