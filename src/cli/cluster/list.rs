//! `callboard cluster list`: the clusters of this machine, the dead ones too.

use std::io::{Write, stdout};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::super::exit::Failure;
use super::facts::{Facts, in_words};
use crate::net::{ClusterName, Home, Life};

/// How to print them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
One whose controller has died is `dead`: `{program} cluster stop NAME` removes what it left, and so does starting it again.

Examples:
  {program} cluster list
  {program} cluster list --json | jq -r 'select(.state == \"running\") | .name'";

/// A cluster in the list.
#[derive(Serialize)]
struct Line {
    name: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    Starting,
    Dead,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Dead => "dead",
        }
    }
}

/// Prints the clusters.
pub(super) fn list(args: &Args) -> Result<(), Failure> {
    let home = Home::find()?;
    let lines: Vec<Line> = home.names()?.iter().filter_map(|name| line(&home, name)).collect();
    let mut out = stdout().lock();
    if args.json {
        for line in lines {
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
    } else if lines.is_empty() {
        writeln!(out, "no clusters in {}", home.path().display())?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["name", "state", "pid", "engines", "address", "up", "version"]);
        table.add_rows(lines.iter().map(Line::cells));
        writeln!(out, "{table}")?;
    }
    Ok(())
}

/// Looks at one; it may be gone by now.
fn line(home: &Home, name: &ClusterName) -> Option<Line> {
    let life = home.life(name);
    let facts = Facts::read(&home.folder(name));
    let (state, pid) = match life {
        Ok(Life::None) => return None,
        Ok(Life::Dead) => (State::Dead, None),
        Ok(Life::Alive(holder)) => {
            let state = if facts.is_some() { State::Running } else { State::Starting };
            (state, u32::try_from(holder.pid).ok())
        }
        Err(error) => {
            tracing::warn!(%error, "cluster {name} cannot be looked at");
            return None;
        }
    };
    Some(Line { name: name.to_string(), state, pid, facts })
}

impl Line {
    fn cells(&self) -> [String; 7] {
        let fact = |of: fn(&Facts) -> String| self.facts.as_ref().map(of).unwrap_or_default();
        let up = if self.state == State::Dead { String::new() } else { fact(|facts| in_words(facts.age())) };
        [
            self.name.clone(),
            self.state.name().into(),
            self.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            fact(|facts| facts.engines.counted(facts.count)),
            fact(|facts| facts.address.clone()),
            up,
            fact(|facts| facts.version.clone()),
        ]
    }
}
