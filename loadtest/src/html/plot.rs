//! Axes, lines and bars as SVG. A plot has a title and a description for those who do not see it.

use super::markup::Markup;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Points of one line that are drawn.
pub(super) const POINTS_MAX: usize = 600;

/// How values lie along an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scale {
    Linear,
    /// Powers of ten.
    Log,
    /// Quantiles by their nines: 0, 0.9, 0.99, ... at equal distances.
    Nines,
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) scale: Scale,
    low: f64,
    high: f64,
}

/// One line of points, drawn in a style of its own and named in the legend.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) style: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Marks besides the line: a disc, or a cross for what did not hold.
    pub(super) marks: Vec<(f64, f64, bool)>,
}

impl Axis {
    /// An axis on which all values have room. Values that its scale does not have are left out.
    pub(super) fn around(
        label: &'static str,
        scale: Scale,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let placed = values.filter_map(|value| place(scale, value));
        let (low, high) = placed.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        let (low, high) = match scale {
            _ if low > high => (0.0, 1.0),
            Scale::Linear => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            Scale::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
            Scale::Nines => (0.0, high.max(1.0)),
        };
        Self { label, scale, low, high }
    }

    /// From 0 at its beginning to 1 at its end.
    fn share(&self, value: f64) -> Option<f64> {
        Some((place(self.scale, value)? - self.low) / (self.high - self.low))
    }

    /// Where lines and labels go: share and text.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        let at = |place: f64| (place - self.low) / span;
        match self.scale {
            Scale::Linear => {
                let step = step(span);
                (0..=20)
                    .map(|n| f64::from(n) * step)
                    .filter(|value| *value <= self.high)
                    .map(|value| (at(value), short(value)))
                    .collect()
            }
            Scale::Log => (-9..=12)
                .map(f64::from)
                .filter(|power| (self.low..=self.high).contains(power))
                .map(|power| (at(power), short(10f64.powf(power))))
                .collect(),
            Scale::Nines => (0..=9u8)
                .filter(|nines| f64::from(*nines) <= self.high)
                .map(|nines| (at(f64::from(nines)), percent(nines)))
                .collect(),
        }
    }
}

/// The place of a value in its scale's own measure.
fn place(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
        Scale::Nines => -(1.0 - value).log10(),
    };
    place.is_finite().then_some(place)
}

/// A round step that gives about five ticks.
fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.into_iter().map(|f| f * power).find(|step| *step >= rough).unwrap_or(power)
}

/// 0, 90, 99, 99.9 % ...
fn percent(nines: u8) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(usize::from(more) - 2)),
    }
}

/// A number in few characters.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        v if v >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a plot is called and how it is told to those who do not see it.
pub(super) struct Caption<'a> {
    pub(super) title: &'a str,
    pub(super) told: &'a str,
}

/// Draws lines with their legend.
pub(super) fn lines(m: &mut Markup, caption: &Caption<'_>, x: &Axis, y: &Axis, lines: &[Line]) {
    frame(m, caption, x, y, |m| {
        for line in lines {
            let drawn: Vec<String> = thinned(&line.points)
                .filter_map(|(px, py)| Some(format!("{:.1},{:.1}", at_x(x, px)?, at_y(y, py)?)))
                .collect();
            let class = format!("line s{}", line.style);
            m.empty("polyline", &[("class", &class), ("points", &drawn.join(" "))]);
            for (px, py, held) in &line.marks {
                if let (Some(cx), Some(cy)) = (at_x(x, *px), at_y(y, *py)) {
                    mark(m, line.style, (cx, cy), *held);
                }
            }
        }
    });
    legend(m, lines);
}

/// Draws bars from the bottom: (from, to, height) along x.
pub(super) fn bars(
    m: &mut Markup,
    caption: &Caption<'_>,
    x: &Axis,
    y: &Axis,
    bars: &[(f64, f64, f64)],
) {
    frame(m, caption, x, y, |m| {
        for (from, to, height) in bars {
            let edges = (at_x(x, *from), at_x(x, *to), at_y(y, *height));
            let (Some(left), Some(right), Some(top)) = edges else { continue };
            let number = |value: f64| format!("{value:.1}");
            let (left, width) = (number(left), number((right - left - 1.0).max(0.5)));
            let (top, tall) = (number(top), number((HEIGHT - BOTTOM - top).max(0.0)));
            m.empty(
                "rect",
                &[
                    ("class", "bar f0"),
                    ("x", &left),
                    ("y", &top),
                    ("width", &width),
                    ("height", &tall),
                ],
            );
        }
    });
}

/// At most [`POINTS_MAX`] of them, the last among them.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(n, _)| n % step == 0 || *n == last).map(|(_, p)| *p)
}

fn at_x(axis: &Axis, value: f64) -> Option<f64> {
    Some(LEFT + axis.share(value)?.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT))
}

fn at_y(axis: &Axis, value: f64) -> Option<f64> {
    Some(HEIGHT - BOTTOM - axis.share(value)?.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM))
}

fn frame(
    m: &mut Markup,
    caption: &Caption<'_>,
    x: &Axis,
    y: &Axis,
    content: impl FnOnce(&mut Markup),
) {
    let (title_id, told_id) = (m.id(), m.id());
    let labelled = format!("{title_id} {told_id}");
    let view_box = format!("0 0 {WIDTH} {HEIGHT}");
    m.open("figure", &[]);
    m.open(
        "svg",
        &[
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("viewBox", &view_box),
            ("role", "img"),
            ("aria-labelledby", &labelled),
        ],
    );
    m.element("title", &[("id", &title_id)], caption.title);
    m.element("desc", &[("id", &told_id)], caption.told);
    let (bottom, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (share, label) in x.ticks() {
        let at = LEFT + share * (end - LEFT);
        rule(m, (at, TOP), (at, bottom));
        label_at(m, (at, bottom + 16.0), "middle", &label);
    }
    for (share, label) in y.ticks() {
        let at = bottom - share * (bottom - TOP);
        rule(m, (LEFT, at), (end, at));
        label_at(m, (LEFT - 6.0, at + 4.0), "end", &label);
    }
    label_at(m, (f64::midpoint(LEFT, end), HEIGHT - 8.0), "middle", x.label);
    let turned = format!("translate(14 {}) rotate(-90)", f64::midpoint(TOP, bottom));
    m.element("text", &[("transform", &turned), ("text-anchor", "middle")], y.label);
    content(m);
    m.close("svg");
    m.element("figcaption", &[], caption.title);
    m.close("figure");
}

fn rule(m: &mut Markup, from: (f64, f64), to: (f64, f64)) {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(|v| format!("{v:.1}"));
    m.empty("line", &[("class", "axis"), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)]);
}

fn label_at(m: &mut Markup, at: (f64, f64), anchor: &str, text: &str) {
    let (x, y) = (format!("{:.1}", at.0), format!("{:.1}", at.1));
    m.element("text", &[("x", &x), ("y", &y), ("text-anchor", anchor)], text);
}

fn mark(m: &mut Markup, style: usize, (x, y): (f64, f64), held: bool) {
    let (class, line) = (format!("f{style}"), format!("line s{style}"));
    if held {
        let (x, y) = (format!("{x:.1}"), format!("{y:.1}"));
        m.empty("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", "4")]);
    } else {
        let d = format!("M{:.1} {:.1}l8 8m0 -8l-8 8", x - 4.0, y - 4.0);
        m.empty("path", &[("class", &line), ("d", &d), ("stroke-dasharray", "none")]);
    }
}

fn legend(m: &mut Markup, lines: &[Line]) {
    m.open("ul", &[("class", "legend")]);
    for line in lines {
        m.open("li", &[]);
        m.open("svg", &[("viewBox", "0 0 36 10"), ("aria-hidden", "true")]);
        let class = format!("line s{}", line.style);
        m.empty("line", &[("class", &class), ("x1", "0"), ("y1", "5"), ("x2", "36"), ("y2", "5")]);
        m.close("svg");
        m.text(&line.name);
        m.close("li");
    }
    m.close("ul");
}
