//! What is drawn: percentiles, rate against latency, second by second, the distribution.

use super::markup::Markup;
use super::plot::{Axis, Caption, Line, Scale, bars, lines, short};
use super::view::{Run, SERIES};

/// One run: all its series. Several: their deliveries, then their acks, over each other.
pub(super) fn percentiles(m: &mut Markup, runs: &[Run]) {
    if let [run] = runs {
        let curves = SERIES.iter().enumerate().filter_map(|(style, (key, name))| {
            let points = run.curve(key);
            (!points.is_empty()).then(|| line((*name).to_owned(), style, points))
        });
        return percentile_plot(m, "Latency by percentile", &curves.collect::<Vec<_>>());
    }
    for (key, name) in SERIES {
        if key == "slip_ms" || key == "first_sight_ms" {
            continue;
        }
        let curves: Vec<Line> = of_each(runs, |run| run.curve(key));
        if !curves.is_empty() {
            percentile_plot(m, &format!("{name} by percentile, each run"), &curves);
        }
    }
}

fn percentile_plot(m: &mut Markup, title: &str, curves: &[Line]) {
    if curves.is_empty() {
        return m.element(
            "p",
            &[("class", "quiet")],
            "No curves: nothing was measured, or the report is of an older version.",
        );
    }
    let points = || curves.iter().flat_map(|line| line.points.iter());
    // The largest sample of all has no nines of its own; it is drawn where the last curve ends.
    let x = Axis::around("percentile", Scale::Nines, points().map(|p| p.0).filter(|q| *q < 1.0));
    let y = Axis::around("milliseconds", Scale::Log, points().map(|p| p.1));
    let told: Vec<String> = curves.iter().map(told_curve).collect();
    let told = told.join(" ");
    lines(m, &Caption { title, told: &told }, &x, &y, curves);
}

fn told_curve(line: &Line) -> String {
    let at = |quantile: f64| {
        let point = line.points.iter().find(|(q, _)| *q >= quantile);
        point.map_or_else(|| "nothing".to_owned(), |(_, ms)| format!("{} ms", short(*ms)))
    };
    format!(
        "{}: median {}, 99 % within {}, 99.9 % within {}.",
        line.name,
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

/// `--find-max`: each rate that was tried.
pub(super) fn steps(m: &mut Markup, runs: &[Run]) {
    let p99: Vec<Line> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| !run.report.steps.is_empty())
        .map(|(style, run)| {
            let mut steps: Vec<_> = run.report.steps.iter().collect();
            steps.sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s));
            let held = steps.iter().filter(|step| step.held);
            Line {
                name: format!("{}: delivery p99 (a cross did not hold)", run.name),
                style,
                points: held.map(|s| (s.offered_per_s, s.delivery_ms.p99)).collect(),
                marks: steps.iter().map(|s| (s.offered_per_s, s.delivery_ms.p99, s.held)).collect(),
            }
        })
        .collect();
    let marks = || p99.iter().flat_map(|line| line.marks.iter());
    let x = Axis::around("messages offered a second", Scale::Linear, marks().map(|p| p.0));
    let y = Axis::around("milliseconds", Scale::Log, marks().map(|p| p.1));
    let most = |run: &Run| {
        let max = run.report.max_sustainable_per_s?;
        Some(format!("{}: {} a second held.", run.name, short(max)))
    };
    let told: Vec<String> = runs.iter().filter_map(most).collect();
    let told = told.join(" ");
    lines(
        m,
        &Caption { title: "Delivery p99 at each rate that was tried", told: &told },
        &x,
        &y,
        &p99,
    );
}

/// Rate, and latency of the main series, in each second.
pub(super) fn seconds(m: &mut Markup, runs: &[Run]) {
    let rates = of_each(runs, |run| points(run, |s| s.count as f64));
    if rates.is_empty() {
        return m.element(
            "p",
            &[("class", "quiet")],
            "No seconds: nothing was measured, or the report is of an older version.",
        );
    }
    timeline(m, "Answers in each second", "a second", Scale::Linear, &rates);
    if let [run] = runs {
        let of = |name: &str, style, value: fn(&crate::latency::Second) -> f64| {
            line(name.to_owned(), style, points(run, value))
        };
        let curves = [of("p50", 0, |s| s.p50), of("p99", 1, |s| s.p99), of("max", 2, |s| s.max)];
        let title = format!("Latency in each second: {}", run.main_series().1);
        return timeline(m, &title, "milliseconds", Scale::Log, &curves);
    }
    let p99 = of_each(runs, |run| points(run, |s| s.p99));
    timeline(m, "p99 in each second, each run", "milliseconds", Scale::Log, &p99);
}

fn points(run: &Run, value: fn(&crate::latency::Second) -> f64) -> Vec<(f64, f64)> {
    run.seconds(run.main_series().0).iter().map(|s| (s.second as f64, value(s))).collect()
}

fn timeline(m: &mut Markup, title: &str, unit: &'static str, scale: Scale, curves: &[Line]) {
    let all = || curves.iter().flat_map(|line| line.points.iter());
    let x = Axis::around("seconds since the measuring began", Scale::Linear, all().map(|p| p.0));
    let y = Axis::around(unit, scale, all().map(|p| p.1));
    let told = |line: &Line| {
        let (low, high) = line
            .points
            .iter()
            .fold((f64::INFINITY, 0f64), |(low, high), (_, v)| (low.min(*v), high.max(*v)));
        let count = line.points.len();
        format!("{}: {count} seconds, from {} to {}.", line.name, short(low), short(high))
    };
    let told: Vec<String> = curves.iter().map(told).collect();
    let told = told.join(" ");
    lines(m, &Caption { title, told: &told }, &x, &y, curves);
}

/// How many samples of the main series lie where; one plot a run.
pub(super) fn distribution(m: &mut Markup, runs: &[Run]) {
    for run in runs {
        let (key, name) = run.main_series();
        let Some(spectrum) = run.report.spectrum.get(key).filter(|s| !s.histogram.is_empty())
        else {
            m.element("p", &[("class", "quiet")], "This report has no distribution.");
            continue;
        };
        let found: Vec<(f64, f64, f64)> =
            spectrum.histogram.iter().map(|[from, to, count]| (*from, *to, *count)).collect();
        let edges = found.iter().flat_map(|(from, to, _)| [*from, *to]);
        let x = Axis::around("milliseconds", Scale::Log, edges);
        let y = Axis::around("samples", Scale::Linear, found.iter().map(|(.., count)| *count));
        let peak = found.iter().max_by(|a, b| a.2.total_cmp(&b.2));
        let told = peak.map_or_else(String::new, |(from, to, _)| {
            format!("Most samples lie between {} and {} ms.", short(*from), short(*to))
        });
        let title = format!("{name} of {}: how many samples lie where", run.name);
        bars(m, &Caption { title: &title, told: &told }, &x, &y, &found);
    }
}

fn of_each(runs: &[Run], points: impl Fn(&Run) -> Vec<(f64, f64)>) -> Vec<Line> {
    let each =
        runs.iter().enumerate().map(|(style, run)| line(run.name.clone(), style, points(run)));
    each.filter(|line| !line.points.is_empty()).collect()
}

fn line(name: String, style: usize, points: Vec<(f64, f64)>) -> Line {
    Line { name, style, points, marks: Vec::new() }
}
