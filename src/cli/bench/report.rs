//! What was measured: figures become series, series a table for people or lines for programs.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::callboard_itself::Engines;
use super::{Fallible, Test, latency};

/// What one run of one system gave.
#[derive(Debug)]
pub(in crate::cli) struct Figure {
    pub(in crate::cli) system: &'static str,
    pub(in crate::cli) params: Params,
    pub(in crate::cli) value: f64,
    pub(in crate::cli) unit: &'static str,
}

/// What a figure depends on, in the order of writing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct Params(Vec<(&'static str, Param)>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum Param {
    Count(usize),
    Flag(bool),
    Text(&'static str),
}

/// The figures of one system with the same parameters: a line of the report.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Series {
    system: &'static str,
    test: &'static str,
    params: Params,
    /// The median.
    value: f64,
    unit: &'static str,
    runs: Runs,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Runs {
    n: usize,
    median: f64,
    min: f64,
    max: f64,
}

/// Says where this was measured, by which build.
pub(in crate::cli) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    let build = if cfg!(debug_assertions) { ", DEBUG BUILD: its figures mean nothing" } else { "" };
    format!("callboard {version} on {cores} cores, {os} {arch}{build}")
}

/// Puts the figures of each system and its parameters together, in the order in which they first came.
pub(in crate::cli) fn series_of(test: &'static str, figures: Vec<Figure>) -> Vec<Series> {
    let mut groups: Vec<(Figure, Vec<f64>)> = Vec::new();
    for figure in figures {
        let is_same =
            |(first, _): &&mut (Figure, Vec<f64>)| first.system == figure.system && first.params == figure.params;
        match groups.iter_mut().find(is_same) {
            Some((_, values)) => values.push(figure.value),
            None => {
                let values = vec![figure.value];
                groups.push((figure, values));
            }
        }
    }
    let series = |(first, values): (Figure, Vec<f64>)| {
        let runs = Runs::of(values);
        let Figure { system, params, unit, .. } = first;
        Series { system, test, params, value: runs.median, unit, runs }
    };
    groups.into_iter().map(series).collect()
}

/// Prints one object a line.
pub(in crate::cli) fn print_json(series: &[Series], out: &mut impl Write) -> Fallible<()> {
    for line in series {
        writeln!(out, "{}", serde_json::to_string(line)?)?;
    }
    Ok(())
}

/// Prints everything as a table, and what there is to say about it.
pub(super) fn print_table(measured: &[(Test, Vec<Series>)], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["test", "system", "params", "median", "min - max", "ratio"]);
    for (test, series) in measured {
        table.add_rows(series.iter().map(|line| line.cells(test.ratio(series, line))));
    }
    for column in [3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}\n\nratio: callboard's figure divided by the yardstick's.")?;
    measured.iter().filter_map(|(test, series)| test.note(series)).try_for_each(|note| writeln!(out, "\n{note}"))
}

impl Params {
    pub(in crate::cli) fn new() -> Self {
        Self::default()
    }

    pub(in crate::cli) fn with(mut self, name: &'static str, value: impl Into<Param>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    fn get(&self, name: &str) -> Option<Param> {
        self.0.iter().find(|(theirs, _)| *theirs == name).map(|(_, value)| *value)
    }

    /// Returns whether no parameter that both have differs.
    fn agree(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, value)| other.0.iter().all(|(theirs, other)| name != theirs || value == other))
    }
}

impl Runs {
    /// Sums up what the runs gave, at least one.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (n, middle) = (values.len(), values.len() / 2);
        let median = if n.is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Self { n, median, min: values[0], max: values[n - 1] }
    }
}

impl Series {
    /// Returns the median and the least of the runs.
    pub(in crate::cli) fn median_and_min(&self) -> (f64, f64) {
        (self.runs.median, self.runs.min)
    }

    /// Returns the most of the runs.
    pub(in crate::cli) fn max(&self) -> f64 {
        self.runs.max
    }

    fn cells(&self, ratio: Option<f64>) -> [String; 6] {
        let params: Vec<String> =
            self.params.0.iter().map(|(name, value)| format!("{name} {}", value.text())).collect();
        [
            self.test.to_string(),
            self.system.to_string(),
            params.join(", "),
            format!("{} {}", short(self.value), self.unit),
            format!("{} - {}", short(self.runs.min), short(self.runs.max)),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x")),
        ]
    }

    /// Returns the system of callboard's that it is laid beside, if it is a yardstick.
    fn beside(&self) -> Option<Engines> {
        match self.system.split(['_', '-']).next()? {
            "callboard" => None,
            "unix" => Some(Engines::Processes),
            "tcp" => Some(Engines::Tcp),
            _ => Some(Engines::Threads),
        }
    }
}

impl Test {
    /// Returns what stands in the last column: beside a yardstick, callboard's figure divided by its own;
    /// where there is none, how much the figure grew with the number of engines.
    fn ratio(self, series: &[Series], line: &Series) -> Option<f64> {
        if self == Self::SchedulerCost {
            let subsets = line.params.get("subsets");
            let smallest = series.iter().find(|other| other.params.get("subsets") == subsets)?;
            return Some(line.value / smallest.value);
        }
        let ours = line.beside()?.name();
        let ours = series.iter().find(|other| other.system == ours && other.params.agree(&line.params))?;
        Some(ours.value / line.value)
    }

    fn note(self, series: &[Series]) -> Option<String> {
        match self {
            Self::Latency => Some(latency::NOTE.into()),
            Self::NoopThroughput => {
                Some("noop_throughput: spawn_blocking is tokio's default pool, which grows to 512 threads.".into())
            }
            Self::SchedulerCost => {
                let most = series.iter().filter_map(|line| self.ratio(series, line)).fold(f64::NAN, f64::max);
                Some(format!(
                    "scheduler_cost: here the ratio is to the fewest engines with as many subsets; it grows at most {most:.2} x."
                ))
            }
            Self::MapThroughput => Some(
                "map_throughput: rayon and serial make no task of an item, and keep no outcome of it: the loop alone.".into(),
            ),
            Self::ApplyAll => Some(
                "apply_all: engines of one process share what is pushed; rayon is `broadcast`, serial copies the bytes once."
                    .into(),
            ),
            Self::Payload => Some(
                "payload: twice the size by the time of a round trip; unix_bulk and tcp_bulk are streams one way, of pieces of this size.".into(),
            ),
            Self::Norms | Self::QueuedMemory | Self::Idle | Self::Startup | Self::EngineDeath => None,
        }
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Param {
    fn text(self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }
}

impl From<usize> for Param {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Param {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&'static str> for Param {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

/// Writes three digits that count: `1.23 M`, `45.6 k`, `789`, `0.0123`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        _ if value >= 1e6 => (value / 1e6, " M"),
        _ if value >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let before_point = if value > 0.0 { value.log10().floor() as i32 + 1 } else { 1 };
    let decimals = usize::try_from(3 - before_point).unwrap_or(0);
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(system: &'static str, params: Params, value: f64) -> Figure {
        Figure { system, params, value, unit: "us" }
    }

    #[test]
    fn numbers_are_written_with_three_digits_that_count() {
        let check = |value, text| assert_eq!(short(value), text);
        check(1_234_567.0, "1.23 M");
        check(45_600.0, "45.6 k");
        check(7_890.0, "7890");
        check(12.34, "12.3");
        check(0.012_34, "0.0123");
        check(0.0, "0.00");
    }

    #[test]
    fn the_value_is_the_median_of_the_runs_of_one_system() {
        let figures = [3.0, 1.0, 2.0, 10.0].map(|value| figure("a", Params::new().with("engines", 4), value));
        let other = figure("a", Params::new().with("engines", 8), 7.0);
        let series = series_of(Test::Latency.name(), figures.into_iter().chain([other]).collect());
        let summed: Vec<_> = series.iter().map(|s| (s.value, s.runs.n, s.runs.min, s.runs.max)).collect();
        assert_eq!(summed, [(2.5, 4, 1.0, 10.0), (7.0, 1, 7.0, 7.0)]);
    }

    #[test]
    fn a_yardstick_is_compared_with_the_figure_of_the_same_parameters() {
        let ours = |quantile| Params::new().with("engines", 4).with("quantile", quantile);
        let theirs = Params::new().with("pinned", true).with("quantile", "p90");
        let figures = vec![
            figure(Engines::Threads.name(), ours("p50"), 10.0),
            figure(Engines::Threads.name(), ours("p90"), 30.0),
            figure("channel_pingpong", theirs, 20.0),
        ];
        let series = series_of(Test::Latency.name(), figures);
        assert_eq!(Test::Latency.ratio(&series, &series[2]), Some(1.5));
        assert_eq!(Test::Latency.ratio(&series, &series[0]), None);
        let figures =
            [(Engines::Threads.name(), 8.0), (Engines::Tcp.name(), 6.0), ("tcp_bulk", 2.0), ("unix_bulk", 1.0)];
        let figures = figures.map(|(system, value)| figure(system, Params::new(), value));
        let series = series_of(Test::Payload.name(), figures.into());
        let ratios: Vec<_> = series.iter().map(|line| Test::Payload.ratio(&series, line)).collect();
        assert_eq!(ratios, [None, None, Some(3.0), None], "each beside what it is the least of");
    }
}
