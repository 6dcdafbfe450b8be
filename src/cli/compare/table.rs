//! What was measured, as a table: a row for this thread, and one for each executor.

use comfy_table::{CellAlignment, Table, presets};

use super::super::bench::report::Series;

/// Makes the table of the norms, the rates and the latencies. Norms have a row more than the others: this thread.
pub(super) fn of(labels: &[String], [norms, rates, waits]: &[Vec<Series>; 3]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["executor", "best", "median", "ratio", "tasks/s", "latency"]);
    let fastest = norms.iter().skip(1).map(|line| line.median_and_min().1).fold(f64::INFINITY, f64::min);
    for (row, (label, norm)) in labels.iter().zip(norms).enumerate() {
        let (median, best) = norm.median_and_min();
        let small = |series: &[Series], text: fn(f64) -> String| {
            let line = row.checked_sub(1).and_then(|at| series.get(at));
            line.map_or_else(String::new, |line| text(line.median_and_min().0))
        };
        table.add_row([
            label.clone(),
            format!("{best:.1} ms"),
            format!("{median:.1} ms"),
            format!("{:.2} x", best / fastest),
            small(rates, |rate| format!("{rate:.0}")),
            small(waits, |us| format!("{us:.1} us")),
        ]);
    }
    for column in 1..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
