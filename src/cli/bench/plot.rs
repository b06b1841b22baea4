//! Plots as SVG: axes, grid, lines. Pure; the page gives them their colours by CSS variables.
//!
//! A point that is not a number, or not positive on a logarithmic axis, breaks its line.

use std::fmt::Write;

/// Size of the drawing in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// Room around the plotted area: left for the labels of y, below for those of x.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// Lines of at most so many points get a dot at each, which tells its value.
const DOTS_MAX: usize = 40;

/// Grid lines of an axis, about.
const TICKS: f64 = 6.0;

/// How values become places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios.
    Logarithmic,
}

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    title: String,
    scale: Scale,
    low: f64,
    high: f64,
    /// Where grid lines are, and what stands there.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `high`, with round numbers.
    pub fn linear(title: &str, high: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let rough = high / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let count = (high / step).ceil();
        let ticks = (0..=count as usize).map(|index| index as f64 * step);
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: count * step,
            ticks: ticks.map(|value| (value, short(value))).collect(),
        }
    }

    /// Logarithmic around all positive ones of `values`, with 1, 2 and 5 of each power of ten, or
    /// only the powers when they are many.
    pub fn logarithmic(title: &str, values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let decades = (high / low).log10();
        let factors: &[f64] = if decades > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = low.log10().floor() as i32;
        let last = high.log10().ceil() as i32;
        let all: Vec<f64> = (first..=last)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
            .collect();
        let from = all.iter().copied().rfind(|tick| *tick <= low).unwrap_or(low);
        let to = all.iter().copied().find(|tick| *tick >= high).unwrap_or(high);
        let to = if to > from { to } else { from * 2.0 };
        let shown = all.into_iter().filter(|tick| (from..=to).contains(tick));
        Self {
            title: title.to_owned(),
            scale: Scale::Logarithmic,
            low: from,
            high: to,
            ticks: shown.map(|tick| (tick, short(tick))).collect(),
        }
    }

    /// Of quantiles up to `highest` by 1/(1-q), logarithmic: each nine is as wide as the last.
    pub fn percentiles(highest: f64) -> Self {
        let high = place_of_quantile(highest).max(10.0);
        let names = [
            (1.0, "0 %"),
            (2.0, "50 %"),
            (10.0, "90 %"),
            (100.0, "99 %"),
            (1e3, "99.9 %"),
            (1e4, "99.99 %"),
            (1e5, "99.999 %"),
            (1e6, "99.9999 %"),
            (1e7, "99.99999 %"),
        ];
        let ticks = names.iter().filter(|(place, _)| *place <= high);
        Self {
            title: "percentile".to_owned(),
            scale: Scale::Logarithmic,
            low: 1.0,
            high,
            ticks: ticks.map(|(place, name)| (*place, (*name).to_owned())).collect(),
        }
    }

    /// Where a value lies between the ends, 0 to 1 within them.
    fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic if value > 0.0 => {
                (value / self.low).ln() / (self.high / self.low).ln()
            }
            Scale::Logarithmic => return None,
        };
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

/// Where a quantile lies on the axis of percentiles: 1/(1-q). 1 has no place: give the largest
/// latency that of the number of latencies.
pub fn place_of_quantile(quantile: f64) -> f64 {
    1.0 / (1.0 - quantile).max(1e-9)
}

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its colour, as CSS has it.
    pub colour: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Plot {
    /// The drawing.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let title = escape(&self.title);
        put(
            &mut svg,
            format_args!(
                "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
            ),
        );
        self.draw_axes(&mut svg);
        for line in &self.lines {
            self.draw_line(line, &mut svg);
        }
        svg += "</svg>\n";
        svg
    }

    fn across(&self, value: f64) -> Option<f64> {
        Some(LEFT + self.x.place(value)? * (WIDTH - LEFT - RIGHT))
    }

    fn down(&self, value: f64) -> Option<f64> {
        Some(HEIGHT - BOTTOM - self.y.place(value)? * (HEIGHT - TOP - BOTTOM))
    }

    fn draw_axes(&self, svg: &mut String) {
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y.ticks {
            let Some(y) = self.down(*value) else { continue };
            let (text_x, text_y) = (LEFT - 8.0, y + 4.0);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                     <text x=\"{text_x}\" y=\"{text_y:.1}\" text-anchor=\"end\">{}</text>\n",
                    escape(label)
                ),
            );
        }
        for (value, label) in &self.x.ticks {
            let Some(x) = self.across(*value) else { continue };
            let text_y = foot + 16.0;
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {TOP}V{foot}\"/>\
                     <text x=\"{x:.1}\" y=\"{text_y}\" text-anchor=\"middle\">{}</text>\n",
                    escape(label)
                ),
            );
        }
        put(svg, format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{foot}H{right}\"/>\n"));
        let (middle, bottom) = (f64::midpoint(LEFT, right), HEIGHT - 6.0);
        let (x_title, y_title) = (escape(&self.x.title), escape(&self.y.title));
        let half = f64::midpoint(TOP, foot);
        put(
            svg,
            format_args!(
                "<text x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\">{x_title}</text>\
                 <text transform=\"translate(12 {half}) rotate(-90)\" text-anchor=\"middle\">\
                 {y_title}</text>\n"
            ),
        );
    }

    fn draw_line(&self, line: &Line, svg: &mut String) {
        let mut path = String::new();
        let mut dots = String::new();
        let mut pen = 'M';
        for (x, y) in &line.points {
            let (Some(across), Some(down)) = (self.across(*x), self.down(*y)) else {
                pen = 'M';
                continue;
            };
            put(&mut path, format_args!("{pen}{across:.1} {down:.1}"));
            pen = 'L';
            if line.points.len() <= DOTS_MAX {
                let told = format!("{}: {} at {}", line.name, short(*y), short(*x));
                put(
                    &mut dots,
                    format_args!(
                        "<circle cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"3\" fill=\"{}\">\
                         <title>{}</title></circle>",
                        line.colour,
                        escape(&told)
                    ),
                );
            }
        }
        let colour = &line.colour;
        put(svg, format_args!("<path class=\"line\" stroke=\"{colour}\" d=\"{path}\"/>{dots}\n"));
    }
}

/// Appends what is formatted; a string takes everything.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

/// A number as short as it is still told apart: 1.5 k, 250, 0.05.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e3 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{scaled:.digits$}");
    if text.contains('.') {
        return format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'));
    }
    format!("{text}{unit}")
}

/// Text as it may stand in XML and HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(x: Axis, y: Axis, points: &[(f64, f64)]) -> String {
        let line = Line { name: "a".into(), colour: "red".into(), points: points.to_vec() };
        Plot { title: "t".into(), x, y, lines: vec![line] }.svg()
    }

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn axes_have_round_numbers_around_the_values() {
        let cases: [(Axis, &[&str]); 6] = [
            (Axis::linear("", 10.0), &["0", "2", "4", "6", "8", "10"]),
            (Axis::linear("", 4_300.0), &["0", "1 k", "2 k", "3 k", "4 k", "5 k"]),
            (Axis::linear("", 0.0), &["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (Axis::linear("", f64::NAN), &["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (
                Axis::logarithmic("", [110.0, 0.0, 4_000.0, f64::INFINITY].into_iter()),
                &["100", "200", "500", "1 k", "2 k", "5 k"],
            ),
            (Axis::logarithmic("", [0.0].into_iter()), &["1", "2", "5", "10"]),
        ];
        for (axis, expected) in cases {
            assert_eq!(labels(&axis), expected);
        }
        let wide = Axis::logarithmic("", [1.0, 3e6].into_iter());
        assert_eq!(labels(&wide).len(), 8, "powers of ten only: {:?}", labels(&wide));
        let nines = Axis::percentiles(0.9999);
        assert_eq!(labels(&nines), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let x = Axis::linear("", 10.0);
        let y = Axis::logarithmic("", [1.0, 100.0].into_iter());
        let svg = plot(x, y, &[(0.0, 1.0), (5.0, 10.0), (10.0, 100.0)]);
        let (foot, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let (middle, half) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, foot));
        let path = format!("M{LEFT:.1} {foot:.1}L{middle:.1} {half:.1}L{right:.1} {TOP:.1}");
        assert!(svg.contains(&path), "{svg}");
    }

    #[test]
    fn what_has_no_place_breaks_the_line_and_nothing_else() {
        let y = Axis::logarithmic("", [1.0, 100.0].into_iter());
        let points = [(0.0, 1.0), (1.0, 0.0), (2.0, f64::NAN), (3.0, 10.0), (4.0, 1e9)];
        let svg = plot(Axis::linear("", 4.0), y, &points);
        assert_eq!(svg.matches('M').count(), svg.matches("class=\"grid\"").count() + 1 + 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn text_can_not_end_the_drawing() {
        let line = Line { name: "<b>".into(), colour: "red".into(), points: vec![(1.0, 1.0)] };
        let axis = Axis::linear("\"&", 1.0);
        let plot = Plot { title: "</svg>".into(), x: axis.clone(), y: axis, lines: vec![line] };
        let svg = plot.svg();
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert!(svg.contains("&lt;b&gt;") && svg.contains("&quot;&amp;"));
    }
}
