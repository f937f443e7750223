//! Charts as SVG.

use std::fmt::Write;

/// Colours of series, told apart in both themes and by most who see few colours (Okabe and Ito).
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6f00", "#777777"];

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 180.0;
/// Room for labels, left and below.
const LEFT: f64 = 44.0;
const BELOW: f64 = 22.0;
const TOP: f64 = 8.0;

/// Points of a curve, and its colour.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Most points that are drawn of a series: neighbours are averaged.
const MOST: usize = 300;

/// Curves over a common axis; nothing where there is no point.
pub(super) fn lines(title: &str, axis: &str, series: &[Series<'_>]) -> String {
    let all = || series.iter().flat_map(|s| s.points.iter().copied());
    if all().next().is_none() {
        return String::new();
    }
    let range = |of: fn((f64, f64)) -> f64| {
        let (low, high) = all()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if high > low { (low, high) } else { (low - 0.5, high + 0.5) }
    };
    let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - 8.0);
    let y = |v: f64| TOP + (y1 - v) / (y1 - y0) * (HEIGHT - TOP - BELOW);
    let mut out = open(title);
    for tick in ticks(y0, y1) {
        let at = y(tick);
        let _ = write!(
            out,
            "<line class=grid x1={LEFT} x2={} y1={at:.1} y2={at:.1} /><text x={} y={:.1} text-anchor=end>{}</text>",
            WIDTH - 8.0,
            LEFT - 4.0,
            at + 3.0,
            short(tick)
        );
    }
    for (value, anchor) in [(x0, "start"), (x1, "end")] {
        let _ = write!(
            out,
            "<text x={:.1} y={} text-anchor={anchor}>{}</text>",
            x(value),
            HEIGHT - 8.0,
            short(value)
        );
    }
    out += &name_of_axis(axis);
    for (i, series) in series.iter().enumerate() {
        let step = series.points.len().div_ceil(MOST).max(1);
        let point = |part: &[(f64, f64)]| {
            let n = part.len() as f64;
            let (a, b) = part.iter().fold((0.0, 0.0), |(a, b), p| (a + p.0, b + p.1));
            format!("{:.1},{:.1}", x(a / n), y(b / n))
        };
        let points: Vec<String> = series.points.chunks(step).map(point).collect();
        let colour = COLOURS[i % COLOURS.len()];
        let _ = write!(
            out,
            "<polyline fill=none stroke={colour} stroke-width=1.5 points=\"{}\"><title>{}</title></polyline>",
            points.join(" "),
            escape(series.name)
        );
    }
    out + "</svg></figure>"
}

/// Bars from 0.
pub(super) fn bars(title: &str, axis: &str, values: &[f64], mark: Option<(f64, &str)>) -> String {
    let most = values.iter().copied().chain(mark.map(|m| m.0)).fold(0.0, f64::max);
    let is_empty = most <= 0.0;
    if is_empty {
        return String::new();
    }
    let mut out = open(title);
    let width = (WIDTH - LEFT - 8.0) / values.len() as f64;
    let y = |v: f64| TOP + (1.0 - v / most) * (HEIGHT - TOP - BELOW);
    for (i, value) in values.iter().enumerate() {
        let (x, top) = (LEFT + i as f64 * width, y(*value));
        let _ = write!(
            out,
            "<rect fill={} x={x:.2} y={top:.1} width={:.2} height={:.1} />",
            COLOURS[0],
            (width * 0.9).max(0.3),
            y(0.0) - top
        );
    }
    for value in [0.0, most] {
        let _ = write!(
            out,
            "<text x={} y={:.1} text-anchor=end>{}</text>",
            LEFT - 4.0,
            y(value) + 4.0,
            short(value)
        );
    }
    if let Some((value, name)) = mark {
        let at = y(value);
        let _ = write!(
            out,
            "<line class=mark x1={LEFT} x2={} y1={at:.1} y2={at:.1} /><text x={} y={:.1} text-anchor=end>{}</text>",
            WIDTH - 8.0,
            WIDTH - 10.0,
            at - 3.0,
            escape(name)
        );
    }
    out += &name_of_axis(axis);
    out + "</svg></figure>"
}

/// The name of the horizontal axis, below its middle.
fn name_of_axis(axis: &str) -> String {
    let (x, y) = ((WIDTH + LEFT) / 2.0, HEIGHT - 8.0);
    format!("<text x={x} y={y} text-anchor=middle>{}</text>", escape(axis))
}

fn open(title: &str) -> String {
    let title = escape(title);
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{title}\">"
    )
}

/// Three to six round values within a range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 4.0;
    let scale = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * scale).find(|s| *s >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|i| i as f64 * step).take_while(|v| *v <= high).collect()
}

/// A number in few characters.
fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => return "0".into(),
        s if !(1e-3..1e5).contains(&s) => format!("{value:.0e}"),
        s if s >= 100.0 => format!("{value:.0}"),
        s if s >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// Text between tags or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(-3.0, 41.0), [0.0, 20.0, 40.0]);
        assert_eq!(
            [short(0.0), short(1234.0), short(1.5), short(0.0125), short(2e-7)],
            ["0", "1234", "1.5", "0.013", "2e-7"]
        );
    }

    #[test]
    fn names_cannot_break_out() {
        let series = [Series { name: "<script>", points: vec![(0.0, 1.0), (1.0, f64::from(2u8))] }];
        let drawn = lines("a \"b\"", "step", &series);
        assert!(!drawn.contains("<script>") && drawn.contains("a &quot;b&quot;"));
        assert_eq!(lines("empty", "step", &[]), "");
        assert_eq!(bars("empty", "", &[], None), "");
    }
}
