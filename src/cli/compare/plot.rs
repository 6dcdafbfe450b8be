//! The norms as a picture: for each executor a bar to the median, with a line from the best loop to the worst.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text, Title};

use super::super::bench::report::Series;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 190.0;
const FIGURES: f64 = 110.0;
const ROW: f64 = 30.0;
const TOP: f64 = 58.0;

/// Draws it; the text of an SVG file.
pub(super) fn picture(labels: &[String], norms: &[Series], machine: &str) -> String {
    let most = norms.iter().map(Series::max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LABELS + value / most * (WIDTH - LABELS - FIGURES);
    let height = TOP + ROW * norms.len() as f64 + 10.0;
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .add(Title::new("16 norms, milliseconds a loop"))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "white"))
        .add(text(WIDTH / 2.0, 22.0, "middle", "16 norms, milliseconds a loop: median, and from best to worst"))
        .add(text(WIDTH / 2.0, 42.0, "middle", machine).set("font-size", 11).set("fill", "#555"));
    for (row, (label, series)) in labels.iter().zip(norms).enumerate() {
        let ((median, best), middle) = (series.median_and_min(), TOP + ROW * (row as f64 + 0.5));
        let bar = Rectangle::new()
            .set("x", LABELS)
            .set("y", middle - 9.0)
            .set("width", x(median) - LABELS)
            .set("height", 18)
            .set("fill", "#4878a8");
        let range = Line::new()
            .set("x1", x(best))
            .set("x2", x(series.max()))
            .set("y1", middle)
            .set("y2", middle)
            .set("stroke", "black");
        document = document.add(text(LABELS - 8.0, middle + 5.0, "end", label)).add(bar).add(range).add(text(
            x(series.max()) + 6.0,
            middle + 5.0,
            "start",
            &format!("{median:.1} ms"),
        ));
    }
    document.to_string()
}

fn text(x: f64, y: f64, anchor: &str, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y).set("text-anchor", anchor)
}
