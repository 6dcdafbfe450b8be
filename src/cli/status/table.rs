//! A report as text for people.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::super::cluster::in_words;
use super::look::Report;

/// Engines that are shown one by one; of more, the busiest.
const ENGINES_MAX: usize = 64;

/// Writes a report, with a line end.
pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    // A string takes whatever is written.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(facts) = &report.cluster {
        let up = in_words(Duration::from_secs(report.up_s.unwrap_or_default()));
        writeln!(
            out,
            "cluster {}: pid {}, at {}, up {up}, callboard {}",
            facts.name, facts.pid, facts.address, facts.version
        )?;
    }
    let Report { pending, queued, settled, settled_per_s, .. } = report;
    let sent = pending.saturating_sub(*queued);
    writeln!(
        out,
        "tasks: {pending} pending ({queued} queued, {sent} sent to engines); {settled} settled, {settled_per_s:.1} a second"
    )?;
    let troubles = [
        (report.late_outcomes, "late outcomes dropped"),
        (report.undeliverable_callbacks, "callbacks undeliverable"),
        (report.panicked_callbacks, "callbacks panicked"),
    ];
    for (count, what) in troubles.into_iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "{count} {what}")?;
    }
    if report.engines.is_empty() {
        return writeln!(out, "no engines");
    }
    write_engines(report, out)
}

fn write_engines(report: &Report, out: &mut String) -> std::fmt::Result {
    let mut engines: Vec<_> = report.engines.iter().collect();
    let all = engines.len();
    if all > ENGINES_MAX {
        engines.sort_by_key(|engine| std::cmp::Reverse((engine.sent as usize + engine.queued, engine.id)));
        engines.truncate(ENGINES_MAX);
        engines.sort_by_key(|engine| engine.id);
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["engine", "is a", "slots", "sent", "queued", "settled", "a second"]);
    table.add_rows(engines.iter().map(|engine| {
        let [id, slots, sent] = [engine.id, engine.slots, engine.sent].map(|n| n.to_string());
        let (queued, settled) = (engine.queued.to_string(), engine.settled.to_string());
        [id, engine.is.into(), slots, sent, queued, settled, format!("{:.1}", engine.settled_per_s)]
    }));
    for column in [0, 2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")?;
    if all > ENGINES_MAX {
        writeln!(out, "the busiest {ENGINES_MAX} of {all} engines; --json shows all")?;
    }
    Ok(())
}
